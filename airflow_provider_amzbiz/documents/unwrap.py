"""Undoing gzip and ZIP, by what the bytes are: :mod:`.gunzip` and :mod:`.archive` do it."""

from __future__ import annotations

import tempfile
from typing import IO

from airflow_provider_amzbiz.documents.archive import Archive, safe_name
from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import DocumentError, TruncatedDocumentError
from airflow_provider_amzbiz.documents.gunzip import GZIP_MAGIC, Gunzipped
from airflow_provider_amzbiz.documents.streams import CHUNK, Limited, Prefixed, Readable

__all__ = [
    "CHUNK",
    "GZIP_MAGIC",
    "ZIP_MAGICS",
    "Archive",
    "Gunzipped",
    "Limited",
    "Prefixed",
    "Readable",
    "gunzip",
    "safe_name",
    "spooled",
]

# The first of an archive, and of an archive without entries.
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
# Bytes of an archive that are kept in memory; a larger one goes to a temporary file.
_SPOOL = 8 * 1024**2


def gunzip(stream: Readable, announced: str | None, log: Log) -> Readable:
    """Undo gzip where there is one; say so where that is not what was announced.

    :param announced: the API's ``compressionAlgorithm``.
    :raises TruncatedDocumentError: a gzip was announced, and not a single byte came.
    """
    prefixed = Prefixed(stream, len(GZIP_MAGIC))
    if prefixed.head == GZIP_MAGIC:
        if announced is None:
            log.info("The document is compressed with gzip, though the API did not say so")
        return Gunzipped(prefixed)
    if announced and GZIP_MAGIC.startswith(prefixed.head):
        count = len(prefixed.head)
        raise TruncatedDocumentError(f"The document was announced as {announced}, but has {count} bytes")
    if announced:
        log.warning("The document was announced as %s, but is not: keeping its bytes as they are", announced)
    return prefixed


def spooled(stream: Readable) -> IO[bytes]:
    """Copy an archive to where it can be read in any order.

    :raises DocumentError: there is no space for it.
    """
    file = tempfile.SpooledTemporaryFile(_SPOOL)  # noqa: SIM115
    buffer = bytearray(CHUNK)
    while count := stream.readinto(buffer):
        try:
            file.write(memoryview(buffer)[:count])
        except OSError as error:
            raise DocumentError(f"The archive does not fit {tempfile.gettempdir()}: {error}") from error
    file.seek(0)
    return file
