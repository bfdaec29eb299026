"""What smart_open writes through: parts go out side by side, and only what is whole is published.

smart_open calls its client's ``upload_part`` from within ``write``, so its parts go one after the other. Two of
its public settings are enough to change that: ``client`` (:class:`Upload`) answers at once while a few threads
send, and ``writebuffer`` (:class:`Buffers`) hands a filled buffer over without a copy and goes on with the next.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from isal import isal_zlib

from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentStorageError
from airflow_provider_amzbiz.documents.target import Target

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Six parts of 8 MiB at once fill a connection with a region's latency; more of them only cost memory.
AT_ONCE = 6
PART_SIZE = 8 * 1024 * 1024
# S3 takes 10,000 parts.
_MOST_PARTS = 10_000
_LARGE_PART = 32 * 1024 * 1024


def part_size(most: int) -> int:
    """Return the bytes per part with which a document of at most so many bytes fits S3's 10,000 parts."""
    return max(PART_SIZE, -(-most // _MOST_PARTS))


@dataclass
class Digest:
    """What was sent: counted and checksummed.

    :ivar size: bytes.
    :ivar crc: CRC-32 of all bytes.
    :ivar sha256: hex, or None where nobody asked for it.
    """

    size: int = 0
    crc: int = 0
    sha256: str | None = None

    @property
    def crc32(self) -> str:
        """The CRC-32 as S3 writes it: the base64 of its four bytes."""
        return encode_crc(self.crc)


@dataclass(frozen=True)
class _Part:
    number: int
    etag: str
    size: int
    crc: int


class Buffers:
    """The ``writebuffer`` of one upload: a few buffers of one part's size, filled in turn.

    :param size: bytes of each.
    :param count: how many there may be; writing waits while all of them are being sent.
    """

    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self._unmade = count
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._current: bytearray | None = None
        self._filled = 0

    def tell(self) -> int:
        """Return the bytes in the current buffer."""
        return self._filled

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002 - a file's signature
        """Do nothing: a buffer is handed over whole, so smart_open has nothing to rewind."""
        return self._filled

    def truncate(self, size: int | None = None) -> int:  # noqa: ARG002 - a file's signature
        """Do nothing: a buffer that was handed over is empty already."""
        return self._filled

    def write(self, data: ReadableBuffer) -> int:
        """Copy bytes into the current buffer; smart_open never writes more than fits."""
        view = memoryview(data)
        if self._current is None:
            self._current = self._next()
        self._current[self._filled : self._filled + len(view)] = view
        self._filled += len(view)
        return len(view)

    def take(self) -> bytearray:
        """Hand over the current buffer with what was written to it."""
        taken = self._current if self._current is not None else bytearray()
        del taken[self._filled :]
        self._current, self._filled = None, 0
        return taken

    def give_back(self, buffer: bytearray) -> None:
        """Offer a buffer for the next bytes."""
        self._free.put(buffer)

    def _next(self) -> bytearray:
        if self._unmade and self._free.empty():
            self._unmade -= 1
            return bytearray(self._size)
        return self._free.get()


class Upload:
    """Stands in for the boto3 client of one smart_open writer, and writes one object.

    Nothing is published before :meth:`seal`: smart_open publishes what it has when a writer is closed, even
    by the garbage collector, and half a document must not become an object. Whatever else happens, leaving
    the context leaves no open multipart upload.

    :ivar digest: of what was sent; final once the writer is closed.

    :param target: the object.
    :param size_of_part: bytes.
    :param sha256: whether to compute the SHA-256 too.
    """

    def __init__(self, target: Target, *, size_of_part: int, sha256: bool, log: logging.Logger) -> None:
        self.digest = Digest()
        at_once = AT_ONCE if size_of_part <= _LARGE_PART else 2
        self.buffers = Buffers(size_of_part, at_once + 1)
        self._target = target
        self._sha256 = hashlib.sha256() if sha256 else None
        self._log = log
        self._senders = ThreadPoolExecutor(at_once, thread_name_prefix="document-part")
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="document-sha256")
        self._sent: list[Future[_Part]] = []
        self._upload_id: str | None = None
        self._sealed = False

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort_multipart_upload()
        self._senders.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def seal(self) -> None:
        """Declare that all bytes were written."""
        self._sealed = True

    def put_object(self, *, Body: IO[bytes], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Write the object at once."""
        self._require_seal()
        data = Body.read()
        self.digest.size, self.digest.crc = len(data), isal_zlib.crc32(data)
        if self._sha256:
            self._sha256.update(data)
            self.digest.sha256 = self._sha256.hexdigest()
        return self._target.call("PutObject", Body=data, ChecksumCRC32=self.digest.crc32, **self._condition())

    def create_multipart_upload(self, **_: Any) -> Any:
        """Begin an object of several parts, for which S3 is to keep one CRC-32 of the whole."""
        answer = self._target.call(
            "CreateMultipartUpload", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
        )
        self._upload_id = answer["UploadId"]
        return answer

    def upload_part(self, *, PartNumber: int, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Have the filled buffer sent, and return before it is."""
        for sent in self._sent:
            if sent.done():
                sent.result()
        data = self.buffers.take()
        self.digest.size += len(data)
        hashed = self._hasher.submit(self._sha256.update, data) if self._sha256 else None
        self._sent.append(self._senders.submit(self._send, PartNumber, data, hashed))
        return {"ETag": "not known yet"}

    def complete_multipart_upload(self, **_: Any) -> Any:
        """Publish the object once all parts have arrived."""
        self._require_seal()
        parts = [sent.result() for sent in self._sent]
        for part in parts:
            self.digest.crc = isal_zlib.crc32_combine(self.digest.crc, part.crc, part.size)
        if self._sha256:
            self.digest.sha256 = self._sha256.hexdigest()
        listed = [
            {"PartNumber": part.number, "ETag": part.etag, "ChecksumCRC32": encode_crc(part.crc)}
            for part in parts
        ]
        answer = self._target.call(
            "CompleteMultipartUpload",
            UploadId=self._upload_id,
            MultipartUpload={"Parts": listed},
            ChecksumCRC32=self.digest.crc32,
            ChecksumType="FULL_OBJECT",
            **self._condition(),
        )
        self._upload_id = None
        return answer

    def abort_multipart_upload(self, **_: Any) -> None:
        """Drop the object of several parts, if there is one that is not complete."""
        if self._upload_id is None:
            return
        self._senders.shutdown(wait=False, cancel_futures=True)
        under_way = any(sent.running() for sent in self._sent)
        self._abort()
        if under_way:
            # S3 keeps a part that arrives after the abort, and bills it; so once more when none can arrive.
            self._senders.shutdown()
            self._abort()
        self._upload_id = None

    def _abort(self) -> None:
        try:
            self._target.call("AbortMultipartUpload", UploadId=self._upload_id)
        except DocumentStorageError as error:
            if error.code != "NoSuchUpload":
                self._log.warning(
                    "Could not abort the multipart upload %s of %s, whose parts cost money until a lifecycle "
                    "rule of the bucket removes them: %s",
                    *(self._upload_id, self._target.uri, error),
                )

    def _send(self, number: int, data: bytearray, hashed: Future[None] | None) -> _Part:
        try:
            crc = isal_zlib.crc32(data)
            answer = self._target.call(
                "UploadPart",
                UploadId=self._upload_id,
                PartNumber=number,
                Body=data,
                ChecksumCRC32=encode_crc(crc),
            )
            return _Part(number, answer["ETag"], len(data), crc)
        finally:
            if hashed:
                wait([hashed])
            self.buffers.give_back(data)

    def _condition(self) -> dict[str, str]:
        return {} if self._target.replace else {"IfNoneMatch": "*"}

    def _require_seal(self) -> None:
        if not self._sealed:
            raise DocumentError(f"{self._target.uri} is not whole and was not published")


def encode_crc(crc: int) -> str:
    """Return a CRC-32 as S3 writes it: the base64 of its four bytes."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()
