"""The access token: Login with Amazon (LWA), refresh-token flow, one token per account and process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.account import Account
from airflow_provider_amzbiz.client.errors import (
    ApiError,
    AuthenticationError,
    UnavailableError,
    UnreachableError,
    error_from_answer,
)

if TYPE_CHECKING:
    import requests

# Seconds before its end at which a token is replaced, so that it cannot run out on its way.
REFRESH_AHEAD = 60.0
# Seconds an access token lives where the answer does not say (LWA, access token).
_USUAL_LIFETIME = 3600.0
# Seconds to connect, and between two bytes of the answer.
_TIMEOUT = (10.0, 30.0)

# OAuth's words for "these credentials are not good", whatever the HTTP status.
_REFUSED = frozenset({"invalid_client", "invalid_grant", "unauthorized_client"})
# OAuth's words for a fault that passes.
_PASSING = frozenset({"server_error", "temporarily_unavailable", "slow_down"})
_HINTS = {
    "invalid_client": "check Client ID and Client secret; a secret lives 180 days",
    "invalid_grant": "check the Refresh token; the customer may have revoked the grant",
    "unauthorized_client": "check that the Refresh token belongs to this Client ID",
}


class AccessTokens:
    """Gives the current access token of one account, and gets the next one, by one thread at a time."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._lock = threading.Lock()
        self._token: str | None = None
        self._good_until = 0.0

    def current(self, session: requests.Session) -> str:
        """Return a token that is good for another minute at least.

        :raises AuthenticationError: the credentials are refused.
        :raises TransientError: LWA cannot be reached or has a fault.
        """
        # Fifty threads that find the token old wait here for the first one's exchange and then use it.
        with self._lock:
            if self._token is None or time.monotonic() >= self._good_until:
                self._token, lifetime = _exchange(self._account, session)
                self._good_until = time.monotonic() + max(lifetime - REFRESH_AHEAD, 0.0)
            return self._token

    def discard(self, token: str) -> None:
        """Forget a token that the API refused, unless another thread has replaced it already."""
        with self._lock:
            if self._token == token:
                self._token = None


_known: dict[tuple[str, str, str, str], AccessTokens] = {}
_known_lock = threading.Lock()


def access_tokens(account: Account) -> AccessTokens:
    """Return the process's one :class:`AccessTokens` of an account."""
    key = (account.token_url, account.client_id, account.client_secret, account.refresh_token)
    with _known_lock:
        return _known.setdefault(key, AccessTokens(account))


def _exchange(account: Account, session: requests.Session) -> tuple[str, float]:
    """Get a new token and its lifetime in seconds (LWA, refresh request)."""
    from airflow_provider_amzbiz.client.failures import reason

    form = {
        "grant_type": "refresh_token",
        "refresh_token": account.refresh_token,
        "client_id": account.client_id,
        "client_secret": account.client_secret,
    }
    answer, failure = None, ""
    try:
        answer = session.post(account.token_url, data=form, timeout=_TIMEOUT, allow_redirects=False)
    # Those of requests are OSErrors, and so is what it raises for a CA bundle that is missing.
    except OSError as error:
        failure = reason(error)
    if answer is None:
        # Not raised where the error of requests is being handled, because that holds the secrets. For a token it
        # makes no difference how far the request came.
        raise UnreachableError(
            f"The LWA token endpoint {account.token_url} cannot be reached ({failure})", operation="token"
        )
    content = _json_object(answer)
    token = content.get("access_token")
    if answer.status_code == 200 and isinstance(token, str) and token:
        lifetime = content.get("expires_in")
        return token, float(lifetime) if isinstance(lifetime, (int, float)) else _USUAL_LIFETIME
    raise _refusal(answer, content)


def _refusal(answer: requests.Response, content: dict[str, Any]) -> ApiError:
    status = answer.status_code
    request_id = answer.headers.get("x-amzn-RequestId")
    code = content.get("error")
    if code in _REFUSED:
        return AuthenticationError(
            f"Login with Amazon refused the credentials: {code}: {content.get('error_description')} "
            f"({_HINTS[code]}) [request id {request_id}]",
            operation="token",
            status=status,
            code=code,
            request_id=request_id,
        )
    if status == 200:
        return UnavailableError(
            "Login with Amazon answered 200 without an access token",
            operation="token",
            status=status,
            request_id=request_id,
        )
    if isinstance(code, str) and status < 500 and status != 429 and code not in _PASSING:
        text = f"Login with Amazon answered {status} {code}: {content.get('error_description')}"
        return AuthenticationError(text, operation="token", status=status, code=code, request_id=request_id)
    if code in _PASSING and status < 500 and status != 429:
        return UnavailableError(
            f"Login with Amazon answered {status} {code}", operation="token", status=status, code=code
        )
    return error_from_answer("token", status, answer.content, request_id=request_id)


def _json_object(answer: requests.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
