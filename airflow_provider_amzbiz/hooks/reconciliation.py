"""The hook's methods for the Reconciliation API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow_provider_amzbiz.client.reconciliation import OrderLine
from airflow_provider_amzbiz.client.reconciliation_models import (
    InvoiceDetailsByOrderLineItem,
    InvoicePaymentDetails,
    Transaction,
)
from airflow_provider_amzbiz.exceptions import translated_errors

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.reconciliation import ReconciliationClient
    from airflow_provider_amzbiz.client.reports import ReportsClient

_Model = TypeVar("_Model")


class _HasClient(Protocol):
    @property
    def client(self) -> ReportsClient: ...


class ReconciliationMixin:
    """Transactions, invoice details and payment details.

    All methods raise :class:`.InvalidInputError` at once for a parameter that is not allowed; everything else
    happens when the iterator is used. Each page or chunk is one call, of the connection's token, retries and
    limits.
    """

    def get_transactions(
        self: _HasClient,
        feed_start_date: datetime | str,
        feed_end_date: datetime | str,
        *,
        max_window: timedelta | None = None,
    ) -> Iterator[Transaction]:
        """Yield all transactions whose feed date lies in a time range (spec, getTransactions).

        The feed date is the time from which a transaction can be queried, not the time of the order. Rows may be
        amended and added later, so read again some days before the last end, and replace by ``transaction_id``.

        :param feed_start_date: aware datetime, or ISO 8601 string with an offset.
        :param feed_end_date: the same way, not before ``feed_start_date``.
        :param max_window: widest window of one call, at least a minute; by default 31 days. After a 504, it is
            halved.
        """
        from airflow_provider_amzbiz.client.transaction_reader import MAX_WINDOW

        return _translated(
            lambda: _client(self).get_transactions(
                feed_start_date, feed_end_date, max_window=MAX_WINDOW if max_window is None else max_window
            )
        )

    def get_invoice_details(
        self: _HasClient, order_line_items: Iterable[OrderLine]
    ) -> Iterator[InvoiceDetailsByOrderLineItem]:
        """Yield the invoices and credit memos of order lines (spec, getInvoiceDetailsByOrderLineItems).

        One object per line, in the order given, with ``order_line_item`` and ``invoice_details``, which is empty
        for a line that the API does not know, or not yet.

        :param order_line_items: any number of ``(order_id, order_line_item_id, shipment_id)``, of transaction line
            items, or of both; 25 of them are one call.
        """
        return _translated(lambda: _client(self).get_invoice_details(order_line_items))

    def get_invoice_payment_details(
        self: _HasClient, invoice_ids: Iterable[str]
    ) -> Iterator[InvoicePaymentDetails]:
        """Yield due date and payment status of invoices (spec, getBatchInvoicePaymentDetails).

        One object per id, in the order given, with ``payment_details`` or ``error``: an invoice that the API has
        no details of is no exception.

        :param invoice_ids: any number of invoice numbers of 1 to 255 characters; 25 of them are one call.
        """
        return _translated(lambda: _client(self).get_invoice_payment_details(invoice_ids))


def _client(hook: _HasClient) -> ReconciliationClient:
    from airflow_provider_amzbiz.client.reconciliation import ReconciliationClient

    with translated_errors():
        return ReconciliationClient(hook.client.transport)


def _translated(call: Callable[[], Iterator[_Model]]) -> Iterator[_Model]:
    """Make the call now, for its parameters to be checked, and return an iterator that raises our errors only."""
    with translated_errors():
        found = call()

    def each() -> Iterator[_Model]:
        with translated_errors():
            yield from found

    return each()
