"""The company's purchases in the form of the Reconciliation API's responses."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.company import Company
from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from airflow_provider_amzbiz.sandbox.company_records import (
    CREDIT_MEMO,
    BookDocument,
    BookLine,
    BookTransaction,
    OrderLineIds,
    Version,
)

_LINE_AMOUNTS = {
    "totalAmount": "total",
    "principalAmount": "principal",
    "shippingCharge": "shipping",
    "regulatoryFee": "regulatory_fee",
    "giftWrappingCharge": "gift_wrap",
    "discount": "discount",
    "tax": "tax",
}
_PENDING = "Pending"
# Days after which an invoice is due, and from which on it is being paid.
_DUE, _PROCESSING = timedelta(days=30), timedelta(days=10)


class Wire:
    """Writes objects of one company."""

    def __init__(self, company: Company, clock: Clock) -> None:
        self._company = company
        self._clock = clock

    def transaction(self, transaction: BookTransaction, version: Version) -> dict[str, Any]:
        """Return a Transaction as one of its versions shows it."""
        rate = f"{MARKETS[transaction.marketplace_id].tax_rate:.2f}"
        person = f"{transaction.group.lower()}@example.com"
        amount = transaction.amount + version.authorised
        row = {
            "marketplaceId": transaction.marketplace_id,
            "transactionDate": self._clock.wire(transaction.transaction_date),
            "feedDate": self._clock.wire(version.feed_date),
            "transactionType": transaction.transaction_type,
            "transactionId": transaction.transaction_id,
            "chargeIdentifier": transaction.charge_identifier,
            "shipTaxRate": rate,
            "giftWrapTaxRate": rate,
            "legalEntityName": transaction.legal_entity,
            "purchasingCustomerGroupName": transaction.group,
            "invoiceNumber": transaction.lines[0].document_number if version.has_number else None,
            "amount": self._money(transaction.marketplace_id, self._signed(transaction, amount, "amount")),
            "paymentInstrumentType": transaction.payment_instrument_type,
            "paymentInstrumentLast4Digits": transaction.last4,
            "buyer": {"id": f"amzn1.account.{transaction.group}", "name": "Sample Buyer", "email": person},
            "payer": {"id": f"amzn1.account.{transaction.group}", "name": "Sample Payer", "email": person},
            "associatedTransactionDetails": [{"associatedTransactionId": each} for each in transaction.associated],
            "transactionLineItems": [self._line(transaction, line, version) for line in transaction.lines],
        }
        return _with_absent(row, transaction.transaction_id)

    def invoice_details(self, ids: OrderLineIds) -> list[dict[str, Any]]:
        """Return the documents of an order line, as far as they are known now."""
        now = self._clock.now()
        shipped = [line.shipment_date for line in self._company.lines_of(ids) if line.shipment_date]
        if not shipped or min(shipped) > now:
            return []
        found = [self._detail(each, now) for each in self._company.documents_of(ids)]
        return [each for each in found if each is not None]

    def payment(self, invoice_id: str) -> dict[str, Any]:
        """Return the result for one invoice, which may be an error."""
        now = self._clock.now()
        try:
            document = self._company.document(invoice_id)
        except KeyError:
            document = None
        if document is None or document.issued_at > now or document.kind != "Invoice":
            error = {"code": "INVOICE_NOT_FOUND", "message": f"There is no invoice {invoice_id}."}
            return {"invoiceId": invoice_id, "resultType": "ERROR", "error": error}
        due = document.issued_at + _DUE
        if now > due:
            status = "Past Due" if invoice_id < "D" else "Closed"
        else:
            status = "Payment Processing" if now > document.issued_at + _PROCESSING else "Issued"
        details = {"status": status, "dueDate": self._clock.wire(due)}
        return {"invoiceId": invoice_id, "resultType": "SUCCESS", "paymentDetails": details}

    def _line(self, transaction: BookTransaction, line: BookLine, version: Version) -> dict[str, Any]:
        shipped = line.shipment_date if version.has_shipments else None
        row: dict[str, Any] = {
            name: self._money(line.marketplace_id, self._signed(transaction, getattr(line, field), "lines"))
            for name, field in _LINE_AMOUNTS.items()
        }
        row |= {
            "refundReason": line.refund_reason,
            "unitPrice": self._money(line.marketplace_id, line.unit_price),
            "taxRate": f"{MARKETS[line.marketplace_id].tax_rate}",
            "orderId": line.order_id,
            "unspsc": line.unspsc,
            "orderLineItemId": line.order_line_item_id,
            "purchaseOrderNumber": line.purchase_order_number,
            "purchaseOrderLineItemId": line.purchase_order_line_item_id,
            "asin": line.asin,
            "productTitle": line.title,
            "itemQuantity": line.quantity,
            "shipmentId": line.shipment_id if version.has_shipments else None,
            "shipmentDate": self._clock.wire(shipped) if shipped else None,
            "merchantLegalName": MARKETS[line.marketplace_id].seller,
            "businessOrderInfo": {"GL code": "535-office", "Cost center": line.cost_center},
        }
        return _with_absent(row, line.order_line_item_id)

    def _detail(self, document: BookDocument, now: datetime) -> dict[str, Any] | None:
        """Return an InvoiceDetail; None for a document that does not show yet."""
        is_issued = document.issued_at <= now
        consolidated = document.consolidated_number
        if not is_issued and not document.is_consolidated:
            if document.kind == CREDIT_MEMO or document.before == "left out":
                return None
            return {"invoiceNumber": None, "invoiceDate": None, "invoiceType": "STANDARD"}
        number = document.number if is_issued else _PENDING
        if consolidated is not None and self._company.document(consolidated).issued_at > now:
            consolidated = _PENDING
        detail: dict[str, Any] = {
            "invoiceNumber": number,
            "invoiceDate": self._clock.wire(document.issued_at) if is_issued else None,
            "consolidatedInvoiceDetails": {"invoiceNumber": consolidated} if consolidated else None,
            "invoiceType": "CREDIT_MEMO" if document.kind == CREDIT_MEMO else "STANDARD",
        }
        return detail | (self._japanese(document) if MARKETS[document.marketplace_id].region == "fe" else {})

    def _japanese(self, document: BookDocument) -> dict[str, Any]:
        """Return the fields that Japan's qualified invoices have; amounts are positive for credit memos too."""
        place, market = document.marketplace_id, MARKETS[document.marketplace_id]
        party = {"name": market.seller, "registrationNumber": "T3040001028447"}
        tax = {
            "rate": f"{market.tax_rate}",
            "inclusiveTotal": self._money(place, abs(document.total)),
            "exclusiveTotal": self._money(place, abs(document.total - document.tax)),
            "amount": self._money(place, abs(document.tax)),
        }
        related = document.related_number
        more: dict[str, Any] = {}
        if related is not None:
            issued = self._company.document(related).issued_at
            more = {"associatedInvoiceNumber": related, "associatedInvoiceDate": self._clock.wire(issued)}
        return more | {
            "invoiceIssuer": party,
            "sellerInformation": party,
            "orderDate": self._clock.wire(self._company.books.placed[document.order_ids[0]]),
            "currencyCode": market.currency,
            "invoiceTotal": self._money(place, abs(document.total))["amount"],
            "tax": [tax],
            "transactionDataItems": [
                {
                    "taxRate": f"{market.tax_rate}",
                    "unit": line.quantity,
                    "asin": line.asin,
                    "title": line.title,
                    "unitTaxAmount": self._money(place, abs(line.tax)),
                    "totalAmount": self._money(place, abs(line.total)),
                    "apportionment": [],
                    "fees": [],
                }
                for line in document.lines
            ],
            "fees": [],
        }

    def _signed(self, transaction: BookTransaction, amount: Decimal, place: str) -> Decimal:
        """Return an amount as it comes at a place, the transaction's ``amount`` or its ``lines``."""
        is_refund = transaction.transaction_type != "CHARGE"
        # Not abs(): of a refund, the discount is positive.
        return -amount + 0 if is_refund and self._company.signed_refunds not in (True, place) else amount

    @staticmethod
    def _money(marketplace_id: str, amount: Decimal) -> dict[str, str]:
        market = MARKETS[marketplace_id]
        return {"currencyCode": market.currency, "amount": f"{amount.quantize(market.scale):f}"}


def _with_absent(row: dict[str, Any], seed: str) -> dict[str, Any]:
    """Write what is missing in one of the three ways that have been seen, the same for the same object."""
    style = sum(seed.encode()) % 3
    if style == 0:
        return {name: value for name, value in row.items() if value is not None}
    return {name: "" if value is None and style == 2 else value for name, value in row.items()}
