"""Writing one S3 object through smart-open: whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from airflow_provider_amzbiz.documents.digest import Digest, to_base64
from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.objects import (
    answered,
    check_same,
    repeated,
    size_and_crc32,
    storage_errors,
)
from airflow_provider_amzbiz.documents.unwrap import CHUNK, Readable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# S3 takes 10,000 parts at most. A document starts with small parts, for little memory, unless it is known to be
# so large that they would not do.
PART_SIZE = 7 * 1024**2
_MOST_PARTS = 9000
# How many times a gzip of text may grow, to choose the part size by.
_GROWTH = 20
_SENDERS = 6
# Bytes that go out with the headers, although S3 may refuse them: so many fit the buffers of a connection.
_AT_ONCE = 64 * 1024
_CHECKSUM_HEADER = "x-amz-checksum-crc32"
_SMART_OPEN_LOG = logging.getLogger("smart_open.s3")


@dataclass(frozen=True)
class StoredObject:
    """An object as it lies in S3.

    :ivar bytes: size of the decoded content.
    :ivar sha256: hex, or None where it was not asked for.
    :ivar crc32: base64, as S3 keeps it for the whole object.
    :ivar rows: lines of text, None where they were not asked for; not part of the dict.
    """

    uri: str
    bytes: int
    sha256: str | None
    crc32: str
    content_type: str
    rows: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def part_size(raw_length: int | None, max_bytes: int) -> int:
    """Return the size of the upload's parts in bytes.

    :param raw_length: bytes of the compressed document, if known.
    :param max_bytes: above which the decoded one is refused.
    """
    most = max_bytes if raw_length is None else min(max_bytes, raw_length * _GROWTH)
    return max(PART_SIZE, -(-most // _MOST_PARTS))


def store(
    content: Readable,
    *,
    s3: S3Client,
    bucket: str,
    key: str,
    content_type: str,
    size_of_part: int,
    replace: bool,
    sha256: bool,
    rows: bool,
    extra_args: Mapping[str, Any],
    abort_earlier: bool,
    log: Log,
) -> tuple[StoredObject, bool]:
    """Write an object. What fits one part goes as one PutObject, everything else as a multipart upload.

    :param abort_earlier: whether open uploads to this very key are what a killed process left, and are aborted.
    :return: the object, and whether it was written now; it may have been there, the same, and not to be replaced.
    :raises DocumentStorageError: S3 did not take it; there is no open upload then.
    :raises DocumentExistsError: there is other content under the key, and ``replace`` is False.
    """
    import smart_open.s3 as smart_open_s3

    digest = Digest(sha256, rows)
    parts = _PartBuffer(size_of_part)
    first = _read_part(content, size_of_part, digest)
    arguments = {**extra_args, "ContentType": content_type}
    condition = {} if replace else {"IfNoneMatch": "*"}
    upload = _Upload(s3, bucket, key, digest, arguments, condition, abort_earlier, log)
    whole = len(first) < size_of_part
    transport: dict[str, Any] = {
        "client": upload,
        "multipart_upload": not whole,
        "min_part_size": size_of_part,
        "writebuffer": parts,
    }
    try:
        with upload:
            # Not by URI, because smart-open takes a question mark in a key for a query.
            writer: Any = smart_open_s3.open(bucket, key, "wb", **transport)
            try:
                writer.write(first)
                del first
                if not whole:
                    _copy(content, writer, digest)
                writer.close()
            except BaseException:
                # Not left to garbage collection, which would complete the upload of half a document.
                writer.terminate()
                raise
        written = True
    except _ObjectExists:
        check_same(s3, bucket, key, digest, extra_args)
        written = False
    uri = f"s3://{bucket}/{key}"
    stored = StoredObject(uri, digest.count, digest.sha256, digest.crc32, content_type, digest.rows)
    return stored, written


class _ObjectExists(Exception):  # noqa: N818
    """S3 refused the write because of ``IfNoneMatch``."""


class _PartBuffer(io.RawIOBase):
    """What smart-open gathers a part in: one block fills while each sender sends one, and all are used again.

    New buffers for every part would leave the heap in holes, at twice the memory and more.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._size = size
        self._unmade = _SENDERS
        self._block = bytearray(size)
        self._filled = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Do nothing: smart-open rewinds for a client that reads, and ours takes the block."""
        return self._filled

    def tell(self) -> int:
        return self._filled

    def truncate(self, size: int | None = None) -> int:
        self._filled = size or 0
        return self._filled

    def write(self, chunk: Any) -> int:
        end = self._filled + len(chunk)
        self._block[self._filled : end] = chunk
        self._filled = end
        return len(chunk)

    def content(self) -> bytearray:
        """Return the block that was filled, as long as it is filled; no copy."""
        del self._block[self._filled :]
        return self._block

    def next_block(self) -> None:
        """Take a block that nobody sends from; wait for one if need be."""
        if self._unmade:
            self._unmade -= 1
            self._block = bytearray(self._size)
        else:
            self._block = self._free.get()

    def release(self, block: bytearray) -> None:
        """Take a block back that has been sent."""
        self._free.put(block)


class _Upload:
    """Stands where smart-open expects a boto3 client, and adds what smart-open cannot do.

    Parts are sent side by side, while smart-open would wait for each. The checksum of the whole object, which is
    known only at the end, goes out with the request that completes it, so that S3 verifies and keeps it. Leaving
    the context aborts an upload that was not completed.
    """

    def __init__(
        self,
        s3: S3Client,
        bucket: str,
        key: str,
        digest: Digest,
        arguments: Mapping[str, Any],
        condition: Mapping[str, Any],
        abort_earlier: bool,
        log: Log,
    ) -> None:
        self._abort_earlier = abort_earlier
        self._log = log
        self._s3 = s3
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._of_no_content = repeated(arguments, content=False)
        self._digest = digest
        self._arguments = arguments
        self._repeated = repeated(arguments)
        self._condition = condition
        self._pool = ThreadPoolExecutor(_SENDERS, thread_name_prefix="amzbiz-part")
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="amzbiz-sha256")
        self._parts: list[Future[dict[str, Any]]] = []
        self._upload_id: str | None = None

    def __enter__(self) -> _Upload:
        self._thread = threading.get_ident()
        # After botocore's own handler of this event, which sets what this one takes away.
        self._s3.meta.events.register_last("before-call.s3", _adapt_request, unique_id=__name__)
        _SMART_OPEN_LOG.addFilter(self._tells_a_user)
        return self

    def __exit__(self, *_: object) -> None:
        _SMART_OPEN_LOG.removeFilter(self._tells_a_user)
        try:
            if self._upload_id:
                self.abort_multipart_upload()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._hashing.shutdown(wait=False, cancel_futures=True)

    def put_object(self, *, Body: _PartBuffer, **_: Any) -> None:  # noqa: N803
        content = Body.content()
        self._digest.hash(content)
        with self._storage_errors():
            self._s3.put_object(
                **self._target,
                Body=bytes(content),
                ChecksumCRC32=self._digest.crc32,
                **self._arguments,
                **self._condition,
            )

    def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        try:
            with self._storage_errors():
                created = self._s3.create_multipart_upload(
                    **self._target, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT", **self._arguments
                )
        except BaseException as error:
            if not isinstance(error, DocumentStorageError) or error.unanswered:
                _surely(self._abort_others)
            raise
        self._upload_id = created.get("UploadId")
        # Where botocore asked again, or the answer was cut, there is an upload that nobody knows of.
        if self._abort_earlier or created["ResponseMetadata"].get("RetryAttempts") or not self._upload_id:
            self._abort_others()
        return {"UploadId": answered(self._upload_id, **self._names)}

    def upload_part(self, *, Body: _PartBuffer, PartNumber: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        for part in self._parts:
            if part.done():
                # A part that failed ends the upload now, not after the rest of the document.
                part.result()
        content = Body.content()
        hashed = self._hashing.submit(self._digest.hash, content)
        part = self._pool.submit(self._send, content, PartNumber, hashed)
        part.add_done_callback(lambda _: Body.release(content))
        self._parts.append(part)
        Body.next_block()
        return {"ETag": "known when it is sent"}

    def complete_multipart_upload(self, **_: Any) -> None:
        parts = [part.result() for part in self._parts]
        try:
            # S3 answers before it has completed the object: an answer that was cut tells nothing, so it is asked
            # again.
            etag = self._complete(parts) or self._complete(parts)
        except DocumentStorageError as error:
            # It was completed, and the answer was lost, where it was asked again.
            if error.code != "NoSuchUpload" or not self._is_there():
                raise
        else:
            answered(etag, **self._names)
        self._upload_id = None

    def _complete(self, parts: list[dict[str, Any]]) -> str | None:
        with self._storage_errors():
            return self._s3.complete_multipart_upload(
                **self._target,
                UploadId=self._upload_id or "",
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                ChecksumCRC32=self._digest.crc32,
                ChecksumType="FULL_OBJECT",
                **self._repeated,
                **self._condition,
            ).get("ETag")

    def abort_multipart_upload(self, **_: Any) -> None:
        """End the upload, once no part is on its way any more: one that arrived later would stay for ever."""
        if self._upload_id:
            _surely(self._abort)
            self._upload_id = None

    def _abort(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        for part in self._parts:
            part.cancel()
        # Not for the threads of the pool: an exception that breaks off a wait for those leaves them in disorder.
        wait(self._parts)
        upload_id = self._upload_id or ""
        try:
            self._s3.abort_multipart_upload(**self._target, UploadId=upload_id, **self._of_no_content)
        except (BotoCoreError, ClientError) as error:
            # Not raised: it would hide why the upload has to be aborted. One that is unknown is ended.
            if not isinstance(error, ClientError) or error.response["Error"].get("Code") != "NoSuchUpload":
                self._log.warning("The upload %s to %s could not be aborted: %s", upload_id, self._target, error)

    @property
    def _names(self) -> dict[str, str]:
        return {"bucket": self._target["Bucket"], "key": self._target["Key"]}

    def _tells_a_user(self, record: logging.LogRecord) -> bool:
        # smart-open has a line for each part, of which there may be thousands.
        return record.thread != self._thread or record.levelno > logging.INFO

    def _is_there(self) -> bool:
        try:
            there = size_and_crc32(self._s3, **self._names, digest=self._digest, arguments=self._arguments)
        except DocumentStorageError as error:
            if error.code != "404":
                raise
            return False
        return there == (self._digest.count, self._digest.crc32)

    def _abort_others(self) -> None:
        """Abort all uploads to the key but ours, such as that of a process that was killed, which nobody sees."""
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, key = self._target["Bucket"], self._target["Key"]
        try:
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Prefix=key, **self._of_no_content
            )
            for upload in (each for page in pages for each in page.get("Uploads", [])):
                if upload["Key"] != key or upload["UploadId"] == self._upload_id:
                    continue
                self._s3.abort_multipart_upload(**self._target, UploadId=upload["UploadId"], **self._of_no_content)
                self._log.info(
                    "Aborted the upload to s3://%s/%s that was begun at %s and not ended",
                    bucket, key, upload["Initiated"],
                )  # fmt: skip
        except (BotoCoreError, ClientError) as error:
            # The document can be stored without it.
            self._log.warning("An upload that was left open to s3://%s/%s would stay: %s", bucket, key, error)

    def _send(self, body: bytearray, number: int, hashed: Future[None]) -> dict[str, Any]:
        with self._storage_errors():
            sent = self._s3.upload_part(
                **self._target,
                UploadId=self._upload_id or "",
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # the stubs miss what botocore takes
                # Told beforehand: botocore would cut the body into chunks, copying each, to append its own.
                ChecksumCRC32=to_base64(isal_zlib.crc32(body)),
                **self._repeated,
            )
        # The block is used again after this.
        hashed.result()
        # Servers that speak S3 and keep no checksums tell none, and want none.
        kept = {"ChecksumCRC32": sent["ChecksumCRC32"]} if "ChecksumCRC32" in sent else {}
        return {"PartNumber": number, "ETag": answered(sent.get("ETag"), **self._names), **kept}

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        from botocore.exceptions import ClientError

        # Also keeps smart-open from taking a 412 for a missing bucket.
        with storage_errors(**self._target):
            try:
                yield
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if self._condition and status in (409, 412):
                    raise _ObjectExists from error
                raise


def _surely(clean_up: Callable[[], None]) -> None:
    """Clean up, and once more if an end of the task, which is an exception at any moment, broke it off."""
    try:
        clean_up()
    except BaseException:
        clean_up()
        raise


def _adapt_request(params: dict[str, Any], **_: Any) -> None:
    """Have botocore send a small body at once, and take a checksum that is given for one of its own making.

    It signs the SHA-256 of the body otherwise, by TLS too, which costs more than all the rest of sending it. And
    it waits to be told to go on with the body, for ever and busily if the connection breaks as it is being told.
    For a large one it has to: S3 may refuse the request, or send it to another region, and hang up meanwhile.
    """
    from botocore.utils import determine_content_length

    if (determine_content_length(params.get("body")) or 0) <= _AT_ONCE:
        params["headers"].pop("Expect", None)
    if _CHECKSUM_HEADER in params["headers"]:
        algorithm = {"algorithm": "crc32", "in": "header", "name": _CHECKSUM_HEADER}
        params["context"].setdefault("checksum", {})["request_algorithm"] = algorithm


def _read_part(content: Readable, size: int, digest: Digest) -> bytearray:
    """Read as much as fits one part, less where the content ends."""
    part = bytearray()
    buffer = memoryview(bytearray(CHUNK))
    while len(part) < size:
        count = content.readinto(buffer[: size - len(part)])
        if not count:
            break
        digest.update(buffer[:count])
        part += buffer[:count]
    return part


def _copy(content: Readable, writer: Any, digest: Digest) -> None:
    buffer = memoryview(bytearray(CHUNK))
    while count := content.readinto(buffer):
        digest.update(buffer[:count])
        writer.write(buffer[:count])
