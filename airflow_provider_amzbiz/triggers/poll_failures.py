"""What the error of a poll means for the wait: the one place that decides it."""

from __future__ import annotations

import time
from enum import Enum

from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    ConnectionNotFoundError,
    ReportNotFoundError,
    ThrottledError,
)


class PollFailure(Enum):
    """Which waits a failed poll concerns, and whether a later poll may work."""

    #: A later poll may work: throttling, network, 5xx, an unreadable response, a connection that cannot be read.
    TRANSIENT = "transient"
    #: The report was just created, and the API does not know it yet.
    NOT_YET = "not yet"
    #: The credentials of the connection are rejected, which concerns all of its waits.
    CREDENTIALS = "credentials"
    #: Access is denied: the report belongs to another account, or the role is missing.
    DENIED = "denied"
    #: The request itself is rejected, which concerns this report, or this listing, alone.
    REQUEST = "request"


def classify(error: AmazonBusinessError, *, not_found_grace_until: float = 0.0) -> PollFailure:
    """Return what the error of a poll means.

    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    """
    if isinstance(error, AuthenticationError):
        return PollFailure.CREDENTIALS
    if isinstance(error, AccessDeniedError):
        return PollFailure.DENIED
    if isinstance(error, ConnectionNotFoundError) or not isinstance(error, AmazonBusinessPermanentError):
        # Airflow also reports that there is no connection while its database is out of reach.
        return PollFailure.TRANSIENT
    if isinstance(error, ReportNotFoundError) and time.time() < not_found_grace_until:
        return PollFailure.NOT_YET
    return PollFailure.REQUEST


def may_be_outdated(error: AmazonBusinessError) -> bool:
    """Return whether the connection should be read again, because it may have been corrected since.

    A wrong endpoint, or another account's, may cause any error but throttling.
    """
    return not isinstance(error, ThrottledError)
