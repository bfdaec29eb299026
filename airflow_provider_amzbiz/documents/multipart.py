"""Writing a large S3 object in parts, through smart-open: whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from isal import isal_zlib

from airflow_provider_amzbiz.documents.digest import Digest, to_base64
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.interrupts import despite_interrupts
from airflow_provider_amzbiz.documents.part_buffer import PartBuffer
from airflow_provider_amzbiz.documents.rollback import Rollback
from airflow_provider_amzbiz.documents.s3_errors import is_missing, require_header
from airflow_provider_amzbiz.documents.s3_object import ObjectExists, S3Object
from airflow_provider_amzbiz.documents.s3_verification import (
    check_etag,
    check_size,
    object_exists,
    verify_same_content,
)
from airflow_provider_amzbiz.documents.streams import CHUNK, Readable
from airflow_provider_amzbiz.documents.upload_creation import UploadCreation, abort_or_warn

# Parts that are sent at the same time.
SENDERS = 6
_SMART_OPEN_LOG = logging.getLogger("smart_open.s3")


def write_parts(
    first: list[bytearray],
    content: Readable,
    s3_object: S3Object,
    digest: Digest,
    size_of_part: int,
    rollback: Rollback,
) -> None:
    """Write an object of at least one whole part.

    :param first: holds the first part, which has been read and counted; it is taken out, to free its memory.
    :raises DocumentStorageError: S3 did not store it; no upload is left open.
    :raises ObjectExists: there is one, and it is not to be replaced.
    """
    import smart_open.s3 as smart_open_s3

    upload = _MultipartUpload(s3_object, digest, rollback)
    transport: dict[str, Any] = {
        "client": upload,
        "multipart_upload": True,
        "min_part_size": size_of_part,
        "writebuffer": PartBuffer(size_of_part, SENDERS),
    }
    with _without_line_per_part(), upload:
        # Not by URI, because smart-open would read a question mark in a key as a query.
        writer: Any = smart_open_s3.open(s3_object.target.bucket, s3_object.key, "wb", **transport)
        try:
            writer.write(first.pop())
            _copy(content, writer, digest)
            writer.close()
        except BaseException:
            # Not left to garbage collection, which would complete the upload of half a document.
            writer.terminate()
            raise


class _MultipartUpload:
    """Takes the place of smart-open's boto3 client, and adds what smart-open cannot do.

    Parts are sent concurrently, while smart-open would wait for each. The checksum of the whole object, which is
    known only at the end, is sent with the request that completes it, so that S3 verifies and keeps it. Leaving
    the context aborts an upload that was not completed.
    """

    def __init__(self, s3_object: S3Object, digest: Digest, rollback: Rollback) -> None:
        self._object = s3_object
        self._digest = digest
        self._rollback = rollback
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="amzbiz-part")
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="amzbiz-sha256")
        self._parts: list[Future[_Part]] = []
        self._creation = UploadCreation(s3_object)

    def __enter__(self) -> _MultipartUpload:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.abort_multipart_upload()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._hashing.shutdown(wait=False, cancel_futures=True)

    def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        return {"UploadId": self._creation.create()}

    def upload_part(self, *, Body: PartBuffer, PartNumber: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        for part in self._parts:
            if part.done():
                # A part that failed ends the upload now, not after the rest of the document.
                part.result()
        content = Body.content()
        hashed = self._hashing.submit(self._digest.update_sha256_and_rows, content)
        part = self._pool.submit(self._send, content, PartNumber, hashed)
        part.add_done_callback(lambda _: Body.release(content))
        self._parts.append(part)
        Body.next_block()
        return {"ETag": "known when it is sent"}

    def complete_multipart_upload(self, **_: Any) -> None:
        s3_object, parts = self._object, [part.result() for part in self._parts]
        if not s3_object.target.options.replace and object_exists(s3_object):
            # Checked again long after the first time, for a server that ignores the condition.
            raise ObjectExists
        etag: str | None = None
        try:
            # S3 sends the status before it has completed the object. A response that was cut proves nothing, so
            # the request is repeated.
            etag = self._complete(parts) or self._complete(parts, again=True)
        except DocumentStorageError as error:
            # A repeated request finds no upload if the first one completed it, and its response was lost.
            if error.code != "NoSuchUpload" or not self._is_stored(error):
                raise
        else:
            require_header(etag, s3_object.target.bucket, s3_object.key)
        if self._creation.upload:
            s3_object.target.uploads.remove(self._creation.upload)
        self._creation.upload = None
        if not s3_object.keeps_checksums:
            self._verify(parts, etag)

    def abort_multipart_upload(self, **_: Any) -> None:
        """Abort the upload when no part is in progress any more: one that arrived later would stay forever."""
        if self._creation.upload:
            despite_interrupts(self._abort)
            self._creation.upload = None

    def _complete(self, parts: list[_Part], *, again: bool = False) -> str | None:
        s3_object = self._object
        checksum = s3_object.checksum(ChecksumCRC32=self._digest.crc32, ChecksumType="FULL_OBJECT")
        try:
            return s3_object.write(
                lambda: s3_object.s3.complete_multipart_upload(
                    **s3_object.location,
                    UploadId=self._creation.upload_id,
                    MultipartUpload={"Parts": [part.described for part in parts]},
                    **checksum,
                    **s3_object.per_request_args,
                    **s3_object.condition,
                )
            ).get("ETag")
        except ObjectExists as found:
            # The first request has completed it, in all likelihood.
            raise ObjectExists(found.ours or again) from None

    def _verify(self, parts: list[_Part], etag: str | None) -> None:
        """Check the object on a server that keeps no checksum to check it by."""
        if etag is not None and all(part.md5 for part in parts):
            whole = hashlib.md5(b"".join(part.md5 or b"" for part in parts), usedforsecurity=False).hexdigest()
            if etag.strip('"') == f"{whole}-{len(parts)}":
                return
        self._rollback.unverified(self._object)
        check_size(self._object, self._digest.count)
        self._rollback.verified(self._object)

    def _abort(self) -> None:
        for part in self._parts:
            part.cancel()
        # Not for the threads of the pool: an exception that interrupts a wait for those leaves them in disorder.
        wait(self._parts)
        if self._creation.upload:
            abort_or_warn(self._object, self._creation.upload)

    def _is_stored(self, unknown: DocumentStorageError) -> bool:
        try:
            verify_same_content(self._object, self._digest)
        except DocumentStorageError as error:
            if not is_missing(error):
                # Such as a policy that denies reading: what became of the upload is not known.
                raise unknown from error
            return False
        except DocumentExistsError:
            return False
        return True

    def _send(self, body: bytearray, number: int, hashed: Future[None]) -> _Part:
        s3_object = self._object
        # Computed here: botocore would cut the body into chunks, copying each, to append its own.
        checksum: dict[str, Any] = (
            {"ChecksumCRC32": to_base64(isal_zlib.crc32(body))} if s3_object.keeps_checksums else {}
        )
        response = s3_object.send(
            lambda: s3_object.s3.upload_part(
                **s3_object.location,
                UploadId=self._creation.upload_id,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # botocore accepts more than the stubs say
                **checksum,
                **s3_object.per_request_args,
            )
        )
        etag = require_header(response.get("ETag"), s3_object.target.bucket, s3_object.key)
        md5 = None if s3_object.keeps_checksums else check_etag(response, body, s3_object)
        # The block is reused after this.
        hashed.result()
        # Servers that only speak S3 may keep no checksums, and then return none and accept none.
        kept = {"ChecksumCRC32": response["ChecksumCRC32"]} if "ChecksumCRC32" in response else {}
        return _Part({"PartNumber": number, "ETag": etag, **kept}, md5)


class _Part(NamedTuple):
    """A part that S3 has stored.

    :ivar described: as the request that completes the upload lists it.
    :ivar md5: of the part, if the ETag was compared with it.
    """

    described: Any
    md5: bytes | None


@contextlib.contextmanager
def _without_line_per_part() -> Iterator[None]:
    """Silence smart-open's log line for each part of this thread, of which there may be thousands."""
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.INFO

    _SMART_OPEN_LOG.addFilter(keep)
    try:
        yield
    finally:
        _SMART_OPEN_LOG.removeFilter(keep)


def _copy(content: Readable, writer: Any, digest: Digest) -> None:
    buffer = memoryview(bytearray(CHUNK))
    while count := content.readinto(buffer):
        digest.update_crc32(buffer[:count])
        writer.write(buffer[:count])
