"""The three operations of the Reconciliation API 2021-01-08."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.reconciliation_wire import Wire
from airflow_provider_amzbiz.sandbox.responses import ApiResponse, ErrorResponse, error, good
from airflow_provider_amzbiz.sandbox.state import SandboxAccount

# Lines, or invoices, of one call.
_CHUNK = 25
_DATES = ("feedStartDate", "feedEndDate")
_TOKEN = "nextPageToken"  # noqa: S105
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_STYLES: Mapping[str, tuple[str, ...]] = {
    "token_style": ("any", "with_dates", "alone"),
    "last_token": ("absent", "null", "empty"),
    "unknown_lines": ("empty", "omit", "reject"),
}


@dataclass(frozen=True)
class ReconciliationSettings:
    """What sources leave open, or contradict each other on.

    :param page_size: transactions of a page.
    :param token_style: what goes with a page token: ``with_dates``, as clients do it; ``alone``, as the model has
        it; or ``any``. Everything else is a 400.
    :param last_token: the token on the last page: ``absent``, ``null`` or ``empty``.
    :param token_seconds: sandbox seconds for which a page token is accepted, then 400.
    :param max_window_days: a wider window gets 504; None for no limit.
    :param unknown_lines: whether invoice details of an order line that there is not are ``empty``, the line is
        left out of the response (``omit``), or the whole call gets 404 (``reject``).
    """

    page_size: int = 100
    token_style: str = "any"  # noqa: S105
    last_token: str = "absent"  # noqa: S105
    token_seconds: float = 3600
    max_window_days: float | None = None
    unknown_lines: str = "empty"

    def __post_init__(self) -> None:
        for name, allowed in _STYLES.items():
            if (given := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {given!r}, but must be one of {list(allowed)}")
        if self.page_size < 1:
            raise ValueError(f"page_size is {self.page_size!r}, but must be at least 1")


@dataclass(frozen=True)
class _Rest:
    """The pages that are left of a query.

    :ivar start: how many of the transactions were on earlier pages.
    """

    dates: tuple[str, ...]
    transaction_ids: list[str]
    start: int
    expires: datetime


class ReconciliationOperations:
    """Carries out the operations for an authenticated account."""

    def __init__(self, clock: Clock, settings: ReconciliationSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._rests: dict[tuple[int, str], _Rest] = {}

    def get_transactions(self, account: SandboxAccount, query: str) -> ApiResponse:
        """Spec, getTransactions: in no order that a caller could rely on."""
        given = dict(parse_qsl(query, keep_blank_values=True))
        rest = self._continued(account, given) if given.get(_TOKEN) else self._begun(account, given)
        end = rest.start + self._settings.page_size
        page = rest.transaction_ids[rest.start : end]
        response: dict[str, Any] = {"transactions": self._rows(account, page)}
        if end < len(rest.transaction_ids):
            # All the signs that need encoding.
            token = base64.b64encode(b"\xfb\xff\xbf" + os.urandom(31)).decode()
            expires = self._clock.now() + timedelta(seconds=self._settings.token_seconds)
            self._rests[id(account), token] = replace(rest, start=end, expires=expires)
            response[_TOKEN] = token
        elif self._settings.last_token != "absent":  # noqa: S105
            response[_TOKEN] = None if self._settings.last_token == "null" else ""  # noqa: S105
        return good(response)

    def get_invoice_details(self, account: SandboxAccount, body: bytes) -> ApiResponse:
        """Spec, getInvoiceDetailsByOrderLineItems: not in the order of the request."""
        lines = _list(body, "orderLineItems")
        found = []
        for line in reversed(lines):
            ids = _ids(line)
            known = account.company is not None and bool(account.company.lines_of(ids))
            if not known and self._settings.unknown_lines == "reject":
                raise ErrorResponse(error(404, "NOT_FOUND", "An order line item is not found.", None))
            if known or self._settings.unknown_lines == "empty":
                details = Wire(account.company, self._clock).invoice_details(ids) if account.company else []
                item = dict(zip(("orderId", "orderLineItemId", "shipmentId"), ids, strict=True))
                found.append({"orderLineItem": item, "invoiceDetails": details})
        return good({"invoiceDetailsByOrderLineItems": found})

    def get_invoice_payment_details(self, account: SandboxAccount, body: bytes) -> ApiResponse:
        """Spec, getBatchInvoicePaymentDetails: an unknown invoice is an error inside a 200."""
        ids = _list(body, "invoiceIds")
        if not all(isinstance(each, str) and 1 <= len(each) <= 255 for each in ids):
            raise _invalid("The request contains invalid parameters.", "invoiceIds")
        results = []
        for invoice_id in reversed(ids):
            if account.company is None:
                reason = {"code": "INVOICE_NOT_FOUND", "message": f"There is no invoice {invoice_id}."}
                results.append({"invoiceId": invoice_id, "resultType": "ERROR", "error": reason})
            else:
                results.append(Wire(account.company, self._clock).payment(invoice_id))
        return good({"invoicePaymentDetailsResults": results})

    def _begun(self, account: SandboxAccount, given: dict[str, str]) -> _Rest:
        """Find the transactions of a query without a token."""
        if not all(given.get(name) for name in _DATES):
            raise _invalid("Missing required request parameters.")
        start, end = (_time(given[name]) for name in _DATES)
        if start > end:
            raise _invalid("The request contains invalid parameters.", "feedStartDate is after feedEndDate")
        widest = self._settings.max_window_days
        if widest is not None and end - start > timedelta(days=widest):
            raise ErrorResponse(error(504, "GATEWAY_TIMEOUT", "Endpoint request timed out", None))
        now, found = self._clock.now(), []
        for each in account.company.transactions if account.company else ():
            version = each.version_at(now)
            if version and start <= version.feed_date <= end:
                found.append(each.transaction_id)
        return _Rest(tuple(given[name] for name in _DATES), sorted(found), 0, now)

    def _continued(self, account: SandboxAccount, given: dict[str, str]) -> _Rest:
        """Find the pages that are left, by a token."""
        rest = self._rests.get((id(account), given[_TOKEN]))
        dates = tuple(given[name] for name in _DATES if name in given)
        style = self._settings.token_style
        if style == "alone" and dates:
            raise _invalid("The request contains invalid parameters.", "nextPageToken must be the only parameter")
        if style == "with_dates" and len(dates) < len(_DATES):
            raise _invalid("Missing required request parameters.")
        if rest is None or rest.expires <= self._clock.now() or (dates and dates != rest.dates):
            raise _invalid("The request contains invalid parameters.", _TOKEN)
        return rest

    def _rows(self, account: SandboxAccount, transaction_ids: list[str]) -> list[dict[str, Any]]:
        """Return rows as they are now: one may have been amended since the first page."""
        if account.company is None:
            return []
        wire, now = Wire(account.company, self._clock), self._clock.now()
        found = [account.company.transaction(each) for each in transaction_ids]
        return [wire.transaction(each, version) for each in found if (version := each.version_at(now))]


def _list(body: bytes, name: str) -> list[Any]:
    """Return the one list of a request, with 1 to 25 entries."""
    try:
        given = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        raise _invalid("The request contains invalid parameters.") from None
    if not isinstance(given, dict) or given.get(name) is None:
        raise _invalid("Missing required request parameters.")
    values = given[name]
    if not isinstance(values, list) or not 1 <= len(values) <= _CHUNK:
        raise _invalid("The request contains invalid parameters.", f"{name} must have 1 to {_CHUNK} entries.")
    return values


def _ids(line: Any) -> tuple[str, str, str]:
    given = line if isinstance(line, dict) else {}
    order, item, shipment = (given.get(name) for name in ("orderId", "orderLineItemId", "shipmentId"))
    if not (isinstance(order, str) and isinstance(item, str) and isinstance(shipment, str)):
        raise _invalid("The request contains invalid parameters.", "orderLineItems")
    if not (order and item and shipment):
        raise _invalid("Missing required request parameters.")
    return order, item, shipment


def _time(value: str) -> datetime:
    try:
        if _DATE_TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:
        # The form is right, but there is no such day or hour.
        raise _not_iso(value) from None
    raise _not_iso(value)


def _not_iso(value: str) -> ErrorResponse:
    return _invalid(f"Input date [{value}] is not in the expected ISO8601 format.")


def _invalid(message: str, details: str | None = None) -> ErrorResponse:
    return ErrorResponse(error(400, "INVALID_REQUEST_PARAMETER", message, details))
