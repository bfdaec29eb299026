"""Which Content-Type an object gets."""

from __future__ import annotations

import mimetypes
import re

from airflow_provider_amzbiz.documents.unwrap import GZIP_MAGIC, is_zip

# S3's own name for bytes of which nothing is known.
UNKNOWN = "binary/octet-stream"
# What stores call anything, and what describes the wrapping that was taken off rather than the content.
_SAYS_NOTHING = frozenset(
    {
        UNKNOWN,
        "application/octet-stream",
        "application/gzip",
        "application/x-gzip",
        "application/zip",
        "application/x-zip-compressed",
    }
)
_WELL_FORMED = re.compile(r"[\w.+-]+/[\w.+-]+\s*(;[\x20-\x7e]*)?", re.ASCII)
# Without the machine's own files, so that the answer is the same everywhere.
_TYPES = mimetypes.MimeTypes()


def content_type(head: bytes, name: str, downloaded_as: str | None = None) -> str:
    """Return the Content-Type of content: by its first bytes, by what its host says, by its name.

    :param head: its first bytes.
    :param name: a file name or key; its extension counts.
    :param downloaded_as: the Content-Type that it was downloaded with, where that is about this content.
    """
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    if head.startswith(GZIP_MAGIC):
        return "application/gzip"
    if is_zip(head):
        return "application/zip"
    said = (downloaded_as or "").strip()
    if _WELL_FORMED.fullmatch(said) and said.partition(";")[0].strip().lower() not in _SAYS_NOTHING:
        return said
    guessed, packed = _TYPES.guess_type(name)
    return guessed if guessed and not packed else UNKNOWN
