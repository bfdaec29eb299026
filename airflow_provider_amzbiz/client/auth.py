"""The access token: Login with Amazon (LWA), refresh-token flow, one token per account and process."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_provider_amzbiz.client.api_clock import clock_offset_of
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import (
    ApiError,
    AuthenticationError,
    UnavailableError,
    UnreachableError,
    error_from_response,
    redacted,
)
from airflow_provider_amzbiz.client.sleeping import CHECK_SECONDS

if TYPE_CHECKING:
    import requests

# Seconds before its expiry at which a token is replaced, so that it cannot expire in transit.
REFRESH_AHEAD = 60.0
# Lifetime in seconds of an access token where the response names none (LWA, access token), and the maximum.
_DEFAULT_LIFETIME = 3600.0
_MAX_LIFETIME = 86400.0
# Seconds to connect, and between two bytes of the response.
_TIMEOUT = (10.0, 30.0)

# Maximum characters of a response's code and description in an error.
_MAX_DESCRIPTION = 300

# OAuth's error codes for invalid credentials, whatever the HTTP status.
_REJECTED = frozenset({"invalid_client", "invalid_grant", "unauthorized_client"})
# OAuth's error codes for transient faults.
_TRANSIENT = frozenset({"server_error", "temporarily_unavailable", "slow_down"})
_HINTS = {
    "invalid_client": "check Client ID and Client secret; a secret expires after 180 days",
    "invalid_grant": "check the Refresh token; the customer may have revoked the grant",
    "unauthorized_client": "check that the Refresh token belongs to this Client ID",
}


class AccessTokens:
    """Holds the current access token of one account; one thread at a time requests the next one.

    :ivar clock_offset: seconds by which the clock of Login with Amazon was ahead when it gave the last token.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._token: str | None = None
        self._valid_until = 0.0
        # How many exchanges have failed, and the error of the last one.
        self._failures = 0
        self._failure: ApiError | None = None
        self.clock_offset = 0.0

    def current(self, session: requests.Session, check: Callable[[], None] = lambda: None) -> str:
        """Return a token that is valid for at least another minute.

        :param check: called twice a second while another thread's exchange is waited for; raises where the caller
            is to stop. By default nothing.
        :raises AuthenticationError: the credentials are rejected.
        :raises TransientError: LWA cannot be reached or has a fault.
        """
        failures = self._failures
        # Fifty threads that find the token expired wait here for the first one's exchange and then use its token.
        with self._held(check):
            if self._token is not None and time.monotonic() < self._valid_until:
                return self._token
            if self._failure is None or self._failures == failures:
                self._token = self._exchanged(session)
                return self._token
            # An exchange failed while this thread waited. If each repeated it, the last of fifty would wait for
            # fifty timeouts.
            failure = copy.copy(self._failure)
        raise failure

    def discard(self, token: str, check: Callable[[], None] = lambda: None) -> None:
        """Drop a token that the API rejected, unless another thread has replaced it already.

        :param check: as of :meth:`current`.
        """
        with self._held(check):
            if self._token == token:
                self._token = None

    def _exchanged(self, session: requests.Session) -> str:
        try:
            token, lifetime, self.clock_offset = _exchange(self._config, session)
        except ApiError as error:
            # The copy has no traceback, whose frames hold the secrets.
            self._failures, self._failure = self._failures + 1, copy.copy(error)
            raise
        self._failure = None
        self._valid_until = time.monotonic() + max(lifetime - REFRESH_AHEAD, 0.0)
        return token

    @contextmanager
    def _held(self, check: Callable[[], None]) -> Iterator[None]:
        while not self._lock.acquire(timeout=CHECK_SECONDS):
            check()
        try:
            yield
        finally:
            self._lock.release()


_known: dict[tuple[str, str, str, str], AccessTokens] = {}
_known_lock = threading.Lock()


def access_tokens(config: ClientConfig) -> AccessTokens:
    """Return the process's one :class:`AccessTokens` of an account."""
    key = (config.token_url, config.client_id, config.client_secret, config.refresh_token)
    with _known_lock:
        return _known.setdefault(key, AccessTokens(config))


def _exchange(config: ClientConfig, session: requests.Session) -> tuple[str, float, float]:
    """Request a new token (LWA, refresh request); return it, its lifetime and the clock's offset in seconds."""
    from airflow_provider_amzbiz.client.connection_failures import no_response_errors, reason

    form = {
        "grant_type": "refresh_token",
        "refresh_token": config.refresh_token,
        "client_id": config.client_id,
        "client_secret": config.client_secret,
    }
    response, failure = None, ""
    try:
        response = session.post(config.token_url, data=form, timeout=_TIMEOUT, allow_redirects=False)
    except no_response_errors() as error:
        failure = reason(error)
    if response is None:
        # Raised outside the except block, because the error of requests holds the secrets. For a token it makes no
        # difference how far the request got.
        raise UnreachableError(
            f"The LWA token endpoint {config.token_url} cannot be reached ({failure})", operation="token"
        )
    content = _json_object(response.content)
    token = content.get("access_token")
    if response.status_code == 200 and _fits_a_header(token):
        return token, _lifetime(content.get("expires_in")), clock_offset_of(response.headers) or 0.0
    secrets = config.client_secret, config.refresh_token, token if isinstance(token, str) else ""
    raise _rejection(response, redacted(response.content, *secrets))


def _fits_a_header(token: object) -> TypeGuard[str]:
    """Return whether it can be an access token (RFC 6749, appendix A.12), which is sent in a header."""
    return isinstance(token, str) and token.isascii() and token.isprintable() and bool(token) and " " not in token


def _lifetime(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        return _DEFAULT_LIFETIME
    # Compared before it is converted: no float can hold a number of 400 digits.
    return float(min(seconds, _MAX_LIFETIME))


def _rejection(response: requests.Response, body: bytes) -> ApiError:
    """Return the error of a response that has no token.

    :param body: of the response, without secrets.
    """
    status, content = response.status_code, _json_object(body)
    request_id = response.headers.get("x-amzn-RequestId")
    code, description = (_short(content.get(name)) for name in ("error", "error_description"))
    if code in _REJECTED:
        return AuthenticationError(
            f"Login with Amazon rejected the credentials: {code}: {description} ({_HINTS[code]}) "
            f"[request id {request_id}]",
            operation="token",
            status=status,
            code=code,
            request_id=request_id,
        )
    if status == 200:
        unfit = " that a header can carry" if content.get("access_token") else ""
        return UnavailableError(
            f"Login with Amazon returned 200 without an access token{unfit}",
            operation="token",
            status=status,
            request_id=request_id,
        )
    if status == 429:
        # Not a ThrottledError: that is about the limit of an operation, and this is not.
        return UnavailableError(
            f"Login with Amazon returned 429 {code or 'without an explanation'}: too many requests for a token",
            operation="token",
            status=status,
            code=code,
            request_id=request_id,
        )
    if code and 400 <= status < 500 and code not in _TRANSIENT:
        message = f"Login with Amazon returned {status} {code}: {description}"
        return AuthenticationError(message, operation="token", status=status, code=code, request_id=request_id)
    if code in _TRANSIENT and status < 500:
        return UnavailableError(
            f"Login with Amazon returned {status} {code}", operation="token", status=status, code=code
        )
    # The error repeats the body only if it cannot be a token, such as one cut short or sent with another status.
    readable = "errors" in content or body.lstrip().startswith(b"<")
    error = error_from_response("token", status, body if readable else b"", request_id=request_id)
    if error.permanent and error.code is None and not isinstance(error, AuthenticationError):
        # Login with Amazon itself gives a code, so it may be a proxy's response, for the moment.
        return UnreachableError(
            f"{error}; check Token URL", operation="token", status=status, request_id=request_id
        )
    return error


def _short(value: object) -> str | None:
    """Return the beginning of a response's string; None for every other type."""
    return value[:_MAX_DESCRIPTION] if isinstance(value, str) else None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
