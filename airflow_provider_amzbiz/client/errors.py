"""What can go wrong between this client and the API, and how an HTTP answer becomes an error."""

from __future__ import annotations

import json
from typing import Any

# A gateway may answer with a whole HTML page; a person needs its beginning.
_BODY_EXCERPT = 200
# Characters of what a server says that an error keeps: it is logged, and stored in Airflow's database.
_MOST_SAID = 2000
_SHORTEST_SECRET = 6


class ApiError(Exception):
    """An operation did not succeed.

    :ivar operation: operation id of the spec, such as ``createReport``, or ``token`` for the LWA exchange.
    :ivar status: HTTP status, or None where no answer came.
    :ivar code: error code of the answer, such as ``InvalidInput`` or ``invalid_grant``.
    :ivar details: the answer's details, often the name of the offending parameter.
    :ivar request_id: ``x-amzn-RequestId`` of the answer, which Amazon's support asks for.
    :ivar permanent: True when the same call cannot succeed later.
    :ivar tries: how often it was sent.
    """

    permanent = True
    tries = 1

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

    def hide(self, *secrets: str) -> ApiError:
        """Take secrets out of what the error shows, in case a server repeats them; return the error."""

        def hidden(text: Any) -> Any:
            for secret in secrets:
                # Of shorter ones, every text has some by chance.
                if isinstance(text, str) and len(secret) >= _SHORTEST_SECRET:
                    text = text.replace(secret, "***")
            return text

        self.args = tuple(hidden(each) for each in self.args)
        for name in ("code", "details", "request_id"):
            setattr(self, name, hidden(getattr(self, name)))
        return self


class InvalidParameterError(ApiError, ValueError):
    """A parameter or a connection field is outside its allowed range; nothing was sent."""


class RequestRejectedError(ApiError):
    """The API refused the request itself (400, 415 and the rarer 4xx)."""


class AuthenticationError(ApiError):
    """Client id, client secret or refresh token is not accepted."""


class AccessDeniedError(ApiError):
    """The token is good but the application or account may not do this (403)."""


class NotFoundError(ApiError):
    """No such report (404)."""


class TransientError(ApiError):
    """Asking again later may succeed."""

    permanent = False


class ThrottledError(TransientError):
    """429: the request was refused before it had any effect.

    :ivar retry_after: seconds the answer asked to wait, or None (the usual case).
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after


class UnreachableError(TransientError):
    """No connection could be made, so the request had no effect."""


class UnavailableError(TransientError):
    """A 5xx, a broken connection or an unreadable answer: the request may have had its effect."""


class TokenRefusedError(TransientError):
    """A fresh access token is refused: Login with Amazon takes the credentials, the API does not, or not yet."""


class StoppedError(ApiError):
    """The caller was told to stop, so nothing more was sent; what the call should have done may still be done."""

    permanent = False


class ResponseLostError(TransientError):
    """createReport may have made a report whose id never arrived."""


def rejected_token(status: int, body: bytes) -> bool:
    """Tell whether an answer refuses the access token, as opposed to the application's role.

    The gateway answers 403 ``Unauthorized`` for both; only ``details`` differs, and names the token.
    """
    if status == 401:
        return True
    return status == 403 and "access token" in (_first_error(body).get("details") or "").lower()


def error_from_response(
    operation: str,
    status: int,
    body: bytes,
    *,
    request_id: str | None,
    retry_after: float | None = None,
) -> ApiError:
    """Make the error that fits an answer, whatever its body is (JSON, HTML, empty, null message).

    :param retry_after: seconds, from a ``Retry-After`` header, if there was one.
    """
    first = _first_error(body)
    code, details = first.get("code"), first.get("details") or None
    said = first.get("message") or first.get("error_description") or _excerpt(body)
    text = f"{operation} was answered {status}"
    if code:
        text += f" {code}"
    text += f": {said}" if said else " without an explanation"
    if details:
        text += f" ({details})"
    if request_id:
        text += f" [request id {request_id}]"
    context: dict[str, Any] = {
        "operation": operation,
        "status": status,
        "code": code,
        "details": details,
        "request_id": request_id,
    }
    if status == 429:
        return ThrottledError(text, retry_after=retry_after, **context)
    if rejected_token(status, body):
        kind = AuthenticationError if operation == "token" else TokenRefusedError
        return kind(text, **context)
    if status == 403:
        role = "; the application may lack the role Business Purchase Reconciliation"
        return AccessDeniedError(text if operation == "token" else text + role, **context)
    if status == 404:
        return NotFoundError(text, **context)
    if 400 <= status < 500:
        return RequestRejectedError(text, **context)
    return UnavailableError(text, **context)


def _first_error(body: bytes) -> dict[str, Any]:
    """Return the first entry of an ErrorList as strings, or an empty dict for any other body."""
    try:
        parsed = json.loads(body)
        first = parsed["errors"][0]
        return {key: str(value)[:_MOST_SAID] for key, value in first.items() if value is not None}
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return {}


def _storable(text: str) -> str:
    """Replace what UTF-8 cannot encode or PostgreSQL cannot store, so that every log and database takes it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _excerpt(body: bytes) -> str:
    text = " ".join(body[: 4 * _BODY_EXCERPT].decode("utf-8", "replace").split())
    return text if len(text) <= _BODY_EXCERPT else text[:_BODY_EXCERPT] + "..."
