"""Faults on demand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_amzbiz.sandbox.responses import ApiResponse, error, quota_exceeded

KINDS = frozenset(
    {
        "status", "empty", "lost", "lost_status", "drop", "delay", "expire_token", "redirect",
        "cut", "stall", "slow", "expire_url", "no_range", "change_etag", "no_length", "content_encoding",
    }
)  # fmt: skip

# Faults of downloads only, and of operations and the token endpoint only.
_DOCUMENT_KINDS = frozenset(
    {"cut", "stall", "slow", "expire_url", "no_range", "change_etag", "no_length", "content_encoding"}
)
_API_KINDS = frozenset({"empty", "lost", "lost_status", "expire_token"})
# A call has one response, so only one of these can hit it; the others can be combined.
_RESPONSE_KINDS = frozenset(
    {"status", "empty", "lost", "lost_status", "drop", "expire_token", "redirect", "expire_url"}
)
_OPERATIONS = frozenset(
    {"createReport", "getReports", "getReport", "cancelReport", "getReportDocument", "token", "document", "*"}
)

# A page that the gateway has been seen to return instead of JSON.
HTML = "<html><head><title>503</title></head><body><h1>Website Temporarily Unavailable</h1></body></html>"
_CODES = {
    400: ("InvalidInput", "Invalid Input"),
    401: ("Unauthorized", "Access to requested resource is denied."),
    403: ("Unauthorized", "Access to requested resource is denied."),
    404: ("NotFound", "One or more of the provided ReportRequestIds could not be found."),
    500: ("InternalFailure", "We encountered an internal error. Please try again."),
}


@dataclass
class Fault:
    """A fault of the next calls of an operation.

    ====================  ================================================================================
    ``status``            returns ``status`` with ``body`` and ``headers``; nothing is carried out
    ``lost_status``       the same, but the operation is carried out
    ``empty``             carries out the operation and returns 200 with an empty body
    ``lost``              carries out the operation and closes the connection without a response
    ``drop``              closes the connection before anything is done
    ``delay``             waits ``seconds`` (real ones) before the usual response
    ``expire_token``      rejects the access token as expired, and expires all others
    ``redirect``          returns 302 to ``location``
    ``cut``               document: closes the connection after ``bytes`` of the body
    ``stall``             document: sends ``bytes`` of the body and then nothing for ``seconds``
    ``slow``              document: sends ``bytes_per_second``
    ``expire_url``        document: rejects the URL as expired
    ``no_range``          document: responds to a Range request with 200 and the whole document
    ``change_etag``       document: has another ETag from this request on
    ``no_length``         document: chunked, without a Content-Length
    ``content_encoding``  document: announces ``Content-Encoding: gzip``
    ====================  ================================================================================

    :param operation: operation id, ``token``, ``document`` (the download), or ``*``.
    :param kind: one of the above.
    :param times: how many calls it hits, by default 1; None for all.
    :param after: how many matching calls pass before it.
    :param body: ``json``, ``html``, ``empty``, ``null_message``, or the body itself.
    """

    operation: str
    kind: str
    times: int | None = 1
    after: int = 0
    status: int = 503
    body: str = "json"
    headers: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    bytes_per_second: int = 0
    location: str = "https://example.com/"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, but must be one of {sorted(KINDS)}")
        if self.operation not in _OPERATIONS:
            raise ValueError(f"operation is {self.operation!r}, but must be one of {sorted(_OPERATIONS)}")
        # With a fault that can never happen, a test would pass that tests nothing.
        if self.operation != "*" and not self._can_hit(self.operation):
            raise ValueError(f"{self.kind!r} cannot happen to {self.operation!r}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is {self.times!r}, but must be at least 1, or None for all calls")
        if min(self.after, self.bytes, self.seconds) < 0:
            raise ValueError("after, bytes and seconds must not be negative")
        if self.kind == "slow" and self.bytes_per_second < 1:
            raise ValueError(f"bytes_per_second is {self.bytes_per_second!r}, but must be at least 1")
        if not 200 <= self.status <= 599:
            raise ValueError(f"status is {self.status!r}, but must be from 200 to 599")

    @property
    def slot(self) -> str:
        """Of faults in one slot, only one can hit a call."""
        return "response" if self.kind in _RESPONSE_KINDS else self.kind

    def _can_hit(self, operation: str) -> bool:
        if operation == "document":
            return self.kind not in _API_KINDS
        if operation == "token":
            return self.kind not in _DOCUMENT_KINDS and self.kind != "expire_token"
        return self.kind not in _DOCUMENT_KINDS

    def take(self, operation: str, *, free: bool) -> bool:
        """Return whether this call is hit, and count it.

        :param free: whether no other fault has hit this call in the same :attr:`slot`.
        """
        if self.operation not in ("*", operation) or not self._can_hit(operation) or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if not free:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def response(self) -> ApiResponse:
        """Return the response of ``status``, ``lost_status`` and ``redirect``."""
        if self.kind == "redirect":
            return ApiResponse(302, b"", {"Location": self.location})
        if self.body == "json" and self.status == 429:
            response = quota_exceeded()
        elif self.body in ("json", "null_message"):
            code, message = _CODES.get(self.status, ("ServiceUnavailable", "Service is unavailable."))
            response = error(self.status, code, None if self.body == "null_message" else message)
        elif self.body == "html":
            response = ApiResponse(self.status, HTML.encode(), {"Content-Type": "text/html"})
        else:
            response = ApiResponse(self.status, b"" if self.body == "empty" else self.body.encode())
        response.headers.update(self.headers)
        return response


def fault_from_json(body: bytes) -> Fault:
    """Read a fault in the form of the HTTP control."""
    given = json.loads(body)
    if not isinstance(given, dict):
        raise ValueError("a fault is a JSON object")
    return Fault(**given)
