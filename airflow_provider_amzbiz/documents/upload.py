"""Writing one S3 object through smart-open: whole and checked, or not at all."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.unwrap import CHUNK, Readable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# S3 takes 10,000 parts at most. A document starts with small parts, for little memory, unless it is known to be
# so large that they would not do.
PART_SIZE = 8 * 1024**2
_MOST_PARTS = 9000
# How many times a gzip of text may grow, to choose the part size by.
_GROWTH = 20
_SENDERS = 5
# Of the object's parameters, those that S3 wants again with each part and at the end.
_REPEATED = (
    "ExpectedBucketOwner",
    "RequestPayer",
    "SSECustomerAlgorithm",
    "SSECustomerKey",
    "SSECustomerKeyMD5",
)
# And of these, those that it takes when uploads are listed and aborted.
_ON_LISTS = ("ExpectedBucketOwner", "RequestPayer")


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


def part_size(raw_length: int | None) -> int:
    """Return the size of the upload's parts in bytes for a compressed document of so many bytes."""
    return max(PART_SIZE, (raw_length or 0) * _GROWTH // _MOST_PARTS)


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

    digest = _Digest(sha256, rows)
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
        _check_same(s3, bucket, key, digest)
        written = False
    uri = f"s3://{bucket}/{key}"
    stored = StoredObject(uri, digest.count, digest.sha256, digest.crc32, content_type, digest.rows)
    return stored, written


class _ObjectExists(Exception):  # noqa: N818
    """S3 refused the write because of ``IfNoneMatch``."""


class _Digest:
    """Size, checksums and lines of what has been read."""

    def __init__(self, sha256: bool, rows: bool = False) -> None:
        self.count = 0
        self._newlines = 0 if rows else None
        self._last: bytes | bytearray = b""
        self._crc = 0
        self._sha256 = hashlib.sha256() if sha256 else None

    def update(self, chunk: memoryview) -> None:
        """Count a piece and add it to the CRC32."""
        self.count += len(chunk)
        self._crc = isal_zlib.crc32(chunk, self._crc)

    def hash(self, block: bytearray) -> None:
        """Add a whole block to the SHA-256, which takes as long as everything else: beside that, and in order."""
        if self._sha256:
            self._sha256.update(block)
        if self._newlines is not None and block:
            self._newlines += block.count(b"\n")
            self._last = block[-1:]

    @property
    def crc32(self) -> str:
        return _base64(self._crc)

    @property
    def rows(self) -> int | None:
        if self._newlines is None:
            return None
        # A last line may have no end.
        return self._newlines + (self._last not in (b"", b"\n"))

    @property
    def sha256(self) -> str | None:
        return self._sha256.hexdigest() if self._sha256 else None


def _base64(crc32: int) -> str:
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


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
        digest: _Digest,
        arguments: Mapping[str, Any],
        condition: Mapping[str, Any],
        abort_earlier: bool,
        log: Log,
    ) -> None:
        self._abort_earlier = abort_earlier
        self._log = log
        self._s3 = s3
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._digest = digest
        self._arguments = arguments
        self._repeated: dict[str, Any] = {name: arguments[name] for name in _REPEATED if name in arguments}
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
            self._pool.shutdown(cancel_futures=True)
            self._hashing.shutdown(cancel_futures=True)

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
        with self._storage_errors():
            created = self._s3.create_multipart_upload(
                **self._target, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT", **self._arguments
            )
        self._upload_id = created.get("UploadId")
        # Where botocore asked again, or the answer was cut, there is an upload that nobody knows of.
        if self._abort_earlier or created["ResponseMetadata"].get("RetryAttempts") or not self._upload_id:
            self._abort_others()
        return {"UploadId": self._answered(self._upload_id)}

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
            with self._storage_errors():
                self._s3.complete_multipart_upload(
                    **self._target,
                    UploadId=self._upload_id or "",
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                    ChecksumCRC32=self._digest.crc32,
                    ChecksumType="FULL_OBJECT",
                    **self._repeated,
                    **self._condition,
                )
        except DocumentStorageError as error:
            # It was completed, and the answer was lost, where botocore asked again.
            if error.code != "NoSuchUpload" or not self._is_there():
                raise
        self._upload_id = None

    def abort_multipart_upload(self, **_: Any) -> None:
        """End the upload, once no part is on its way any more: one that arrived later would stay for ever."""
        if self._upload_id is None:
            return
        from botocore.exceptions import BotoCoreError, ClientError

        upload_id, self._upload_id = self._upload_id, None
        self._pool.shutdown(cancel_futures=True)
        try:
            self._s3.abort_multipart_upload(**self._target, UploadId=upload_id)
        except (BotoCoreError, ClientError) as error:
            # Not raised: it would hide why the upload has to be aborted.
            self._log.warning("The upload %s to %s could not be aborted: %s", upload_id, self._target, error)

    def _tells_a_user(self, record: logging.LogRecord) -> bool:
        # smart-open has a line for each part, of which there may be thousands.
        return record.thread != self._thread or record.levelno > logging.INFO

    def _answered(self, value: str | None) -> str:
        """Return what S3 answered, which a connection that broke between two headers has not brought."""
        if not value:
            raise DocumentStorageError(
                "S3 did not take s3://{Bucket}/{Key}: its answer was cut".format(**self._target)
            )
        return value

    def _is_there(self) -> bool:
        bucket, key = self._target["Bucket"], self._target["Key"]
        try:
            return _size_and_crc32(self._s3, bucket, key, self._digest) == (self._digest.count, self._digest.crc32)
        except DocumentStorageError:
            return False

    def _abort_others(self) -> None:
        """Abort all uploads to the key but ours, such as that of a process that was killed, which nobody sees."""
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, key = self._target["Bucket"], self._target["Key"]
        asked = {name: self._repeated[name] for name in _ON_LISTS if name in self._repeated}
        try:
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key, **asked)
            for upload in (each for page in pages for each in page.get("Uploads", [])):
                if upload["Key"] != key or upload["UploadId"] == self._upload_id:
                    continue
                self._s3.abort_multipart_upload(**self._target, UploadId=upload["UploadId"], **asked)
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
                ChecksumCRC32=_base64(isal_zlib.crc32(body)),
                **self._repeated,
            )
        # The block is used again after this.
        hashed.result()
        # Servers that speak S3 and keep no checksums tell none, and want none.
        kept = {"ChecksumCRC32": sent["ChecksumCRC32"]} if "ChecksumCRC32" in sent else {}
        return {"PartNumber": number, "ETag": self._answered(sent.get("ETag")), **kept}

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


@contextlib.contextmanager
def storage_errors(Bucket: str, Key: str) -> Iterator[None]:  # noqa: N803
    """Turn boto3's errors into one that names the object and S3's reason."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    what = f"s3://{Bucket}/{Key}"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        raise DocumentStorageError(f"S3 did not take {what}: {code}: {error}", code=code) from error
    except (NoCredentialsError, PartialCredentialsError, ParamValidationError) as error:
        raise DocumentStorageError(f"S3 was not asked to take {what}: {error}", permanent=True) from error
    except BotoCoreError as error:
        raise DocumentStorageError(f"S3 did not take {what}: {error}") from error


def _adapt_request(params: dict[str, Any], **_: Any) -> None:
    """Have botocore send a body at once, and take a checksum that is given for one of its own making.

    It signs the SHA-256 of the body otherwise, by TLS too, which costs more than all the rest of sending it. And
    it waits to be told to go on with the body, for ever and busily if the connection breaks as it is being told.
    """
    params["headers"].pop("Expect", None)
    if _CHECKSUM_HEADER in params["headers"]:
        algorithm = {"algorithm": "crc32", "in": "header", "name": _CHECKSUM_HEADER}
        params["context"].setdefault("checksum", {})["request_algorithm"] = algorithm


def _read_part(content: Readable, size: int, digest: _Digest) -> bytearray:
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


def _copy(content: Readable, writer: Any, digest: _Digest) -> None:
    buffer = memoryview(bytearray(CHUNK))
    while count := content.readinto(buffer):
        digest.update(buffer[:count])
        writer.write(buffer[:count])


def _check_same(s3: S3Client, bucket: str, key: str, digest: _Digest) -> None:
    """Accept an object that is there already, if it has the same content."""
    size, crc32 = _size_and_crc32(s3, bucket, key, digest)
    if (size, crc32) != (digest.count, digest.crc32):
        raise DocumentExistsError(
            f"s3://{bucket}/{key} exists with {size} bytes and CRC32 {crc32}; the document has {digest.count} "
            f"bytes and CRC32 {digest.crc32}, and replace is False"
        )


def _size_and_crc32(s3: S3Client, bucket: str, key: str, digest: _Digest) -> tuple[int, str | None]:
    """Return what S3 has under the key; it is read only where it may be the same and S3 keeps no such checksum."""
    with storage_errors(bucket, key):
        there = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        size, crc32 = there["ContentLength"], there.get("ChecksumCRC32")
        if size == digest.count and (crc32 is None or there.get("ChecksumType") == "COMPOSITE"):
            crc32 = _crc32_of(s3, bucket, key)
    return size, crc32


def _crc32_of(s3: S3Client, bucket: str, key: str) -> str:
    """Read an object that another tool wrote without a checksum of the whole."""
    digest = _Digest(sha256=False)
    for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(CHUNK):
        digest.update(memoryview(chunk))
    return digest.crc32
