"""The beginning of a document as text, for an error message."""

from __future__ import annotations

import logging

from airflow_provider_amzbiz.documents.download import DocumentStream, Fetch
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.documents.unwrap import ZIP_MAGICS, Prefixed, gunzip

log = logging.getLogger(__name__)

# No character of UTF-8 is longer.
_BYTES_PER_CHARACTER = 4


def read_head(fetch_document: Fetch, *, limit: int = 2000, allow_http: bool = False) -> str:
    """Return the first ``limit`` characters of a document; what is no UTF-8 shows as U+FFFD.

    :raises DocumentError: it cannot be downloaded or unpacked.
    """
    with worker_errors(), DocumentStream(fetch_document, allow_http=allow_http, log=log) as stream:
        stream.start()
        decoded = gunzip(stream, stream.compression_algorithm, log)
        head = Prefixed(decoded, limit * _BYTES_PER_CHARACTER).head
    if head.startswith(ZIP_MAGICS):
        return "(a ZIP archive)"
    return head.decode("utf-8", "replace")[:limit]
