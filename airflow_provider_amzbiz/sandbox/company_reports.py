"""Which documents of the company a request for an invoice delivers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from airflow_provider_amzbiz.sandbox.company import Company
from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from airflow_provider_amzbiz.sandbox.company_records import CREDIT_MEMO, INVOICE, ORDER_SUMMARY, BookDocument
from airflow_provider_amzbiz.sandbox.documents import RawDocument, packed, pdf

# By documentType. In North America, only this distinguishes a credit memo from an invoice; elsewhere the literal
# for credit memos is not known, and a request without documentType is for both.
_KINDS: Mapping[str | None, frozenset[str]] = {
    None: frozenset({INVOICE, CREDIT_MEMO}),
    "Invoice": frozenset({INVOICE}),
    "Credits": frozenset({CREDIT_MEMO}),
}


def company_report(
    company: Company, marketplace_id: str, options: Mapping[str, str], now: datetime
) -> RawDocument | None:
    """Return what a report delivers; None where it ends CANCELLED, because there is no such document, or not yet.

    :param options: checked ones.
    """
    if options.get("documentType") == ORDER_SUMMARY:
        files = _summary(company, marketplace_id, options["orderId"], now)
    else:
        found = _documents(company, marketplace_id, options, now)
        files = {company.file_name(each): company.pdf(each) for each in found}
    return RawDocument(packed(files), content_type="application/octet-stream") if files else None


def _documents(
    company: Company, marketplace_id: str, options: Mapping[str, str], now: datetime
) -> list[BookDocument]:
    kinds = _KINDS[options.get("documentType")]
    if MARKETS[marketplace_id].region == "na" and "documentType" not in options:
        kinds = _KINDS["Invoice"]
    return [
        each
        for each in company.documents_at(now)
        if each.marketplace_id == marketplace_id and each.kind in kinds and _is_asked_for(each, options)
    ]


def _is_asked_for(document: BookDocument, options: Mapping[str, str]) -> bool:
    if "invoiceId" in options:
        return document.number == options["invoiceId"]
    if document.is_consolidated or options.get("orderId") not in document.order_ids:
        return False
    # All lines of one shipment of an order have the same documents.
    shipment = options.get("shipmentId")
    return shipment is None or any(
        line.shipment_id == shipment and line.order_id == options["orderId"] for line in document.lines
    )


def _summary(company: Company, marketplace_id: str, order_id: str, now: datetime) -> dict[str, bytes]:
    """Return the summary of an order, which is preliminary until all of it is shipped."""
    try:
        document = company.document(order_id)
    except KeyError:
        return {}
    if document.marketplace_id != marketplace_id or now < company.books.placed[order_id]:
        return {}
    is_final = document.issued_at <= now
    content = company.pdf(document) if is_final else pdf(f"Preliminary {document.kind} {document.number}")
    return {company.file_name(document): content}
