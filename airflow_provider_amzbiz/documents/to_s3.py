"""The whole way of a document, from its presigned URL to objects in S3."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.charset import DECLARED, Utf8, codec_of, declared_charset
from airflow_provider_amzbiz.documents.download import DocumentSource, DocumentStream, Fetch, Log
from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    UnsupportedDocumentError,
)
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.documents.multipart import abort_uploads
from airflow_provider_amzbiz.documents.objects import TakeBack
from airflow_provider_amzbiz.documents.open_uploads import NoMemory, OpenUploads
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.units import size, transferred
from airflow_provider_amzbiz.documents.unwrap import (
    ZIP_MAGICS,
    Archive,
    Limited,
    Prefixed,
    Readable,
    gunzip,
    spooled,
)
from airflow_provider_amzbiz.documents.upload import StoredObject, part_size, store

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# How often a document that changes under its download is begun anew.
_STARTS = 3
_SNIFFED = 5
# Seconds between two lines about how far a long transfer is.
_PROGRESS_SECONDS = 30.0
# What a host says that knows nothing better.
_MEANINGLESS = ("application/octet-stream", "binary/octet-stream", "application/gzip", "application/x-gzip")


@dataclass(frozen=True)
class Target:
    """Where objects go, and how.

    :ivar key: entry name (None where the document is no archive) to key.
    """

    s3: S3Client
    bucket: str
    key: Callable[[str | None], str]
    replace: bool
    sha256: bool
    rows: bool
    content_type: str | None
    encoding: str | None
    extra_args: Mapping[str, Any]
    uploads: OpenUploads
    max_bytes: int
    log: Log

    def text(self, content: Readable, content_type: str, declared: str | None = None) -> tuple[Readable, str]:
        """Return a text as it is to be stored, and its content type; what is no text stays as it is.

        :param declared: the document's own Content-Type.
        """
        if self.encoding is None or not _is_text(content_type):
            return content, content_type
        charset = declared_charset(declared) if self.encoding == DECLARED else self.encoding
        if charset is None:
            raise UnsupportedDocumentError(
                f"encoding is {DECLARED!r}, but the document is {declared!r}, which declares no charset; name it"
            )
        return Utf8(content, charset), f"{content_type.split(';')[0].strip()}; charset=UTF-8"

    def take_back(self) -> TakeBack:
        """Return what deletes a document's objects where it fails."""
        return TakeBack(self.s3, self.bucket, self.extra_args, self.log)

    def write(
        self,
        content: Readable,
        key: str,
        content_type: str,
        raw_length: int | None,
        take_back: TakeBack,
        *,
        one_of_many: bool = False,
    ) -> StoredObject:
        """Write one object, and log how it went."""
        kind = self.content_type or content_type
        started = time.monotonic()
        stored = store(
            content,
            S3Object(self.s3, self.bucket, key, kind, self.extra_args, self.replace),
            size_of_part=part_size(raw_length, self.max_bytes),
            sha256=self.sha256,
            rows=self.rows and _has_lines(kind),
            take_back=take_back,
            one_of_many=one_of_many,
            uploads=self.uploads,
            log=self.log,
        )
        self.log.info("Stored %s: %s", stored.uri, transferred(stored.bytes, time.monotonic() - started))
        return stored


def copy_to_s3(
    fetch_document: Fetch,
    *,
    s3: S3Client,
    bucket: str,
    key: Callable[[str | None], str],
    unpack: str = "auto",
    replace: bool = True,
    sha256: bool = True,
    rows: bool = False,
    content_type: str | None = None,
    encoding: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
    max_bytes: int = 50 * 1024**3,
    allow_http: bool = False,
    uploads: OpenUploads | None = None,
    stopped: Callable[[], bool] = lambda: False,
    log: Log,
) -> list[StoredObject]:
    """Copy a document to S3, and return what was stored.

    :param fetch_document: gives a fresh presigned URL; its own errors pass through.
    :param key: entry name, or None where the document is no archive, to the object's key.
    :param unpack: ``auto`` undoes gzip and opens a ZIP, ``gzip`` undoes gzip only, ``none`` keeps the bytes.
    :param replace: whether other content under a key is replaced.
    :param rows: whether to count the lines of text.
    :param encoding: the charset of text, which is stored as UTF-8 then: a name, or ``declared`` for the one that
        the document's Content-Type names. What is no text stays as it is.
    :param extra_args: more parameters of S3's PutObject and CreateMultipartUpload.
    :param max_bytes: decoded bytes above which the document is refused.
    :param allow_http: whether the document may come from a loopback address, also by plain http.
    :param uploads: remembers open uploads through the attempts of a task; those that an earlier attempt left are
        aborted first.
    :param stopped: asked now and then whether to give up and leave nothing.
    :raises DocumentError: it did not arrive whole; nothing of it is in S3 then.
    """
    if encoding not in (None, DECLARED):
        codec_of(encoding)
    uploads = uploads or NoMemory()
    options = (replace, sha256, rows, content_type, encoding, extra_args or {}, uploads, max_bytes)
    target = Target(s3, bucket, key, *options, log)
    of_fetch: list[Exception] = []

    def fetch() -> DocumentSource:
        try:
            return fetch_document()
        except Exception as error:
            of_fetch.append(error)
            raise

    with worker_errors(of_fetch):
        abort_uploads(s3, uploads, extra_args or {}, log)
        return _copy_unchanged(fetch, target, unpack, max_bytes, allow_http, stopped)


def _copy_unchanged(
    fetch_document: Fetch,
    target: Target,
    unpack: str,
    max_bytes: int,
    allow_http: bool,
    stopped: Callable[[], bool],
) -> list[StoredObject]:
    """Copy the document, from scratch where it changes under its download."""
    for start in range(1, _STARTS + 1):
        stream = DocumentStream(fetch_document, allow_http=allow_http, log=target.log)
        try:
            with stream:
                stream.start()
                return _copy(stream, target, unpack, max_bytes, stopped)
        except DocumentChangedError as changed:
            if start == _STARTS:
                raise
            target.log.warning("%s; beginning anew", changed)
    raise AssertionError("the loop ends in a return or an exception")


def _copy(
    stream: DocumentStream, target: Target, unpack: str, max_bytes: int, stopped: Callable[[], bool]
) -> list[StoredObject]:
    reported = _Progress(stream, target.log, stopped)
    content: Readable = reported
    if unpack != "none":
        content = gunzip(content, stream.compression_algorithm, target.log)
    decoded = Prefixed(content, _SNIFFED)
    # After the first read: an answer that was cut within its headers has been asked for again by then.
    if not stream.delimited:
        raise DocumentDownloadError(
            "The document host announced no length: nothing would tell a cut document from a whole one, not even "
            "a gzip, which may end after each of its members"
        )
    if unpack == "auto" and decoded.head.startswith(ZIP_MAGICS):
        with _spooled_archive(decoded, stream, max_bytes) as archive, target.take_back() as take_back:
            return _write_files(archive, target, take_back)
    with target.take_back() as take_back:
        return [_write_plain(decoded, stream, target, max_bytes, take_back)]


def _write_plain(
    content: Prefixed, stream: DocumentStream, target: Target, max_bytes: int, take_back: TakeBack
) -> StoredObject:
    limited = Limited(content, max_bytes, lambda: stream.position)
    announced = (stream.content_type or "").split(";")[0].strip().lower()
    meaningful = stream.content_type if announced and announced not in _MEANINGLESS else None
    kind = _sniffed(content.head) or meaningful or "binary/octet-stream"
    if target.encoding and kind == "binary/octet-stream":
        # Asked for by name, and nothing says that it is anything else.
        kind = "text/plain"
    text, kind = target.text(limited, kind, stream.content_type)
    return target.write(text, target.key(None), kind, stream.length, take_back)


@contextmanager
def _spooled_archive(content: Readable, stream: DocumentStream, max_bytes: int) -> Iterator[Archive]:
    file: IO[bytes]
    with spooled(Limited(content, max_bytes, lambda: stream.position)) as file:
        yield Archive(file, max_bytes, stream.position)


def _write_files(archive: Archive, target: Target, take_back: TakeBack) -> list[StoredObject]:
    keys = [target.key(name) for name in archive.names]
    if len(set(keys)) < len(keys):
        raise UnsupportedDocumentError(
            f"The document is a ZIP of the files {archive.names}, which would have the keys {keys}; put {{name}} "
            "into the key so that they differ"
        )
    stored: list[StoredObject] = []
    # All files or none: a reader could not tell that the rest is missing.
    for key, (name, content) in zip(keys, archive.files(), strict=True):
        head = Prefixed(content, _SNIFFED)
        kind = _sniffed(head.head) or mimetypes.guess_type(name)[0] or "binary/octet-stream"
        text, kind = target.text(head, kind)
        stored.append(target.write(text, key, kind, None, take_back, one_of_many=len(keys) > 1))
    return stored


def _is_text(content_type: str) -> bool:
    kind = content_type.split(";")[0].strip().lower()
    return kind.startswith("text/") or kind in ("application/json", "application/xml")


def _has_lines(content_type: str) -> bool:
    kind = content_type.lower()
    # Of others, a byte would not tell the end of a line.
    return kind.startswith("text/") and "utf-16" not in kind and "utf-32" not in kind


def _sniffed(head: bytes) -> str | None:
    return "application/pdf" if head.startswith(b"%PDF-") else None


class _Progress:
    """Passes raw bytes on, says now and then how many, and ends when it is told to."""

    def __init__(self, stream: DocumentStream, log: Log, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._stream = stream
        self._log = log
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def readinto(self, buffer: Any) -> int:
        if self._stopped():
            raise DocumentDownloadError("The transfer was stopped")
        if time.monotonic() >= self._next:
            self._next += _PROGRESS_SECONDS
            total = "an unknown size" if self._stream.length is None else size(self._stream.length)
            self._log.info("Downloaded %s of %s", size(self._stream.position), total)
        return self._stream.readinto(buffer)
