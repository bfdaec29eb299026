"""Responses in the form of Amazon's gateway, and its known errors."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

# Status codes on which the spec still promises the rate header.
_WITH_RATE = frozenset({200, 202, 400, 404})
# Messages of 400, as recorded from the sibling Selling Partner API.
CONSTRAINT = "One or more parameters does not conform to the schema constraints."
MISSING = "One or more required parameters missing"


@dataclass
class ApiResponse:
    """An HTTP response before it is sent."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class ErrorResponse(Exception):  # noqa: N818
    """Ends the handling of a request with an error response."""

    def __init__(self, response: ApiResponse) -> None:
        super().__init__(response.status)
        self.response = response


def good(body: Any, status: int = 200) -> ApiResponse:
    """Return JSON."""
    return ApiResponse(status, json.dumps(body, separators=(",", ":")).encode())


def error(status: int, code: str, message: str | None, details: str | None = "") -> ApiResponse:
    """Return an ErrorList; ``details=None`` leaves the field out, as some recorded responses do."""
    entry = {"code": code, "message": message}
    if details is not None:
        entry["details"] = details
    return ApiResponse(status, json.dumps({"errors": [entry]}, indent=2).encode())


def invalid(message: str | None, details: str | None = "") -> ErrorResponse:
    """Return a 400 InvalidInput to raise."""
    return ErrorResponse(error(400, "InvalidInput", message, details))


def denied(details: str, status: int = 403) -> ErrorResponse:
    """Return the rejection of an access token to raise."""
    response = error(status, "Unauthorized", "Access to requested resource is denied.", details)
    response.headers["x-amzn-ErrorType"] = "AccessDeniedException"
    return ErrorResponse(response)


def quota_exceeded() -> ApiResponse:
    """Return the 429 as recorded from the sibling Selling Partner API: no Retry-After, no rate header."""
    response = error(429, "QuotaExceeded", "You exceeded your quota for the requested resource.")
    response.headers["x-amzn-ErrorType"] = "TooManyRequestsException"
    return response


def no_operation() -> ApiResponse:
    """Return the gateway's response to an unknown path or method, which is that to a forbidden one."""
    return denied("").response


def not_found() -> ErrorResponse:
    """Return the 404 of an unknown report to raise."""
    message = "One or more of the provided ReportRequestIds could not be found."
    return ErrorResponse(error(404, "NotFound", message, None))


def with_gateway_headers(response: ApiResponse, rate: str | None) -> ApiResponse:
    """Add the gateway's headers; ``rate`` only on the responses that carry it."""
    trace = uuid.uuid4().hex
    headers = {
        "Server": "Server",
        "Content-Type": "application/json",
        "x-amzn-RequestId": str(uuid.uuid4()),
        "x-amz-rid": trace[:20].upper(),
        "x-amz-apigw-id": trace[:16],
        "X-Amzn-Trace-Id": f"Root=1-{trace[:8]}-{trace[8:32]}",
        "Vary": "Content-Type,Accept-Encoding,User-Agent",
        "Strict-Transport-Security": "max-age=47474747; includeSubDomains; preload",
    }
    if rate is not None and response.status in _WITH_RATE:
        headers["x-amzn-RateLimit-Limit"] = rate
    response.headers = {**headers, **response.headers}
    return response
