"""What the headers of the first response say about a document, which each later response must confirm."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    UnsupportedDocumentError,
)
from airflow_provider_amzbiz.documents.http_body import content_length, is_delimited

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_NO_RANGE = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)
_CHANGED = "The document has changed since its download began"
# Codings that we cannot undo. Others may be misuses of the header, such as ``utf-8``, so the bytes decide.
_UNSUPPORTED_ENCODINGS = frozenset({"br", "compress", "deflate", "x-compress", "zstd"})


class DocumentHead:
    """Length, type and version of the document that is being downloaded.

    :ivar length: of the raw bytes; None while no response has said it.
    :ivar etag: strong, None if there is none.
    :ivar delimited: whether HTTP distinguishes the end of the body from a cut connection.
    :ivar content_type: as the host says.
    :ivar content_encoding: as the host says, which should send none: we request ``identity``.
    """

    def __init__(self) -> None:
        self.length: int | None = None
        self.etag: str | None = None
        self.delimited = False
        self.content_type: str | None = None
        self.content_encoding = ""

    def read(self, headers: Mapping[str, str]) -> None:
        """Take over the headers of the first response."""
        self.length = content_length(headers)
        self.etag = _strong_etag(headers)
        self.delimited = is_delimited(headers)
        self.content_type = headers.get("Content-Type")
        self.content_encoding = headers.get("Content-Encoding", "")

    def check_encoding(self) -> None:
        """Check that bytes which are no gzip are not compressed by the host or a proxy either.

        :raises UnsupportedDocumentError: they are, in a way that cannot be undone.
        """
        codings = {each.strip().lower() for each in self.content_encoding.split(",")}
        if codings & _UNSUPPORTED_ENCODINGS:
            raise UnsupportedDocumentError(
                f"The document host sent the document with Content-Encoding {self.content_encoding!r}, although "
                "identity was requested; make it, or the proxy in front of it, send the document as it is"
            )

    def check_whole(self, headers: Mapping[str, str]) -> None:
        """Check that a second response with the whole document has the same one.

        :raises DocumentChangedError: it has another one.
        """
        if _strong_etag(headers) != self.etag:
            raise DocumentChangedError(_CHANGED)
        self._check_length(content_length(headers))

    def check_rest(self, headers: Mapping[str, str], position: int) -> int:
        """Check a response that has the rest of the document, and return the position where its body must end.

        :param position: of the first byte that was requested.
        :raises DocumentDownloadError: it has other bytes than those requested.
        :raises DocumentChangedError: it has the rest of another document.
        """
        said = headers.get("Content-Range", "")
        match = _RANGE.fullmatch(said)
        end = int(match[2]) + 1 if match else 0
        total = int(match[3]) if match and match[3] != "*" else None
        announced = content_length(headers) or 0
        first = int(match[1]) if match else -1
        if first != position or not first < end <= (total or end) or announced > end - first:
            raise DocumentDownloadError(f"The document host was asked for byte {position} on and sent {said!r}")
        if _strong_etag(headers) != self.etag:
            # A host that ignores If-Match would otherwise have two versions joined.
            raise DocumentChangedError(_CHANGED)
        self._check_length(total)
        return end

    def check_end(self, headers: Mapping[str, str], position: int) -> bool:
        """Check a 416, which means that there are no more bytes; return whether it confirms the end.

        :return: False if it does not say how long the document is.
        :raises DocumentChangedError: it is about another document.
        """
        match = _NO_RANGE.fullmatch(headers.get("Content-Range", ""))
        if match is None:
            return False
        if _strong_etag(headers) not in (None, self.etag) or int(match[1]) != position:
            raise DocumentChangedError(_CHANGED)
        self._check_length(position)
        return True

    def _check_length(self, length: int | None) -> None:
        if self.length is None:
            self.length = length
        if length not in (None, self.length):
            raise DocumentChangedError(f"The document had {self.length} bytes and has {length} now")


def _strong_etag(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("ETag")
    return None if etag is None or etag.startswith("W/") else etag
