"""Writing a large S3 object in parts, through smart-open: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from isal import isal_zlib

from airflow_provider_amzbiz.documents.digest import Digest, to_base64
from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.interrupts import despite_interrupts
from airflow_provider_amzbiz.documents.open_uploads import OpenUpload, OpenUploads
from airflow_provider_amzbiz.documents.part_buffer import PartBuffer
from airflow_provider_amzbiz.documents.s3_object import ObjectExists, S3Object
from airflow_provider_amzbiz.documents.s3_objects import (
    TakeBack,
    check_etag,
    per_request_args,
    require_header,
    storage_errors,
)
from airflow_provider_amzbiz.documents.unwrap import CHUNK, Readable
from airflow_provider_amzbiz.documents.upload_creation import Creations

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SENDERS = 6
_SMART_OPEN_LOG = logging.getLogger("smart_open.s3")


def write_parts(
    first: list[bytearray],
    content: Readable,
    there: S3Object,
    digest: Digest,
    size_of_part: int,
    take_back: TakeBack,
    uploads: OpenUploads,
    log: Log,
) -> None:
    """Write an object of at least one whole part.

    :param first: holds the first part, which has been read and counted; it is taken out, so that nobody keeps it.
    :raises DocumentStorageError: S3 did not take it; there is no open upload then.
    :raises ObjectExists: there is one, and it is not to be replaced.
    """
    import smart_open.s3 as smart_open_s3

    upload = _Upload(there, digest, take_back, uploads, log)
    transport: dict[str, Any] = {
        "client": upload,
        "multipart_upload": True,
        "min_part_size": size_of_part,
        "writebuffer": PartBuffer(size_of_part, SENDERS),
    }
    with upload:
        # Not by URI, because smart-open takes a question mark in a key for a query.
        writer: Any = smart_open_s3.open(there.bucket, there.key, "wb", **transport)
        try:
            writer.write(first.pop())
            _copy(content, writer, digest)
            writer.close()
        except BaseException:
            # Not left to garbage collection, which would complete the upload of half a document.
            writer.terminate()
            raise


def abort_uploads(s3: S3Client, uploads: OpenUploads, arguments: Mapping[str, Any], log: Log) -> None:
    """Abort what an earlier attempt of the task has left open."""
    for upload in uploads.left():
        try:
            _abort(s3, upload, arguments)
        except DocumentStorageError as error:
            log.warning("The upload %s to s3://%s/%s stays open: %s", upload[2], *upload[:2], error)
        else:
            log.info("Aborted the upload to s3://%s/%s that a previous attempt left open", *upload[:2])
            uploads.closed(upload)


def _abort(s3: S3Client, upload: OpenUpload, arguments: Mapping[str, Any]) -> None:
    try:
        with storage_errors(upload.bucket, upload.key):
            s3.abort_multipart_upload(
                Bucket=upload.bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                **per_request_args(arguments, content=False),
            )
    except DocumentStorageError as error:
        # One that is unknown is ended.
        if error.code != "NoSuchUpload":
            raise


class _Upload:
    """Stands where smart-open expects a boto3 client, and adds what smart-open cannot do.

    Parts are sent side by side, while smart-open would wait for each. The checksum of the whole object, which is
    known only at the end, goes out with the request that completes it, so that S3 verifies and keeps it. Leaving
    the context aborts an upload that was not completed.
    """

    def __init__(
        self, there: S3Object, digest: Digest, take_back: TakeBack, uploads: OpenUploads, log: Log
    ) -> None:
        self._there = there
        self._s3 = there.s3
        self._digest = digest
        self._take_back = take_back
        self._uploads = uploads
        self._log = log
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="amzbiz-part")
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="amzbiz-sha256")
        self._parts: list[Future[_Part]] = []
        self._upload_id: str | None = None
        # Why open uploads could not be listed.
        self._unlisted: DocumentStorageError | None = None

    def __enter__(self) -> _Upload:
        self._thread = threading.get_ident()
        _SMART_OPEN_LOG.addFilter(self._tells_a_user)
        return self

    def __exit__(self, *_: object) -> None:
        _SMART_OPEN_LOG.removeFilter(self._tells_a_user)
        try:
            self.abort_multipart_upload()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._hashing.shutdown(wait=False, cancel_futures=True)

    def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        there = self._there
        checksum = there.checksum(ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        before = self._open_uploads()
        creations = Creations(self._s3)
        try:
            with creations:
                created = there.send(
                    lambda: self._s3.create_multipart_upload(**there.target, **checksum, **there.arguments)
                )
        except BaseException:
            despite_interrupts(lambda: self._abort_surplus(creations, before))
            raise
        self._upload_id = created.get("UploadId")
        if self._upload_id:
            self._uploads.opened(self._open_upload)
        self._abort_surplus(creations, before)
        return {"UploadId": require_header(self._upload_id, **there.names)}

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
        there, parts = self._there, [part.result() for part in self._parts]
        if not there.replace and there.exists():
            # A long time after the first look, for a server that ignores the condition.
            raise ObjectExists
        etag: str | None = None
        try:
            # S3 answers before it has completed the object: an answer that was cut tells nothing, so it is asked
            # again.
            etag = self._complete(parts) or self._complete_again(parts)
        except DocumentStorageError as error:
            # It was completed, and the answer was lost, where it was asked again.
            if error.code != "NoSuchUpload" or not self._is_there(error):
                raise
        else:
            require_header(etag, **there.names)
        self._uploads.closed(self._open_upload)
        self._upload_id = None
        if not there.keeps_checksums:
            self._verify(parts, etag)

    def _complete_again(self, parts: list[_Part]) -> str | None:
        try:
            return self._complete(parts)
        except ObjectExists:
            # It was completed at first, in all likelihood.
            raise ObjectExists(ours=True) from None

    def _complete(self, parts: list[_Part]) -> str | None:
        there = self._there
        checksum = there.checksum(ChecksumCRC32=self._digest.crc32, ChecksumType="FULL_OBJECT")
        return there.write(
            lambda: self._s3.complete_multipart_upload(
                **there.target,
                UploadId=self._upload_id or "",
                MultipartUpload={"Parts": [part.described for part in parts]},
                **checksum,
                **there.per_request_args,
                **there.condition,
            )
        ).get("ETag")

    def _verify(self, parts: list[_Part], etag: str | None) -> None:
        """Check what a server has made of the parts that keeps no checksum to check it by."""
        if etag is not None and all(part.md5 for part in parts):
            whole = hashlib.md5(b"".join(part.md5 or b"" for part in parts), usedforsecurity=False).hexdigest()
            if etag.strip('"') == f"{whole}-{len(parts)}":
                return
        self._take_back.unverified(self._there.key)
        self._there.check_size(self._digest.count)
        self._take_back.verified(self._there.key)

    def abort_multipart_upload(self, **_: Any) -> None:
        """End the upload, once no part is on its way any more: one that arrived later would stay for ever."""
        if self._upload_id:
            despite_interrupts(self._abort)
            self._upload_id = None

    def _abort(self) -> None:
        for part in self._parts:
            part.cancel()
        # Not for the threads of the pool: an exception that breaks off a wait for those leaves them in disorder.
        wait(self._parts)
        self._abort_one(self._upload_id or "")

    @property
    def _open_upload(self) -> OpenUpload:
        return OpenUpload(self._there.bucket, self._there.key, self._upload_id or "")

    def _tells_a_user(self, record: logging.LogRecord) -> bool:
        # smart-open has a line for each part, of which there may be thousands.
        return record.thread != self._thread or record.levelno > logging.INFO

    def _is_there(self, unknown: DocumentStorageError) -> bool:
        try:
            self._there.verify_same_content(self._digest)
        except DocumentStorageError as error:
            if error.code not in ("404", "NoSuchKey"):
                # Such as a policy that lets nobody look: what became of the upload is not known.
                raise unknown from error
            return False
        except DocumentExistsError:
            return False
        return True

    def _open_uploads(self) -> set[str] | None:
        """Return the ids of all open uploads to the key, whoever's; None where S3 does not tell."""
        there = self._there
        try:
            with storage_errors(**there.target):
                pages = self._s3.get_paginator("list_multipart_uploads").paginate(
                    Bucket=there.bucket, Prefix=there.key, **there.args_without_content
                )
                found = [each for page in pages for each in page.get("Uploads", [])]
        except DocumentStorageError as error:
            self._unlisted = error
            return None
        return {each["UploadId"] for each in found if each["Key"] == there.key}

    def _abort_surplus(self, creations: Creations, before: set[str] | None) -> None:
        """Abort what was begun beside our upload: where botocore asked again, and where a response was lost.

        :param before: ids of the uploads that were open before.
        """
        for upload_id in creations.upload_ids - {self._upload_id}:
            self._abort_one(upload_id)
        if not creations.lost:
            return
        after = None if before is None else self._open_uploads()
        if before is None or after is None:
            reason: object = self._unlisted
        else:
            lost = after - before - creations.upload_ids
            if len(lost) <= creations.lost:
                for upload_id in lost:
                    self._abort_one(upload_id)
                return
            reason = "another task has begun one at the same time"
        self._log.warning(
            "An upload to %s may stay open, because S3's response to its creation was lost: %s",
            self._there.uri, reason,
        )  # fmt: skip

    def _abort_one(self, upload_id: str) -> None:
        upload = self._open_upload._replace(upload_id=upload_id)
        try:
            _abort(self._s3, upload, self._there.extra_args)
        except DocumentStorageError as error:
            # Not raised: it would hide why the upload has to be aborted, or end one that can be completed.
            self._log.warning("The upload %s to %s could not be aborted: %s", upload_id, self._there.uri, error)
        else:
            self._uploads.closed(upload)

    def _send(self, body: bytearray, number: int, hashed: Future[None]) -> _Part:
        there = self._there
        # Told beforehand: botocore would cut the body into chunks, copying each, to append its own.
        checksum: dict[str, Any] = (
            {"ChecksumCRC32": to_base64(isal_zlib.crc32(body))} if there.keeps_checksums else {}
        )
        sent = there.send(
            lambda: self._s3.upload_part(
                **there.target,
                UploadId=self._upload_id or "",
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # the stubs miss what botocore takes
                **checksum,
                **there.per_request_args,
            )
        )
        etag = require_header(sent.get("ETag"), **there.names)
        md5 = None if there.keeps_checksums else check_etag(sent, body, **there.names)
        # The block is used again after this.
        hashed.result()
        # Servers that speak S3 and keep no checksums tell none, and want none.
        kept = {"ChecksumCRC32": sent["ChecksumCRC32"]} if "ChecksumCRC32" in sent else {}
        return _Part({"PartNumber": number, "ETag": etag, **kept}, md5)


class _Part(NamedTuple):
    """A part that S3 has taken.

    :ivar described: as S3 wants it told at the end.
    :ivar md5: where it was checked by that, the part's own.
    """

    described: Any
    md5: bytes | None


def _copy(content: Readable, writer: Any, digest: Digest) -> None:
    buffer = memoryview(bytearray(CHUNK))
    while count := content.readinto(buffer):
        digest.update_crc32(buffer[:count])
        writer.write(buffer[:count])
