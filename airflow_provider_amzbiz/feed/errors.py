"""What can go wrong with the feed as a whole."""

from __future__ import annotations

from airflow_provider_amzbiz.documents.errors import DocumentError


class FeedStateError(DocumentError):
    """An object of the feed's state cannot be used as it is; the message names it and the remedy."""

    permanent = True
