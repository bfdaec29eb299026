"""Copying a document, from its presigned URL to objects in S3."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import IO, Any, cast

from airflow_provider_amzbiz.client.parameters import shown
from airflow_provider_amzbiz.documents.archive import Archive
from airflow_provider_amzbiz.documents.charset import DECLARED, Utf8, codec_of, declared_charset, marked_codec
from airflow_provider_amzbiz.documents.content import SNIFFED, document_type, file_type, has_lines, is_text
from airflow_provider_amzbiz.documents.document_url import DocumentSource, DocumentUrl, Fetch
from airflow_provider_amzbiz.documents.download import DocumentStream
from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    UnsupportedDocumentError,
)
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.documents.open_uploads import abort_previous_uploads
from airflow_provider_amzbiz.documents.rollback import Rollback
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.streams import Limited, Log, Prefixed, Readable
from airflow_provider_amzbiz.documents.units import size, transferred
from airflow_provider_amzbiz.documents.unwrap import ZIP_MAGICS, gunzip, spooled
from airflow_provider_amzbiz.documents.upload import StoredObject, part_size, store
from airflow_provider_amzbiz.documents.upload_target import UploadTarget
from airflow_provider_amzbiz.documents.watch import Watch

# How often a document is downloaded from scratch if it changes meanwhile.
_MAX_STARTS = 3
# Seconds between two log lines about the progress of a long transfer.
_PROGRESS_SECONDS = 30.0

# Entry name, or None for a plain document, to the object's key.
KeyOf = Callable[[str | None], str]


def copy_to_s3(
    fetch_document: Fetch,
    target: UploadTarget,
    key: KeyOf,
    *,
    allow_http: bool = False,
    api_host: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[StoredObject]:
    """Copy a document to S3, and return what was stored.

    Uploads that a previous attempt of the task left open are aborted first.

    :param fetch_document: returns a fresh presigned URL; its own errors pass through.
    :param key: returns the key of an object, given the entry's name in an archive, or None for a plain document.
    :param allow_http: whether the document may come from a loopback address, also over plain http.
    :param api_host: host of the API's own endpoint, which may serve documents over https whatever its address is.
    :param stopped: polled twice a second; once it returns True, the transfer ends and leaves nothing.
    :raises DocumentError: the document did not arrive whole; nothing of it is in S3 then.
    """
    if target.options.encoding not in (None, DECLARED):
        codec_of(target.options.encoding)
    watch = Watch(stopped)
    errors_of_fetch: list[Exception] = []

    def fetch() -> DocumentSource:
        try:
            return fetch_document()
        except Exception as error:
            errors_of_fetch.append(error)
            raise

    def copy() -> list[StoredObject]:
        url = DocumentUrl(fetch, allow_http=allow_http, api_host=api_host)
        with DocumentStream(url, log=target.log, watch=watch) as stream:
            stream.start()
            return _DocumentCopy(stream, target, key, watch).run()

    with worker_errors(errors_of_fetch):
        abort_previous_uploads(target)
        return _until_unchanged(copy, target.log)


def _until_unchanged(copy: Callable[[], list[StoredObject]], log: Log) -> list[StoredObject]:
    """Copy the document, from scratch if it changes during its download."""
    for start in range(1, _MAX_STARTS + 1):
        try:
            return copy()
        except DocumentChangedError as changed:
            if start == _MAX_STARTS:
                raise
            log.warning("%s; starting from scratch", changed)
    raise AssertionError("the loop ends in a return or an exception")


class _DocumentCopy:
    """Copies the document of one download: unpacks it, finds out what it is, and stores each of its files."""

    def __init__(self, stream: DocumentStream, target: UploadTarget, key: KeyOf, watch: Watch) -> None:
        self._stream = stream
        self._target = target
        self._key = key
        self._options = target.options
        self._watch = watch

    def run(self) -> list[StoredObject]:
        content: Readable = _Progress(self._stream, self._target.log)
        if self._options.unpack != "none":
            content = gunzip(self._stream, content, self._target.log)
        decoded = Prefixed(content, SNIFFED)
        # After the first read: a response that was cut within its headers has been requested again by then.
        if not self._stream.head.delimited:
            raise DocumentDownloadError(
                "The document host announced no length, so truncation could not be detected, not even in a gzip, "
                "which may end after each of its members"
            )
        if self._options.unpack == "auto" and decoded.head.startswith(ZIP_MAGICS):
            with spooled(self._limited(decoded)) as file, Rollback(self._target.log) as rollback:
                return self._store_archive(file, rollback)
        with Rollback(self._target.log) as rollback:
            return [self._store_plain(decoded, rollback)]

    def _limited(self, content: Readable) -> Limited:
        return Limited(content, self._options.max_bytes, lambda: self._stream.position)

    def _store_plain(self, content: Prefixed, rollback: Rollback) -> StoredObject:
        declared = self._stream.head.content_type
        assume_text = self._options.encoding is not None
        kind = document_type(content.head, declared, self._charset(declared), assume_text=assume_text)
        text, kind = self._as_text(self._limited(content), kind, content.head, declared)
        whole = Prefixed(text, SNIFFED)
        return self._store(whole, self._key(None), kind, rollback, raw_length=self._stream.head.length)

    def _store_archive(self, file: IO[bytes], rollback: Rollback) -> list[StoredObject]:
        archive = Archive(file, self._options.max_bytes, self._stream.position, self._watch.check)
        if archive.document_type is None:
            return self._store_files(archive, rollback)
        file.seek(0)
        whole = Prefixed(cast("Readable", file), SNIFFED)
        key, kind = self._key(None), archive.document_type
        return [self._store(whole, key, kind, rollback, raw_length=self._stream.head.length)]

    def _store_files(self, archive: Archive, rollback: Rollback) -> list[StoredObject]:
        keys = [self._key(name) for name in archive.names]
        key, count = Counter(keys).most_common(1)[0]
        if count > 1:
            raise UnsupportedDocumentError(
                f"The document is a ZIP of {len(keys)} files, such as {shown(archive.names[:3])}, and several "
                f"would have the key {key!r}; put {{name}} into the key so that they differ"
            )
        stored: list[StoredObject] = []
        # All files or none: a reader could not know that the rest is missing.
        for key, (name, content) in zip(keys, archive.files(), strict=True):
            begun = Prefixed(content, SNIFFED)
            kind = file_type(begun.head, name, self._charset(None))
            text, kind = self._as_text(begun, kind, begun.head, None)
            whole = Prefixed(text, SNIFFED)
            stored.append(self._store(whole, key, kind, rollback, one_of_many=len(keys) > 1))
        return stored

    def _charset(self, declared: str | None) -> str | None:
        """Return the charset of text, if it was given or is declared.

        :param declared: the document's own Content-Type, None for a file in an archive.
        """
        encoding = self._options.encoding
        return declared_charset(declared) if encoding in (None, DECLARED) else encoding

    def _as_text(
        self, content: Readable, content_type: str, head: bytes, declared: str | None
    ) -> tuple[Readable, str]:
        """Return the content in UTF-8, if it is text and ``encoding`` is given, and its content type.

        :param head: the first bytes of the content.
        :param declared: the document's own Content-Type, None for a file in an archive.
        """
        encoding = self._options.encoding
        if encoding is None:
            return content, content_type
        if not is_text(content_type):
            self._target.log.info(
                "encoding=%r changes nothing, because the content is not text (%s)", encoding, content_type
            )
            return content, content_type
        charset = self._charset(declared) or marked_codec(head)
        if charset is None:
            raise UnsupportedDocumentError(
                f"encoding is {DECLARED!r}, but the document's Content-Type is {declared!r}, which declares no "
                "charset; give the charset's name as encoding"
            )
        return Utf8(content, charset, refuse_nul=True), f"{content_type.split(';')[0].strip()}; charset=UTF-8"

    def _store(
        self,
        content: Prefixed,
        key: str,
        content_type: str,
        rollback: Rollback,
        *,
        raw_length: int | None = None,
        one_of_many: bool = False,
    ) -> StoredObject:
        """Store one object, and log its size and speed."""
        kind = self._options.content_type or content_type
        converted = self._options.encoding is not None and is_text(content_type)
        started = time.monotonic()
        stored = store(
            content,
            S3Object(self._target, key, kind),
            size_of_part=part_size(raw_length, self._options.max_bytes, converted=converted),
            count_rows=self._options.rows and has_lines(kind, content.head),
            rollback=rollback,
            one_of_many=one_of_many,
        )
        seconds = time.monotonic() - started
        self._target.log.info("Stored %s: %s", stored.uri, transferred(stored.bytes, seconds))
        return stored


class _Progress:
    """Passes raw bytes on, and logs the progress from time to time."""

    def __init__(self, stream: DocumentStream, log: Log) -> None:
        self._stream = stream
        self._log = log
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() >= self._next:
            self._next += _PROGRESS_SECONDS
            total = "an unknown size" if self._stream.head.length is None else size(self._stream.head.length)
            self._log.info("Downloaded %s of %s", size(self._stream.position), total)
        return self._stream.readinto(buffer)
