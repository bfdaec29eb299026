"""The whole way of a document, from its presigned URL to objects in S3."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_amzbiz.documents.charset import DECLARED, Utf8, codec_of, declared_charset, marked_codec
from airflow_provider_amzbiz.documents.content import SNIFFED, document_type, file_type, has_lines, is_text
from airflow_provider_amzbiz.documents.download import DocumentSource, DocumentStream, Fetch, Log
from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    UnsupportedDocumentError,
)
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.documents.multipart import abort_uploads
from airflow_provider_amzbiz.documents.open_uploads import NoMemory, OpenUploads
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.s3_objects import TakeBack
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
from airflow_provider_amzbiz.documents.watch import Watch

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# How often a document that changes under its download is begun anew.
_STARTS = 3
# Seconds between two lines about how far a long transfer is.
_PROGRESS_SECONDS = 30.0


@dataclass(frozen=True)
class UploadTarget:
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

    def charset(self, declared: str | None) -> str | None:
        """Return the charset that text is in, as far as it was asked for or is declared.

        :param declared: the document's own Content-Type, None for a file in an archive.
        """
        return declared_charset(declared) if self.encoding in (None, DECLARED) else self.encoding

    def text(
        self, content: Readable, content_type: str, head: bytes, declared: str | None
    ) -> tuple[Readable, str]:
        """Return a text as it is to be stored, and its content type; what is no text stays as it is.

        :param head: the first bytes of the content.
        :param declared: the document's own Content-Type, None for a file in an archive.
        """
        if self.encoding is None:
            return content, content_type
        if not is_text(content_type):
            self.log.info("encoding=%r changes no byte of what is no text (%s)", self.encoding, content_type)
            return content, content_type
        charset = self.charset(declared) or marked_codec(head)
        if charset is None:
            raise UnsupportedDocumentError(
                f"encoding is {DECLARED!r}, but the document's Content-Type is {declared!r}, which declares no "
                "charset; name it"
            )
        return Utf8(content, charset, refuse_nul=True), f"{content_type.split(';')[0].strip()}; charset=UTF-8"

    def take_back(self) -> TakeBack:
        """Return what deletes a document's objects where it fails."""
        return TakeBack(self.s3, self.bucket, self.extra_args, self.log)

    def write(
        self,
        content: Prefixed,
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
            rows=self.rows and has_lines(kind, content.head),
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
    api_host: str | None = None,
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
    :param api_host: host of the API's own endpoint, which may serve documents by https whatever its address is.
    :param uploads: remembers open uploads through the attempts of a task; those that an earlier attempt left are
        aborted first.
    :param stopped: asked twice a second whether to give up and leave nothing.
    :raises DocumentError: it did not arrive whole; nothing of it is in S3 then.
    """
    if encoding not in (None, DECLARED):
        codec_of(encoding)
    uploads = uploads or NoMemory()
    options = (replace, sha256, rows, content_type, encoding, extra_args or {}, uploads, max_bytes)
    target = UploadTarget(s3, bucket, key, *options, log)
    watch = Watch(stopped)
    of_fetch: list[Exception] = []

    def fetch() -> DocumentSource:
        try:
            return fetch_document()
        except Exception as error:
            of_fetch.append(error)
            raise

    def stream() -> DocumentStream:
        return DocumentStream(fetch, allow_http=allow_http, api_host=api_host, log=log, watch=watch)

    with worker_errors(of_fetch):
        abort_uploads(s3, uploads, extra_args or {}, log)
        return _copy_unchanged(stream, target, unpack, max_bytes, watch)


def _copy_unchanged(
    make_stream: Callable[[], DocumentStream], target: UploadTarget, unpack: str, max_bytes: int, watch: Watch
) -> list[StoredObject]:
    """Copy the document, from scratch where it changes under its download."""
    for start in range(1, _STARTS + 1):
        stream = make_stream()
        try:
            with stream:
                stream.start()
                return _copy(stream, target, unpack, max_bytes, watch)
        except DocumentChangedError as changed:
            if start == _STARTS:
                raise
            target.log.warning("%s; starting from scratch", changed)
    raise AssertionError("the loop ends in a return or an exception")


def _copy(
    stream: DocumentStream, target: UploadTarget, unpack: str, max_bytes: int, watch: Watch
) -> list[StoredObject]:
    reported = _Progress(stream, target.log)
    content: Readable = reported
    if unpack != "none":
        content = gunzip(content, stream.compression_algorithm, target.log)
    decoded = Prefixed(content, SNIFFED)
    # After the first read: an answer that was cut within its headers has been asked for again by then.
    if not stream.delimited:
        raise DocumentDownloadError(
            "The document host announced no length: nothing would tell a cut document from a whole one, not even "
            "a gzip, which may end after each of its members"
        )
    if unpack == "auto" and decoded.head.startswith(ZIP_MAGICS):
        with (
            spooled(Limited(decoded, max_bytes, lambda: stream.position)) as file,
            target.take_back() as take_back,
        ):
            archive = Archive(file, max_bytes, stream.position, watch.check)
            return _write_archive(archive, file, stream, target, take_back)
    with target.take_back() as take_back:
        return [_write_plain(decoded, stream, target, max_bytes, take_back)]


def _write_plain(
    content: Prefixed, stream: DocumentStream, target: UploadTarget, max_bytes: int, take_back: TakeBack
) -> StoredObject:
    limited = Limited(content, max_bytes, lambda: stream.position)
    declared = stream.content_type
    kind = document_type(content.head, declared, target.charset(declared), assume_text=target.encoding is not None)
    text, kind = target.text(limited, kind, content.head, declared)
    return target.write(Prefixed(text, SNIFFED), target.key(None), kind, stream.length, take_back)


def _write_archive(
    archive: Archive, file: IO[bytes], stream: DocumentStream, target: UploadTarget, take_back: TakeBack
) -> list[StoredObject]:
    if archive.document_type is None:
        return _write_files(archive, target, take_back)
    file.seek(0)
    whole = Prefixed(cast("Readable", file), SNIFFED)
    return [target.write(whole, target.key(None), archive.document_type, stream.length, take_back)]


def _write_files(archive: Archive, target: UploadTarget, take_back: TakeBack) -> list[StoredObject]:
    keys = [target.key(name) for name in archive.names]
    if len(set(keys)) < len(keys):
        raise UnsupportedDocumentError(
            f"The document is a ZIP of the files {archive.names}, which would have the keys {keys}; put {{name}} "
            "into the key so that they differ"
        )
    stored: list[StoredObject] = []
    # All files or none: a reader could not tell that the rest is missing.
    for key, (name, content) in zip(keys, archive.files(), strict=True):
        begun = Prefixed(content, SNIFFED)
        kind = file_type(begun.head, name, target.charset(None))
        text, kind = target.text(begun, kind, begun.head, None)
        whole = Prefixed(text, SNIFFED)
        stored.append(target.write(whole, key, kind, None, take_back, one_of_many=len(keys) > 1))
    return stored


class _Progress:
    """Passes raw bytes on, and logs now and then how many."""

    def __init__(self, stream: DocumentStream, log: Log) -> None:
        self._stream = stream
        self._log = log
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() >= self._next:
            self._next += _PROGRESS_SECONDS
            total = "an unknown size" if self._stream.length is None else size(self._stream.length)
            self._log.info("Downloaded %s of %s", size(self._stream.position), total)
        return self._stream.readinto(buffer)
