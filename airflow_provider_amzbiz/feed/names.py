"""Names that the feed gives to documents, and reasons for which a line has none yet."""

from __future__ import annotations

INVOICE, CREDIT_MEMO, ORDER_SUMMARY = "Invoice", "CreditMemo", "OrderSummary"
DOCUMENT_TYPES = (INVOICE, CREDIT_MEMO, ORDER_SUMMARY)
# Stands where the number of a document will be.
PENDING = "Pending"
# How transactions call the payment by which Amazon issues invoices in North America.
PAY_BY_INVOICE = "pay by invoice"

NO_LINES = "the transaction has no order lines and no document number"
NO_ORDER_ID = "the line has no order id and no document number"
NO_LINE_ID = "the line has no order line item id yet"
NO_SHIPMENT_ID = "the line has no shipment id yet"
NO_MARKETPLACE = "the transaction has no marketplace id"
UNKNOWN_REGION = "the region of the marketplace is unknown"
NO_NUMBER = "Amazon has not issued the document yet: it has no number"
PENDING_NUMBER = "Amazon has not issued the document yet: its number is Pending"
CARD_ORDER = "a card order in North America: Amazon has an order summary of it only (document_types)"
CARD_REFUND = "a refund of a card order in North America: Amazon has no credit memo of it"
NOT_SHIPPED = "the order has not shipped completely, so that its summary would be preliminary"
NOT_IN_REPORT = "the report did not bring it, although Amazon lists it"
TOO_FEW_FILES = (
    "the report brought fewer files than Amazon lists documents, and no file name tells which one is missing"
)
