"""The access token: Login with Amazon (LWA), refresh-token flow, one token per account and process."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import (
    ApiError,
    AuthenticationError,
    UnavailableError,
    UnreachableError,
    error_from_response,
)

if TYPE_CHECKING:
    import requests

# Seconds before its end at which a token is replaced, so that it cannot run out on its way.
REFRESH_AHEAD = 60.0
# Seconds an access token lives where the response does not say (LWA, access token), and the most that is believed.
_USUAL_LIFETIME = 3600.0
_LONGEST_LIFETIME = 86400.0
# Seconds to connect, and between two bytes of the answer.
_TIMEOUT = (10.0, 30.0)

# Characters of what a response says that an error repeats.
_MOST_SAID = 300

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

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
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
                self._token, lifetime = _exchange(self._config, session)
                self._good_until = time.monotonic() + max(lifetime - REFRESH_AHEAD, 0.0)
            return self._token

    def discard(self, token: str) -> None:
        """Forget a token that the API refused, unless another thread has replaced it already."""
        with self._lock:
            if self._token == token:
                self._token = None


_known: dict[tuple[str, str, str, str], AccessTokens] = {}
_known_lock = threading.Lock()


def access_tokens(config: ClientConfig) -> AccessTokens:
    """Return the process's one :class:`AccessTokens` of an account."""
    key = (config.token_url, config.client_id, config.client_secret, config.refresh_token)
    with _known_lock:
        return _known.setdefault(key, AccessTokens(config))


def _exchange(config: ClientConfig, session: requests.Session) -> tuple[str, float]:
    """Get a new token and its lifetime in seconds (LWA, refresh request)."""
    from airflow_provider_amzbiz.client.connection_failures import no_response_errors, reason

    form = {
        "grant_type": "refresh_token",
        "refresh_token": config.refresh_token,
        "client_id": config.client_id,
        "client_secret": config.client_secret,
    }
    answer, failure = None, ""
    try:
        answer = session.post(config.token_url, data=form, timeout=_TIMEOUT, allow_redirects=False)
    except no_response_errors() as error:
        failure = reason(error)
    if answer is None:
        # Not raised where the error of requests is being handled, because that holds the secrets. For a token it
        # makes no difference how far the request came.
        raise UnreachableError(
            f"The LWA token endpoint {config.token_url} cannot be reached ({failure})", operation="token"
        )
    content = _json_object(answer)
    token = content.get("access_token")
    if answer.status_code == 200 and _fits_a_header(token):
        return token, _lifetime(content.get("expires_in"))
    raise _refusal(answer, content).hide(
        config.client_secret, config.refresh_token, token if isinstance(token, str) else ""
    )


def _fits_a_header(token: object) -> TypeGuard[str]:
    """Tell whether it can be an access token (RFC 6749, appendix A.12), sent as the value of a header."""
    return isinstance(token, str) and token.isascii() and token.isprintable() and bool(token) and " " not in token


def _lifetime(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        return _USUAL_LIFETIME
    # Compared before it is converted: no float holds a number of 400 digits.
    return float(min(seconds, _LONGEST_LIFETIME))


def _refusal(answer: requests.Response, content: dict[str, Any]) -> ApiError:
    status = answer.status_code
    request_id = answer.headers.get("x-amzn-RequestId")
    code, said = (_text(content.get(name)) for name in ("error", "error_description"))
    if code in _REFUSED:
        return AuthenticationError(
            f"Login with Amazon refused the credentials: {code}: {said} ({_HINTS[code]}) "
            f"[request id {request_id}]",
            operation="token",
            status=status,
            code=code,
            request_id=request_id,
        )
    if status == 200:
        unfit = " that a header can carry" if content.get("access_token") else ""
        return UnavailableError(
            f"Login with Amazon answered 200 without an access token{unfit}",
            operation="token",
            status=status,
            request_id=request_id,
        )
    if status == 429:
        # Not a ThrottledError: that is about the limit of an operation, which this says nothing of.
        return UnavailableError(
            f"Login with Amazon answered 429 {code or 'without an explanation'}: too many requests for a token",
            operation="token",
            status=status,
            code=code,
            request_id=request_id,
        )
    if code and 400 <= status < 500 and code not in _PASSING:
        text = f"Login with Amazon answered {status} {code}: {said}"
        return AuthenticationError(text, operation="token", status=status, code=code, request_id=request_id)
    if code in _PASSING and status < 500:
        return UnavailableError(
            f"Login with Amazon answered {status} {code}", operation="token", status=status, code=code
        )
    # Only what cannot be a token that came cut short, or with a status of its own, is repeated.
    readable = "errors" in content or answer.content.lstrip().startswith(b"<")
    return error_from_response("token", status, answer.content if readable else b"", request_id=request_id)


def _text(value: object) -> str | None:
    """Return a response's string, not longer than a person reads; None for every other type."""
    return value[:_MOST_SAID] if isinstance(value, str) else None


def _json_object(answer: requests.Response) -> dict[str, Any]:
    try:
        content = json.loads(answer.content)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
