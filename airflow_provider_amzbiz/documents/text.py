"""The beginning of a document as text, for an error message."""

from __future__ import annotations

import logging

from airflow_provider_amzbiz.documents.document_url import DocumentUrl, Fetch
from airflow_provider_amzbiz.documents.download import DocumentStream
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.documents.streams import Prefixed
from airflow_provider_amzbiz.documents.unwrap import ZIP_MAGICS, gunzip
from airflow_provider_amzbiz.documents.watch import Watch

log = logging.getLogger(__name__)

# The longest character of UTF-8.
_BYTES_PER_CHARACTER = 4
# Maximum seconds that an error message waits for it.
_TIME_LIMIT = 30.0


def read_head(
    fetch_document: Fetch, *, limit: int = 2000, allow_http: bool = False, api_host: str | None = None
) -> str:
    """Return the first ``limit`` characters of a document; invalid UTF-8 is replaced by U+FFFD.

    :raises DocumentError: it cannot be downloaded or unpacked.
    """
    watch = Watch(lambda: False, _TIME_LIMIT)
    url = DocumentUrl(fetch_document, allow_http=allow_http, api_host=api_host)
    stream = DocumentStream(url, log=log, watch=watch)
    with worker_errors(), stream:
        stream.start()
        decoded = gunzip(stream, stream, log)
        head = Prefixed(decoded, limit * _BYTES_PER_CHARACTER).head
    if head.startswith(ZIP_MAGICS):
        return "(a ZIP archive)"
    return head.decode("utf-8", "replace")[:limit]
