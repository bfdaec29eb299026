"""From documents to requests: which report brings a document, and whether it was delivered before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from airflow_provider_amzbiz.batch.delivery import Delivery
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.invoice_options import INVOICE_TYPE
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.feed.documents import Document, Form, Rules
from airflow_provider_amzbiz.feed.keys import fill
from airflow_provider_amzbiz.feed.lines import Line, text_of, triple_of
from airflow_provider_amzbiz.feed.names import CREDIT_MEMO, INVOICE, ORDER_SUMMARY
from airflow_provider_amzbiz.feed.spool import Spool

# Documents whose deliveries are asked for at once.
_CHUNK = 1000
# Amazon's own words, in North America.
_CREDITS = "Credits"

# A document of a run, as its files keep it: what ``_described`` tells of it, the options and identities that
# ``describe_documents`` adds, its deliveries from ``find_delivered``, its request's number from ``write_plan``.
DocumentEntry = dict[str, Any]


class Deliveries(Protocol):
    """What was delivered before, in any run; :class:`.Ledger` is one."""

    def load(self, identities: Iterable[str]) -> Mapping[str, Delivery]:
        """Return the deliveries of those that were delivered, by identity."""


class Runs(Protocol):
    """What earlier runs have written; :class:`.EarlierRuns` is it."""

    def has_tables(self, run: str) -> bool:
        """Tell whether a run has written its tables."""

    def key(self, run: str, request: FeedRequest) -> str | None:
        """Return the key that a run gave to a request, None where it made none."""

    def files(self, run: str, request: FeedRequest, objects: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what the rows of a request's objects say, by URI."""


@dataclass
class FeedRequest:
    """A report to create.

    :ivar documents: those that it brings, by number in the run.
    :ivar is_due: whether one of them was never delivered.
    :ivar is_again: whether it was made before, or one of them was delivered.
    :ivar earlier: what the rows of earlier runs say of its files, as :meth:`.EarlierRuns.files` gives it.
    """

    marketplace_id: str
    options: Mapping[str, str]
    documents: list[int] = field(default_factory=list)
    is_due: bool = False
    is_again: bool = False
    key: str = ""
    earlier: Mapping[str, Any] = field(default_factory=dict)

    def to_batch(self) -> dict[str, Any]:
        """Return it as an entry of the ``requests`` of a batch."""
        return {
            "report_type": INVOICE_TYPE,
            "marketplace_ids": [self.marketplace_id],
            "report_options": dict(self.options),
            "s3_key": self.key,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        return dict(vars(self))


def describe_documents(spool: Spool, rules: Rules) -> Iterator[DocumentEntry]:
    """Yield the documents of a run, each with what its lines tell of it and the options that bring it."""
    for identity, document in spool.documents():
        lines = list(_reduced(spool.lines_of(identity)))
        found = _described(document, lines)
        first = next((each for each in (triple_of(line) for line, _ in lines) if each), None)
        options = options_of(document, rules, order_id=(found["order_ids"] or [None])[0], triple=first)
        found |= {"id": identity, "options": options, "identities": [], "alternatives": [], "refused": None}
        found["request_identity"] = None
        try:
            request = ReportRequest.of(INVOICE_TYPE, [document.marketplace_id], report_options=options)
        except InvalidParameterError as error:
            found["refused"] = str(error)
        else:
            found["identities"] = _identities(document, request, lines)
            found["alternatives"] = [_identity(document)]
            if "invoiceId" not in options:
                found["request_identity"] = _hash("request", *scope_of(document.marketplace_id, options))
        yield found


def options_of(
    document: Document, rules: Rules, *, order_id: str | None, triple: tuple[str, str, str] | None
) -> dict[str, str]:
    """Return the report options that bring a document, as Amazon's guides give them for each region.

    :param order_id: one of its orders.
    :param triple: order id, order line item id and shipment id of one of its lines.
    """
    if document.form is Form.SUMMARY:
        return {"orderId": document.number, "documentType": ORDER_SUMMARY}
    if document.form is Form.LINE and triple:
        return dict(zip(("orderId", "orderLineItemId", "shipmentId"), triple, strict=True))
    if document.form is Form.ORDER and order_id:
        # Without a type, all documents of the order come.
        only = {} if CREDIT_MEMO in rules.document_types else {"documentType": INVOICE}
        return {"orderId": order_id, **only}
    options = {"invoiceId": document.number}
    if document.document_type == INVOICE:
        return {**options, "documentType": INVOICE}
    # How Europe and Japan call a credit memo is not known; there, the number does.
    return {**options, "documentType": _CREDITS} if rules.region_of(document.marketplace_id) == "na" else options


def find_delivered(documents: Iterable[DocumentEntry], deliveries: Deliveries | None) -> Iterator[DocumentEntry]:
    """Yield documents with ``delivered``: what the ledger has of them, None where one was never delivered."""
    chunk: list[DocumentEntry] = []
    for document in documents:
        chunk.append(document)
        if len(chunk) == _CHUNK:
            yield from _looked_up(chunk, deliveries)
            chunk = []
    yield from _looked_up(chunk, deliveries)


def _looked_up(documents: Sequence[DocumentEntry], deliveries: Deliveries | None) -> Iterator[DocumentEntry]:
    names = ("identities", "alternatives")
    wanted = [identity for document in documents for name in names for identity in document[name]]
    wanted += [document["request_identity"] for document in documents if document["request_identity"]]
    known = deliveries.load(wanted) if deliveries and wanted else {}
    for document in documents:
        there = [[known.get(identity) for identity in document[name]] for name in names]
        complete = next((each for each in there if each and all(each)), None)
        delivered = complete[-1] if complete else None
        previous = known.get(document["request_identity"])
        yield {
            **document,
            "delivered": delivered and delivered.to_dict(),
            "previous": previous and previous.to_dict(),
        }


class Requests:
    """The requests of a run, each once, in the order of their first documents."""

    def __init__(self) -> None:
        self._by_scope: dict[tuple[str, ...], int] = {}
        self.all: list[FeedRequest] = []
        self._first: list[tuple[Any, Mapping[str, str | None]]] = []
        self._previous: dict[int, Mapping[str, Any] | None] = {}

    def add(self, document: DocumentEntry) -> int | None:
        """Add what brings a document, and return the request's number; None where none can be made."""
        if document["refused"]:
            return None
        scope = tuple(scope_of(document["marketplace_id"], document["options"]))
        number = self._by_scope.setdefault(scope, len(self.all))
        rank, values = _rank(document), _values(document)
        if number == len(self.all):
            self.all.append(FeedRequest(document["marketplace_id"], document["options"]))
            self._first.append((rank, values))
        elif rank < self._first[number][0]:
            self._first[number] = rank, values
        self.all[number].documents.append(document["id"])
        self.all[number].is_due |= document["delivered"] is None
        self.all[number].is_again |= bool(document["delivered"] or document["previous"])
        self._previous.setdefault(number, document["previous"])
        return number

    def complete(self, key: str, runs: Runs) -> None:
        """Fill in the template of the keys, and what earlier runs have written, for all of them.

        What was asked for before keeps its key, so that its files stay the same objects.
        """
        for number, (request, (_, values)) in enumerate(zip(self.all, self._first, strict=True)):
            previous = self._previous[number]
            by = previous and previous["by"]
            request.key = (by and runs.key(by, request)) or fill(key, values)
            # A run that never wrote its tables may have replaced objects: these still have rows of earlier runs.
            if previous and by and (request.is_due or not runs.has_tables(by)):
                request.earlier = runs.files(by, request, previous["objects"])


def _rank(document: DocumentEntry) -> tuple[Any, ...]:
    """Order the documents of one request: the first names the key. What is new comes before what is known."""
    return (
        document["delivered"] is not None,
        document["document_type"] != INVOICE,
        document["detail"].get("date") or "",
        document["number"],
    )


def _values(document: DocumentEntry) -> dict[str, str | None]:
    detail = document["detail"]
    date = detail.get("day") or detail.get("date") or document["feed_date_min"] or ""
    by_order = document["form"] in (Form.ORDER, Form.SUMMARY)
    order_id = document["options"].get("orderId") or (document["order_ids"] or [None])[0]
    return {
        "marketplace_id": document["marketplace_id"],
        "year": date[:4],
        "month": date[5:7],
        "document_type": document["document_type"],
        # All documents of an order come as one.
        "document_number": order_id if by_order else document["number"],
        "order_id": order_id,
    }


def _identities(document: Document, request: ReportRequest, lines: Sequence[tuple[Line, bool]]) -> list[str]:
    """Return what the ledger knows a document by.

    Where the request names the document, it is the request. A request for an order or a line may bring another
    document tomorrow, so there it is the document itself; and a summary is of the shipments that there were.
    """
    if "invoiceId" in request.options:
        return [request.fingerprint]
    if document.form is Form.SUMMARY:
        shipments = {line["shipment_id"] for line, _ in lines if line["shipment_id"]}
        return [_identity(document, shipment) for shipment in sorted(shipments)] or [_identity(document)]
    return [_identity(document)]


def _identity(document: Document, *more: str) -> str:
    return _hash("document", document.marketplace_id, document.document_type, document.number, *more)


def scope_of(marketplace_id: str, options: Mapping[str, str]) -> list[str]:
    """Return what a request brings: the same for two lines of one shipment, whose documents are the same."""
    found = {name: value for name, value in options.items() if name != "orderLineItemId"}
    if "shipmentId" not in found and options.get("documentType") == INVOICE:
        # With or without credit memos, it is the same order.
        del found["documentType"]
    return [marketplace_id, *(f"{name}={value}" for name, value in sorted(found.items()))]


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _reduced(lines: Iterable[tuple[Line, bool]]) -> Iterator[tuple[Line, bool]]:
    """Leave out of lines what takes most of the memory: a monthly invoice may have thousands."""
    for line, own in lines:
        yield {name: line[name] for name in _KEPT}, own


_KEPT = (
    "order_id",
    "order_line_item_id",
    "shipment_id",
    "po_number",
    "total",
    "tax",
    "currency",
    "feed_date",
    "legal_entity",
    "group_name",
    "payment_instrument_type",
    "last4",
    "charge_identifier",
    "seller_name",
)


def _described(document: Document, lines: Sequence[tuple[Line, bool]]) -> DocumentEntry:
    own = [line for line, is_own in lines if is_own] or [line for line, _ in lines]
    belongs = any(is_own for _, is_own in lines)
    feed_dates = sorted(line["feed_date"] for line in own if line["feed_date"])
    detail = document.detail
    currency = detail.get("currency") or _only(own, "currency")
    # Japan's credit memos have positive totals, and everybody's refunds are negative.
    sign = -1 if document.document_type == CREDIT_MEMO else 1
    return {
        "marketplace_id": document.marketplace_id,
        "document_type": document.document_type,
        "number": document.number,
        "form": document.form,
        "detail": detail,
        "order_ids": _distinct(own, "order_id"),
        "purchase_order_numbers": _distinct(own, "po_number"),
        "currency": currency,
        "total": _turned(detail.get("total"), sign) or (_sum(own, "total") if belongs else None),
        "tax": _turned(detail.get("tax"), sign) or (_sum(own, "tax") if belongs else None),
        "issuer": detail.get("issuer") or _only(own, "seller_name"),
        **{name: _only(own, name) for name in ("legal_entity", "group_name", "payment_instrument_type")},
        **{name: _only(own, name) for name in ("last4", "charge_identifier")},
        "feed_date_min": feed_dates[0] if feed_dates else None,
        "feed_date_max": feed_dates[-1] if feed_dates else None,
    }


def _distinct(lines: Iterable[Line], name: str) -> list[str]:
    return sorted({line[name] for line in lines if line[name]})


def _only(lines: Iterable[Line], name: str) -> str | None:
    """Return the value that all lines share, None where they differ."""
    found = {line[name] for line in lines if line[name]}
    return found.pop() if len(found) == 1 else None


def _sum(lines: Sequence[Line], name: str) -> str | None:
    """Return the sum of a column, None where a line has no amount or another currency."""
    amounts = [line[name] for line in lines]
    if None in amounts or not amounts or len({line["currency"] for line in lines}) > 1:
        return None
    return text_of(sum(map(Decimal, amounts), Decimal()))


def _turned(amount: str | None, sign: int) -> str | None:
    if amount is None:
        return None
    return text_of(abs(Decimal(amount)) * sign)
