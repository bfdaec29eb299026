"""The three operations of the Reconciliation API 2021-01-08."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError, NotFoundError, RequestRejectedError
from airflow_provider_amzbiz.client.json_model import read_exact_json
from airflow_provider_amzbiz.client.reconciliation_models import (
    PENDING,
    InvoiceDetail,
    InvoiceDetailsByOrderLineItem,
    InvoicePaymentDetails,
    InvoicePaymentError,
    OrderLineItem,
    Transaction,
    TransactionLineItem,
)
from airflow_provider_amzbiz.client.transaction_reader import (
    MAX_WINDOW,
    MIN_WINDOW,
    TransactionReader,
    as_rejected,
    bad_response,
)
from airflow_provider_amzbiz.client.transport import Transport

log = logging.getLogger(__name__)

_INVOICES = "getInvoiceDetailsByOrderLineItems"
_PAYMENTS = "getBatchInvoicePaymentDetails"
_INVOICES_PATH = "/reconciliation/2021-01-08/invoices"
_PAYMENTS_PATH = "/reconciliation/2021-01-08/invoices/batch/paymentDetails"
# Order lines, or invoice ids, of one call.
CHUNK = 25
_MAX_ID = 255
# Statuses that may mean one of the lines of a call.
_ABOUT_A_LINE = (400, 404)
_IDS = ("order_id", "order_line_item_id", "shipment_id")

# What names an order line: its three ids, or an object that has them.
OrderLine = OrderLineItem | TransactionLineItem | Sequence[str]
_Each = TypeVar("_Each")


class ReconciliationClient:
    """Calls the Reconciliation API for one account; may be shared by threads.

    It needs the same role as invoices do, Business Purchase Reconciliation.

    :param transport: of the account, such as :attr:`.ReportsClient.transport`.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get_transactions(
        self,
        feed_start_date: datetime | str,
        feed_end_date: datetime | str,
        *,
        max_window: timedelta = MAX_WINDOW,
    ) -> Iterator[Transaction]:
        """Yield all transactions whose feed date lies in a time range (spec, getTransactions).

        The feed date is the time from which a transaction can be queried, not the time of the order. Rows may be
        amended and added later, so read again some days before the last end, and replace by ``transaction_id``.

        Each page is one call, made when the iterator reaches it. After a 504, the window is halved.

        :param feed_start_date: aware datetime, or ISO 8601 string with an offset.
        :param feed_end_date: the same way, not before ``feed_start_date``.
        :param max_window: widest window of one call, at least a minute.
        :raises InvalidParameterError: a parameter is not allowed; nothing was sent.
        :raises UnavailableError: also where the API returns the same page or token again, so that transactions
            would be missing.
        """
        start = parameters.time("feed_start_date", feed_start_date)
        end = parameters.time("feed_end_date", feed_end_date)
        if start > end:
            raise InvalidParameterError(
                f"feed_start_date {feed_start_date!s} is after feed_end_date {feed_end_date!s}, but must be at or "
                "before it"
            )
        if not isinstance(max_window, timedelta) or max_window < MIN_WINDOW:
            raise InvalidParameterError(
                f"max_window is {parameters.shown(max_window)}, but must be a timedelta of at least {MIN_WINDOW}"
            )
        return TransactionReader(self._transport, max_window=max_window).read(start, end)

    def get_invoice_details(
        self, order_line_items: Iterable[OrderLine]
    ) -> Iterator[InvoiceDetailsByOrderLineItem]:
        """Yield the invoices and credit memos of order lines (spec, getInvoiceDetailsByOrderLineItems).

        One object per line, in the order given; a line that the API does not know, or not yet, has no
        ``invoice_details``. Each 25 lines are one call, made when the iterator reaches them. If the API rejects
        one because of a line, about ten more calls find that line.

        :param order_line_items: any number of ``(order_id, order_line_item_id, shipment_id)``, of transaction line
            items, or of both.
        :raises InvalidParameterError: a line lacks one of the ids; nothing was sent.
        """
        lines = [_order_line_item(index, each) for index, each in enumerate(_iterable(order_line_items))]
        return self._invoice_details(lines)

    def get_invoice_payment_details(self, invoice_ids: Iterable[str]) -> Iterator[InvoicePaymentDetails]:
        """Yield due date and payment status of invoices (spec, getBatchInvoicePaymentDetails).

        One object per id, in the order given, with ``payment_details`` or ``error``: the API reports a failure
        of one invoice inside a successful response. Each 25 ids are one call, made when the iterator reaches
        them.

        :param invoice_ids: any number of invoice numbers of 1 to 255 characters.
        :raises InvalidParameterError: one of them is no invoice number; nothing was sent.
        """
        if isinstance(invoice_ids, str):
            raise InvalidParameterError(
                f"invoice_ids is the string {parameters.shown(invoice_ids)}, but must be a list of invoice numbers"
            )
        try:
            ids = [_invoice_id(index, each) for index, each in enumerate(invoice_ids)]
        except TypeError:
            raise InvalidParameterError(
                f"invoice_ids is {parameters.shown(invoice_ids)}, but must be a list of invoice numbers"
            ) from None
        return self._payment_details(ids)

    def _invoice_details(self, lines: list[OrderLineItem]) -> Iterator[InvoiceDetailsByOrderLineItem]:
        for chunk in _chunks(lines):
            rows = self._rows_of(list(dict.fromkeys(chunk)))
            found: dict[OrderLineItem, list[InvoiceDetail]] = {line: [] for line in chunk}
            for row in map(InvoiceDetailsByOrderLineItem.from_api, rows):
                line = row.order_line_item
                if line is None:
                    raise bad_response("with invoice details of no order line", _INVOICES)
                # By the ids, because the API keeps no order.
                key = OrderLineItem(line.order_id, line.order_line_item_id, line.shipment_id)
                if key not in found:
                    log.warning("%s returned %s, which was not asked for; ignoring it", _INVOICES, key)
                    continue
                found[key] += row.invoice_details
            for line in chunk:
                yield InvoiceDetailsByOrderLineItem(line, tuple(found[line]))

    def _rows_of(self, lines: list[OrderLineItem]) -> list[Any]:
        """Return what the API has of some lines. One that it rejects has nothing, if it accepts another one.

        It is not documented whether an unknown line fails the call that names it, so a rejected call is divided.

        :raises RequestRejectedError: all lines are rejected, so it is not about one of them.
        """
        wanted = [_wire_line(each) for each in lines]
        try:
            return self._post(
                _INVOICES, _INVOICES_PATH, "orderLineItems", wanted, "invoiceDetailsByOrderLineItems"
            )
        except RequestRejectedError as error:
            if error.status not in _ABOUT_A_LINE or len(lines) == 1:
                raise
        rows: list[Any] = []
        rejected: list[tuple[list[OrderLineItem], RequestRejectedError]] = []
        for part in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
            try:
                rows += self._rows_of(part)
            except RequestRejectedError as error:
                rejected.append((part, error))
        if len(rejected) > 1:
            raise rejected[0][1]
        for part, reason in rejected:
            log.warning("%s has no documents of %s: %s", _INVOICES, part, reason)
        return rows

    def _payment_details(self, ids: list[str]) -> Iterator[InvoicePaymentDetails]:
        for chunk in _chunks(ids):
            wanted = list(dict.fromkeys(chunk))
            rows = self._post(_PAYMENTS, _PAYMENTS_PATH, "invoiceIds", wanted, "invoicePaymentDetailsResults")
            found = {each.invoice_id: each for each in map(InvoicePaymentDetails.from_api, rows)}
            for invoice_id in chunk:
                yield _with_error(found.get(invoice_id) or InvoicePaymentDetails(invoice_id))

    def _post(self, operation: str, path: str, name: str, values: list[Any], list_name: str) -> list[Any]:
        """Call an operation that only reads, whatever its method, and return the list in its response."""
        try:
            body = self._transport.call(operation, "POST", path, body={name: values}, read=read_exact_json)
        except NotFoundError as error:
            raise as_rejected(error) from None
        rows = body.get(list_name) if isinstance(body, Mapping) else None
        if not isinstance(rows, list):
            raise bad_response(f"without the list {list_name}", operation)
        return rows


def _iterable(order_line_items: Iterable[OrderLine]) -> Iterable[OrderLine]:
    if isinstance(order_line_items, str | Mapping) or not isinstance(order_line_items, Iterable):
        raise InvalidParameterError(
            f"order_line_items is {parameters.shown(order_line_items)}, but must be a list of (order_id, "
            "order_line_item_id, shipment_id) or of transaction line items"
        )
    return order_line_items


def _order_line_item(index: int, given: OrderLine) -> OrderLineItem:
    """Return the checked ids of an order line."""
    name = f"order_line_items[{index}]"
    if isinstance(given, OrderLineItem | TransactionLineItem):
        ids: Sequence[Any] = [getattr(given, each) for each in _IDS]
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes) and len(given) == len(_IDS):
        ids = given
    else:
        raise InvalidParameterError(
            f"{name} is {parameters.shown(given)}, but must be three ids (order_id, order_line_item_id, "
            "shipment_id) or a transaction line item"
        )
    checked = []
    for part, value in zip(_IDS, ids, strict=True):
        if value is None:
            raise InvalidParameterError(
                f"{name} has no {part}, but must have one; the API finds no invoice for a line without it, such "
                "as one that has not shipped, so leave the line out"
            )
        checked.append(parameters.required_id(f"{name}.{part}", value))
    return OrderLineItem(*checked)


def _invoice_id(index: int, given: str) -> str:
    name = f"invoice_ids[{index}]"
    invoice_id = parameters.required_id(name, given)
    if len(invoice_id) > _MAX_ID:
        raise InvalidParameterError(f"{name} has {len(invoice_id)} characters, but must have 1 to {_MAX_ID}")
    if invoice_id.lower() == PENDING.lower():
        raise InvalidParameterError(
            f"{name} is {given!r}, which stands for an invoice that is not issued yet, but must be an invoice's "
            "number"
        )
    return invoice_id


def _wire_line(line: OrderLineItem) -> dict[str, str | None]:
    return {"orderId": line.order_id, "orderLineItemId": line.order_line_item_id, "shipmentId": line.shipment_id}


def _with_error(result: InvoicePaymentDetails) -> InvoicePaymentDetails:
    """Return a result of which whoever reads only ``error`` misses no failure."""
    if result.error is not None or result.result_type == "SUCCESS":
        return result
    message = "The response has no reason" if result.result_type else "The response left the invoice out"
    return InvoicePaymentDetails(
        result.invoice_id,
        result.result_type,
        result.payment_details,
        InvoicePaymentError(message=message),
        extra=result.extra,
    )


def _chunks(values: list[_Each]) -> Iterator[list[_Each]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
