"""What a failed poll means: the one place that decides it."""

from __future__ import annotations

from enum import Enum

from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    ConnectionNotFoundError,
    ThrottledError,
)


class PollFailure(Enum):
    """Whom a failed poll concerns, and whether it passes."""

    #: Passes: throttling, the network, 5xx, an unreadable response, a connection that cannot be read.
    TRANSIENT = "transient"
    #: The credentials of the connection are refused, which concerns all of its waits.
    CREDENTIALS = "credentials"
    #: Access to what was asked for is denied: this report's owner is another, or the role is missing.
    DENIED = "denied"
    #: The request itself is refused, which concerns this report, or this listing, alone.
    REQUEST = "request"


def classify(error: AmazonBusinessError) -> PollFailure:
    """Tell what the error of a poll means."""
    if isinstance(error, AuthenticationError):
        return PollFailure.CREDENTIALS
    if isinstance(error, AccessDeniedError):
        return PollFailure.DENIED
    if isinstance(error, ConnectionNotFoundError) or not isinstance(error, AmazonBusinessPermanentError):
        # Airflow says that there is no connection also while its database is out of reach.
        return PollFailure.TRANSIENT
    return PollFailure.REQUEST


def may_be_outdated(error: AmazonBusinessError) -> bool:
    """Tell whether the connection should be read again, because it may have been corrected since it was read.

    An endpoint that is gone, or that of another account, shows in many ways; throttling is none of them.
    """
    return not isinstance(error, ThrottledError)
