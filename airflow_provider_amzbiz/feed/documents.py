"""Which documents a line belongs to, and why it has none yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_amzbiz.client.marketplaces import region_of_marketplace
from airflow_provider_amzbiz.client.reconciliation_models import InvoiceDetail, InvoiceType
from airflow_provider_amzbiz.feed import names
from airflow_provider_amzbiz.feed.lines import document_type_of, is_number, iso, text_of, triple_of
from airflow_provider_amzbiz.feed.names import CREDIT_MEMO, INVOICE, ORDER_SUMMARY

Detail = Mapping[str, Any]


class Form(StrEnum):
    """How a document is asked for."""

    NUMBER = "number"
    ORDER = "order"
    LINE = "line"
    SUMMARY = "summary"


@dataclass(frozen=True)
class Document:
    """A document that Amazon has, or is said to have.

    :ivar number: its number; of an order summary, the order's id.
    :ivar detail: what Amazon says of it, as :func:`detail_of` gives it.
    """

    marketplace_id: str
    document_type: str
    number: str
    form: Form
    detail: Detail = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Rules:
    """What a feed asks for.

    :ivar marketplace_id: of transactions that name none, where the connection has exactly one.
    :ivar region: of marketplaces that are not in Amazon's list: the connection's.
    """

    document_types: tuple[str, ...] = (INVOICE, CREDIT_MEMO)
    marketplace_id: str | None = None
    region: str | None = None

    def region_of(self, marketplace_id: str) -> str | None:
        """Return ``na``, ``eu`` or ``fe``, None where that is unknown."""
        return region_of_marketplace(marketplace_id) or self.region


# An invoice, and the consolidated one that repeats it, where Amazon issues both.
Bundle = tuple[Document, ...]


@dataclass
class Resolved:
    """What became of a line.

    :ivar documents: all that its ids lead to and that are asked for, also those that it does not belong to.
    :ivar own: of these, those that it may belong to: a charge to invoices, a refund to credit memos.
    :ivar is_named: whether its transaction names the one that it belongs to.
    :ivar reason: why another document is still to come, None where none is.
    """

    documents: list[Document] = field(default_factory=list)
    own: list[Bundle] = field(default_factory=list)
    is_named: bool = False
    reason: str | None = None


def detail_of(detail: InvoiceDetail) -> dict[str, Any]:
    """Return what the feed keeps of an invoice's details, JSON-safe and without addresses."""
    consolidated = detail.consolidated_invoice_details
    issuer = detail.invoice_issuer or detail.seller_information
    registration = [
        each.registration_number for each in (detail.seller_information, detail.invoice_issuer) if each is not None
    ]
    taxes = [each.amount.amount for each in detail.tax if each.amount and each.amount.amount is not None]
    return {
        "number": detail.invoice_number,
        "date": iso(detail.invoice_date),
        # As Amazon writes it: in UTC, the first of a month in Japan is the last of the one before.
        "day": detail.invoice_date and detail.invoice_date.date().isoformat(),
        "type": CREDIT_MEMO if detail.invoice_type == InvoiceType.CREDIT_MEMO else INVOICE,
        "consolidated": consolidated and (consolidated.invoice_number or names.PENDING),
        "related": detail.associated_invoice_number,
        "issuer": issuer and issuer.name,
        "registration": next((each for each in registration if each), None),
        "currency": detail.currency_code,
        "total": text_of(detail.invoice_total),
        "tax": text_of(sum(taxes)) if taxes else None,  # type: ignore[arg-type]
    }


def resolve(line: Mapping[str, Any], details: Sequence[Detail], rules: Rules, *, shipped: bool = True) -> Resolved:
    """Find the documents of a line.

    :param details: of its order line, as :func:`detail_of` gives them; empty where Amazon has none.
    :param shipped: whether all lines of its order have shipped.
    """
    found = Resolved()
    marketplace_id = line["marketplace_id"] or rules.marketplace_id
    if not marketplace_id:
        found.reason = names.NO_MARKETPLACE
        return found
    region = rules.region_of(marketplace_id)
    if region is None:
        found.reason = names.UNKNOWN_REGION
        return found
    is_pending = _take_details(found, line, details, marketplace_id, region)
    if not found.own:
        found.reason = _reason(line, region, is_pending)
    elif is_pending:
        found.reason = names.PENDING_NUMBER
    expected = document_type_of(line)
    if expected not in rules.document_types:
        found.reason = None
    if not found.own and region == "na" and expected == INVOICE and _is_card(line):
        _take_summary(found, line, marketplace_id, rules, shipped)
    found.documents = [each for each in found.documents if each.document_type in rules.document_types]
    found.own = [each for each in found.own if each[0].document_type in rules.document_types]
    return found


def _take_details(
    found: Resolved, line: Mapping[str, Any], details: Sequence[Detail], marketplace_id: str, region: str
) -> bool:
    """Take over what Amazon says of the line, and return whether a document of its own is still to come."""
    expected, named = document_type_of(line), line["invoice_number"]
    own_pending, named_pending, elsewhere = False, False, False
    of_name: Bundle = ()
    for detail in details:
        own = detail["type"] == expected
        is_named = is_number(named) and named in (detail["number"], detail["consolidated"])
        elsewhere = elsewhere or is_named
        bundle, is_pending = _bundle(detail, marketplace_id, region)
        found.documents += (each for each in bundle if each not in found.documents)
        if not own:
            continue
        own_pending, named_pending = own_pending or is_pending, named_pending or (is_pending and is_named)
        if bundle and bundle not in found.own:
            found.own.append(bundle)
        if bundle and is_named:
            of_name = bundle
    if not elsewhere and is_number(named):
        # The transaction may know a document that the details do not have yet.
        of_name = _named(line, marketplace_id, region)
        found.documents += of_name
    if of_name:
        found.own, found.is_named = [of_name], True
    return named_pending or (own_pending and not found.is_named)


def _bundle(detail: Detail, marketplace_id: str, region: str) -> tuple[Bundle, bool]:
    """Return the documents of an invoice's details, and whether one of them is still to come."""
    number, consolidated, kind = detail["number"], detail["consolidated"], detail["type"]
    form = _FORMS[region]
    if consolidated is None:
        if not is_number(number):
            return (), True
        return (Document(marketplace_id, kind, number.strip(), form, detail),), False
    bundle: list[Document] = []
    if is_number(number) and number != consolidated and form is Form.LINE:
        # Japan issues both; elsewhere the consolidated invoice is the only one.
        bundle.append(Document(marketplace_id, kind, number.strip(), form, detail))
    if is_number(consolidated):
        about = detail if number == consolidated else {**detail, **_OF_ONE_INVOICE}
        bundle.append(Document(marketplace_id, kind, consolidated.strip(), Form.NUMBER, about))
    return tuple(bundle), not is_number(consolidated)


def _named(line: Mapping[str, Any], marketplace_id: str, region: str) -> Bundle:
    """Return the document that the transaction itself names, where it can be asked for."""
    form = _FORMS[region]
    if form is Form.ORDER and not line["order_id"]:
        form = Form.NUMBER
    if form is Form.LINE and triple_of(line) is None:
        return ()
    return (Document(marketplace_id, document_type_of(line), line["invoice_number"].strip(), form),)


def _take_summary(
    found: Resolved, line: Mapping[str, Any], marketplace_id: str, rules: Rules, shipped: bool
) -> None:
    """Have the order's summary asked for, where Amazon has no invoice, once it is final."""
    if ORDER_SUMMARY not in rules.document_types or not line["order_id"]:
        return
    if not shipped:
        found.reason = names.NOT_SHIPPED
        return
    document = Document(marketplace_id, ORDER_SUMMARY, line["order_id"], Form.SUMMARY)
    found.documents.append(document)
    found.own, found.reason = [(document,)], None


def _reason(line: Mapping[str, Any], region: str, pending: bool) -> str:
    if pending or (line["invoice_number"] and not is_number(line["invoice_number"])):
        return names.PENDING_NUMBER
    if region == "na" and _is_card(line):
        return names.CARD_ORDER if document_type_of(line) == INVOICE else names.CARD_REFUND
    if not line["order_id"]:
        nothing = not (line["order_line_item_id"] or line["shipment_id"] or line["total"])
        return names.NO_LINES if nothing else names.NO_ORDER_ID
    if not line["order_line_item_id"]:
        return names.NO_LINE_ID
    return names.NO_NUMBER if line["shipment_id"] else names.NO_SHIPMENT_ID


def _is_card(line: Mapping[str, Any]) -> bool:
    """Tell whether a line was paid by card, as far as its transaction says how."""
    paid_by = line["payment_instrument_type"]
    return bool(paid_by) and names.PAY_BY_INVOICE not in paid_by.lower()


# What the details say of one invoice, and not of the consolidated one that repeats several.
_OF_ONE_INVOICE = {"number": None, "date": None, "day": None, "related": None, "total": None, "tax": None}
_FORMS: Mapping[str, Form] = {"na": Form.NUMBER, "eu": Form.ORDER, "fe": Form.LINE}
