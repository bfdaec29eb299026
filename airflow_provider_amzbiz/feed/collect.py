"""From the transactions of a window to their documents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby, islice
from typing import Any, Protocol, TypeVar

from airflow_provider_amzbiz.client.reconciliation_models import (
    InvoiceDetailsByOrderLineItem,
    InvoicePaymentDetails,
    Transaction,
)
from airflow_provider_amzbiz.feed import names
from airflow_provider_amzbiz.feed.documents import Bundle, Detail, Resolved, Rules, detail_of, resolve
from airflow_provider_amzbiz.feed.lines import Line, document_type_of, lines_of, triple_of
from airflow_provider_amzbiz.feed.names import CREDIT_MEMO
from airflow_provider_amzbiz.feed.spool import Spool

log = logging.getLogger(__name__)

_Each = TypeVar("_Each")
# Order lines that the client is given at once: a multiple of what one call takes.
_ASKED_AT_ONCE = 1000


class Api(Protocol):
    """The three operations of the Reconciliation API; :class:`.ReconciliationClient` has them."""

    def get_transactions(self, feed_start_date: datetime, feed_end_date: datetime) -> Iterator[Transaction]:
        """Yield all transactions of a window of feed dates."""

    def get_invoice_details(
        self, order_line_items: Iterable[tuple[str, str, str]]
    ) -> Iterator[InvoiceDetailsByOrderLineItem]:
        """Yield the documents of each order line."""

    def get_invoice_payment_details(self, invoice_ids: Iterable[str]) -> Iterator[InvoicePaymentDetails]:
        """Yield the payment details of each invoice."""


def collect(
    api: Api,
    spool: Spool,
    start: datetime,
    end: datetime,
    rules: Rules,
    *,
    include_personal_data: bool = False,
    stopped: Callable[[], None] = lambda: None,
) -> None:
    """Read a window into the spool, which may hold open lines of earlier runs, and find the documents of all.

    :param stopped: called between steps; raises where the run is to end.
    """
    unidentified = 0
    # Nothing new to read, but open lines to ask for, where a day is run again.
    for transaction in api.get_transactions(start, end) if start < end else ():
        unidentified += transaction.transaction_id is None
        spool.add(lines_of(transaction, include_personal_data=include_personal_data))
        stopped()
    if unidentified:
        log.warning("%s transactions have no id; they get one that is made of their content", unidentified)
    for triples in in_batches(spool.triples(), _ASKED_AT_ONCE):
        for found in api.get_invoice_details(triples):
            item = found.order_line_item
            if item and item.order_id and item.order_line_item_id and item.shipment_id:
                triple = item.order_id, item.order_line_item_id, item.shipment_id
                spool.add_details(triple, [detail_of(each) for each in found.invoice_details])
            stopped()
    for _, group in groupby(spool.lines(), key=lambda each: _group_of(each[0])):
        _resolve_group(spool, [(line, shipped) for line, _, shipped in group], rules)


def in_batches(values: Iterable[_Each], size: int) -> Iterator[list[_Each]]:
    """Yield values in lists of a length; the last one may be shorter."""
    left = iter(values)
    while part := list(islice(left, size)):
        yield part


def _group_of(line: Line) -> Any:
    # Lines without all ids have nothing in common.
    alone = None if triple_of(line) else (line["transaction_id"], line["line_number"])
    return line["marketplace_id"], triple_of(line), document_type_of(line), alone


def _resolve_group(spool: Spool, group: Sequence[tuple[Line, bool]], rules: Rules) -> None:
    """Find the documents of one order line's charges, or of its refunds."""
    first = group[0][0]
    details = spool.details(triple_of(first))
    found = [(line, resolve(line, details, rules, shipped=shipped)) for line, shipped in group]
    _share_out(found, details, spool.written_of_others(triple_of(first), document_type_of(first)))
    for line, resolved in found:
        if resolved.reason:
            spool.add_reason(line, resolved.reason)
        own = [document for bundle in resolved.own for document in bundle]
        for document in resolved.documents:
            spool.add_source(spool.add_document(document), line, own=document in own)


def _share_out(
    found: Sequence[tuple[Line, Resolved]], details: Sequence[Detail], of_others: Iterable[tuple[str, str, bool]]
) -> None:
    """Share out the invoices of one order line among its charges, so that no amount counts twice.

    What a transaction names is its own, and that of the others of the same payment. What is left, the remaining
    transactions share: each has one, in the order of their dates, and the last one where there are fewer. Where
    there are more, some were replaced, and have no line. Where nothing is left, their invoice is still to come.

    :param of_others: see :meth:`.HistorySpool.written_of_others`. What only an earlier run gave to one of these
        is left to it if there is another one.
    """
    unnamed = [(line, resolved) for line, resolved in found if not resolved.is_named and resolved.own]
    named = {
        line["transaction_id"]: resolved.own[0] for line, resolved in found if resolved.is_named and resolved.own
    }
    own = unnamed[0][1].own if unnamed else []
    given: list[Bundle] = []
    for transaction, number, is_named in of_others:
        bundle = next((each for each in own if number in [document.number for document in each]), None)
        if bundle and is_named:
            named.setdefault(transaction, bundle)
        elif bundle:
            given.append(bundle)
    if not own or not (named or len(own) > 1):
        return
    rest = [bundle for bundle in own if bundle not in named.values()]
    rest = [bundle for bundle in rest if bundle not in given] or rest
    alone: list[tuple[Line, Resolved]] = []
    for line, resolved in unnamed:
        of_payment = [named[each] for each in line["associated_transaction_ids"] if each in named]
        if of_payment:
            resolved.own = of_payment[:1]
        else:
            resolved.own = list(rest)
            resolved.reason = resolved.reason or (None if rest else names.NO_NUMBER)
            alone.append((line, resolved))
    alone.sort(key=lambda each: (each[0]["transaction_date"] or "", each[0]["transaction_id"]))
    current = _current(rest, details, len(alone))
    for position, (_, resolved) in enumerate(alone if current else ()):
        resolved.own = [current[min(position, len(current) - 1)]]


def _current(bundles: Iterable[Bundle], details: Sequence[Detail], count: int) -> list[Bundle]:
    """Return the invoices that count, in the order of their dates: the latest ones, if possible not reversed."""
    memos = [each for each in details if each["type"] == CREDIT_MEMO and each["related"]]
    reversals = {each["related"]: each["total"] for each in memos}

    def is_reversed(bundle: Bundle) -> bool:
        number, total = bundle[0].number, bundle[0].detail.get("total")
        both = reversals.get(number), total
        # Without amounts, a credit memo that names the invoice is all there is to go by.
        return number in reversals and (None in both or len({abs(Decimal(each)) for each in both if each}) == 1)

    ranked = sorted(bundles, key=lambda each: (not is_reversed(each), _issued(each)))
    return sorted(ranked[-count:] if count else [], key=_issued)


def _issued(bundle: Bundle) -> tuple[str, str]:
    return bundle[0].detail.get("date") or "", bundle[0].number
