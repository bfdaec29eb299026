"""The test of a connection: which part works, which does not, and what to check."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.client.errors import (
    AccessDeniedError,
    ApiError,
    InvalidParameterError,
    NotFoundError,
    RequestRejectedError,
    ThrottledError,
    TokenRefusedError,
    UnreachableError,
)
from airflow_provider_amzbiz.hooks.connection import extra_string, naming, read_extra

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.reports import ReportsClient
    from airflow_provider_amzbiz.compat import Connection

# Days after which an LWA client secret expires, and after which it should be rotated.
SECRET_DAYS = 180
SECRET_WARNING_DAYS = 150

# A well-formed id that no report has: getReport is the cheapest call (2 per second).
_NO_REPORT = "0"


def check(client: ReportsClient, secret_age: int | None) -> tuple[bool, str]:
    """Request a token and make one cheap call with it.

    :param secret_age: days since the client secret was created, if that is known.
    :return: whether both worked, and a message about what did and what did not.
    """
    try:
        client.token()
    except ApiError as error:
        return False, f"No access token: {error}{_token_hint(error, secret_age)}"
    endpoint = client.config.endpoint
    try:
        client.get_report(_NO_REPORT)
    except ApiError as error:
        # "No such report", with an error code of the API, means success: without the role it is a 403, and another
        # server's 404 has no such code.
        if not (isinstance(error, (NotFoundError, RequestRejectedError)) and error.code):
            return False, (
                "Login with Amazon gave an access token, so Client ID, Client secret and Refresh token are right; "
                f"but {_failure(endpoint, error)}"
            )
    works = (
        f"Login with Amazon gave an access token, {endpoint} accepts it, and the application has the role that "
        "getReport needs"
    )
    reached, store = _check_store(client)
    if not reached:
        return False, f"{works}; but {store}"
    return True, f"{works}. {store}{_age(secret_age)}"


def _check_store(client: ReportsClient) -> tuple[bool, str]:
    """Return whether the rate limit store works, and a sentence about it; an empty one where there is none."""
    from airflow_provider_amzbiz.client.limit_store import LimitStore, StoreUnavailableError

    address = client.config.rate_limit_store
    if address is None:
        return True, ""
    try:
        LimitStore(address).check()
    except StoreUnavailableError as error:
        return False, (
            f"the rate limit store {address.name!r} cannot be used ({error}), so each process counts its own "
            "calls; check the connection that rate_limit_store names"
        )
    return True, f"The rate limit store {address.name!r} works. "


def secret_age(connection: Connection) -> int | None:
    """Return the days since the client secret was created; None if the connection does not name the date.

    :raises InvalidParameterError: the date is no ISO date, or is in the future.
    """
    with naming(connection):
        created_on = extra_string(read_extra(connection), "client_secret_created_on")
        return None if created_on is None else _days_since(created_on)


def _days_since(created_on: str) -> int:
    try:
        days = (datetime.now(timezone.utc).date() - date.fromisoformat(created_on)).days
    except ValueError:
        # Not shown, because it may be a secret in the wrong field.
        raise InvalidParameterError(
            f"client_secret_created_on is a string of {len(created_on)} characters, but must be an ISO date such "
            "as 2026-10-31"
        ) from None
    # In a time zone ahead of UTC, a secret may have been created on a day that has not begun here.
    if days < -1:
        raise InvalidParameterError(
            f"client_secret_created_on is {created_on!r}, which is in the future, but must be the day on which "
            "the Client secret was created"
        )
    return max(days, 0)


def _token_hint(error: ApiError, secret_age: int | None) -> str:
    no_lwa = isinstance(error, (AccessDeniedError, NotFoundError, RequestRejectedError, UnreachableError))
    if no_lwa or (error.code is None and error.status is not None and error.status < 400):
        return "; check Token URL"
    if error.code == "invalid_client" and secret_age is not None:
        return f". By its date, the Client secret is {secret_age} days old"
    return ""


def _failure(endpoint: str, error: ApiError) -> str:
    if isinstance(error, ThrottledError):
        return f"the account's limit is used up, so the rest could not be tested; try again in a minute: {error}"
    if error.status is not None and error.status < 500 and error.code is None:
        return f"{endpoint} does not respond as the Amazon Business API does; check Endpoint: {error}"
    if isinstance(error, UnreachableError):
        return f"{error}; check Region and Endpoint"
    if isinstance(error, AccessDeniedError):
        return (
            f"{endpoint} denied access: {error}; or the Refresh token is of another region than this host. A role "
            "that is added later needs a new consent, and so a new Refresh token"
        )
    if isinstance(error, TokenRefusedError):
        return f"{endpoint} does not accept it: {error}; Token URL and Endpoint must belong together"
    return f"{endpoint} has a fault; try again: {error}"


def _age(days: int | None) -> str:
    if days is None:
        return (
            f'Set "Secret created on" to see here how many of the {SECRET_DAYS} days of a Client secret are left'
        )
    left = SECRET_DAYS - days
    if left <= 0:
        return (
            f'By its "Secret created on", the Client secret is {days} days old, but one expires after '
            f"{SECRET_DAYS}; set the date of the newest"
        )
    message = f"The Client secret is {days} days old; {left} of its {SECRET_DAYS} days are left"
    return f"{message}: rotate it in time" if days >= SECRET_WARNING_DAYS else message
