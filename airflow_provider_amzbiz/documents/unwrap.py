"""Undoing gzip and ZIP, by the first bytes of the content: :mod:`.gunzip` and :mod:`.archive` do the work."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import IO

from airflow_provider_amzbiz.documents.download import DocumentStream
from airflow_provider_amzbiz.documents.errors import DocumentError, TruncatedDocumentError
from airflow_provider_amzbiz.documents.gunzip import GZIP_MAGIC, Gunzipped
from airflow_provider_amzbiz.documents.streams import CHUNK, Log, Prefixed, Readable

# The first bytes of an archive, and of an archive without entries.
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
# Bytes of an archive that stay in memory; a larger one is written to a temporary file.
_MAX_IN_MEMORY = 8 * 1024**2


def gunzip(stream: DocumentStream, content: Readable, log: Log) -> Readable:
    """Undo gzip if there is one; log if that is not what the API announced.

    :param content: the bytes of the stream.
    :raises TruncatedDocumentError: a gzip was announced, and the document ends before its first two bytes.
    :raises UnsupportedDocumentError: the host compressed the document in a way that cannot be undone.
    """
    announced = stream.url.compression_algorithm
    prefixed = Prefixed(content, len(GZIP_MAGIC))
    if prefixed.head == GZIP_MAGIC:
        if announced is None:
            log.info("The document is compressed with gzip, although the API did not announce it")
        return Gunzipped(prefixed)
    stream.head.check_encoding()
    if announced and GZIP_MAGIC.startswith(prefixed.head):
        count = len(prefixed.head)
        raise TruncatedDocumentError(f"The document was announced as {announced}, but has {count} bytes")
    if announced:
        log.warning("The document was announced as %s, but is not compressed: keeping its bytes", announced)
    return prefixed


def spooled(stream: Readable) -> IO[bytes]:
    """Copy an archive to a file that can be read in any order.

    :raises DocumentError: there is no space for it.
    """
    file = tempfile.SpooledTemporaryFile(_MAX_IN_MEMORY)  # noqa: SIM115
    buffer = bytearray(CHUNK)
    try:
        while count := stream.readinto(buffer):
            try:
                file.write(memoryview(buffer)[:count])
            except OSError as error:
                raise DocumentError(f"The archive does not fit into {tempfile.gettempdir()}: {error}") from error
        file.seek(0)
    except BaseException:
        # Closing writes what is buffered, which does not fit either.
        with suppress(OSError):
            file.close()
        raise
    return file
