"""What can go wrong between this client and the API, and how an HTTP response becomes an error."""

from __future__ import annotations

import json
import re
from itertools import takewhile
from typing import Any
from urllib.parse import quote, quote_plus

# A gateway may return a whole HTML page; its beginning is enough for an error.
_BODY_EXCERPT = 200
# Maximum characters of a server's message in an error, which is logged and stored in Airflow's database.
_MAX_MESSAGE = 2000
# A shorter secret may be part of any message by chance.
_MIN_SECRET = 6
# So many characters of a secret show that what follows is the rest of it, although the server has cut it.
_TELLING = 16
# Statuses of servers that did not wait for a request, or not yet: the next one may work.
_REQUEST_TIMEOUT, _TOO_EARLY = 408, 425


class ApiError(Exception):
    """An operation did not succeed.

    :ivar operation: operation id of the spec, such as ``createReport``, or ``token`` for the LWA exchange.
    :ivar status: HTTP status code, or None without a response.
    :ivar code: error code of the response, such as ``InvalidInput`` or ``invalid_grant``.
    :ivar details: the response's details, often the name of the offending parameter.
    :ivar request_id: ``x-amzn-RequestId`` of the response, which Amazon's support asks for.
    :ivar permanent: True if the same call cannot succeed later.
    :ivar attempts: how often it was sent.
    """

    permanent = True
    attempts = 1

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        status: int | None = None,
        code: str | None = None,
        details: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(_storable(message))
        self.operation = operation
        self.status = status
        self.code = None if code is None else _storable(code)
        self.details = None if details is None else _storable(details)
        self.request_id = request_id


class InvalidParameterError(ApiError, ValueError):
    """A parameter or a connection field is outside its allowed range; nothing was sent."""


class RequestRejectedError(ApiError):
    """The API rejected the request itself (400, 415 and the rarer 4xx)."""


class AuthenticationError(ApiError):
    """Client id, client secret or refresh token is not accepted."""


class AccessDeniedError(ApiError):
    """The token is good but the application or account may not do this (403)."""


class NotFoundError(ApiError):
    """No such report (404 with an error code of the API)."""


class TransientError(ApiError):
    """The same call may succeed later."""

    permanent = False


class ThrottledError(TransientError):
    """429: the request was throttled before it had any effect.

    :ivar retry_after: seconds that the response asked to wait, or None (the usual case).
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after


class UnreachableError(TransientError):
    """No connection could be made, or something in between responded, so the request had no effect."""


class UnavailableError(TransientError):
    """A 5xx, 408, 425, a broken connection or an unreadable response: the request may have had its effect."""


class TokenRefusedError(TransientError):
    """The API does not accept, or not yet accept, a fresh access token of Login with Amazon."""


class StoppedError(ApiError):
    """The caller must stop, so nothing more was sent; a later call may still do the same."""

    permanent = False


class ResponseLostError(TransientError):
    """createReport may have created a report whose id never arrived."""


def rejected_token(status: int, body: bytes) -> bool:
    """Return whether a response rejects the access token, as opposed to the application's role.

    The gateway returns 403 ``Unauthorized`` for both; only ``details`` differs, and names the token.
    """
    if status == 401:
        return True
    return status == 403 and "access token" in (_first_error(body).get("details") or "").lower()


def redacted(body: bytes, *secrets: str) -> bytes:
    """Return a response without secrets, in case a server repeats the request, or its beginning.

    :param secrets: removed as they are, and as forms and JSON encode them.
    """
    for secret in secrets:
        if len(secret) < _MIN_SECRET:
            continue
        encoded = {quote(secret, safe=""), quote_plus(secret)}
        lower = {re.sub("%..", lambda found: found[0].lower(), each) for each in encoded}
        forms = [each.encode() for each in (secret, json.dumps(secret)[1:-1], *encoded, *lower)]
        for start in {form[:_TELLING] for form in forms}:
            while (at := body.find(start)) >= 0:
                end = at + max(_common(body[at : at + len(form)], form) for form in forms)
                body = body[:at] + b"***" + body[end:]
    return body


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes two have in common at their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def error_from_response(
    operation: str,
    status: int,
    body: bytes,
    *,
    request_id: str | None,
    retry_after: float | None = None,
) -> ApiError:
    """Return the error for a response, whatever its body is (JSON, HTML, empty, null message).

    :param body: without secrets; see :func:`redacted`.
    :param retry_after: seconds, from a ``Retry-After`` header, if there was one.
    """
    first = _first_error(body)
    code, details = first.get("code"), first.get("details") or None
    explanation = first.get("message") or first.get("error_description") or _excerpt(body)
    message = f"{operation} returned {status}"
    if code:
        message += f" {code}"
    message += f": {explanation}" if explanation else " without an explanation"
    if details:
        message += f" ({details})"
    if request_id:
        message += f" [request id {request_id}]"
    context: dict[str, Any] = {
        "operation": operation,
        "status": status,
        "code": code,
        "details": details,
        "request_id": request_id,
    }
    if status == 429:
        return ThrottledError(message, retry_after=retry_after, **context)
    if rejected_token(status, body):
        kind = AuthenticationError if operation == "token" else TokenRefusedError
        return kind(message, **context)
    if status == 403:
        role = "; the application may lack the role Business Purchase Reconciliation"
        return AccessDeniedError(message if operation == "token" else message + role, **context)
    if status == 404 and not code:
        # The API's own 404 has a code. A proxy's says nothing about the report, and is no request that arrived.
        return UnreachableError(f"{message}; it is not the response of the API", **context)
    if status == 404 and operation != "token":
        return NotFoundError(message, **context)
    if 400 <= status < 500 and status not in (_REQUEST_TIMEOUT, _TOO_EARLY):
        return RequestRejectedError(message, **context)
    return UnavailableError(message, **context)


def _first_error(body: bytes) -> dict[str, Any]:
    """Return the first entry of an ErrorList as strings, or an empty dict for any other body."""
    try:
        parsed = json.loads(body)
        first = parsed["errors"][0]
        return {key: str(value)[:_MAX_MESSAGE] for key, value in first.items() if value is not None}
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return {}


def _storable(message: str) -> str:
    """Replace what UTF-8 cannot encode or PostgreSQL cannot store, so that every log and database accepts it."""
    return message.encode("utf-8", "replace").decode().replace("\0", "?")


def _excerpt(body: bytes) -> str:
    excerpt = " ".join(body[: 4 * _BODY_EXCERPT].decode("utf-8", "replace").split())
    return excerpt if len(excerpt) <= _BODY_EXCERPT else excerpt[:_BODY_EXCERPT] + "..."
