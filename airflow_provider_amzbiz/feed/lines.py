"""Transactions as flat lines: one JSON-safe dict per line of an order, with all that the tables need of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_amzbiz.client.reconciliation_models import (
    Customer,
    Money,
    Transaction,
    TransactionLineItem,
    TransactionType,
)
from airflow_provider_amzbiz.feed.names import CREDIT_MEMO, INVOICE, PENDING

Line = dict[str, Any]
# A price and not a payment, so a refund does not turn its sign.
_PRICE = "unit_price"
_AMOUNTS: Mapping[str, str] = {
    "unit_price": "unit_price",
    "principal": "principal_amount",
    "shipping": "shipping_charge",
    "gift_wrap": "gift_wrapping_charge",
    "regulatory_fee": "regulatory_fee",
    "discount": "discount",
    "tax": "tax",
    "total": "total_amount",
}
# What of a transaction without an id does not change when it is amended.
_IDENTIFYING = (
    "marketplace_id",
    "transaction_type",
    "transaction_date",
    "amount",
    "order_id",
    "order_line_item_id",
)
_TEXTS: Mapping[str, str] = {
    "order_id": "order_id",
    "order_line_item_id": "order_line_item_id",
    "shipment_id": "shipment_id",
    "po_number": "purchase_order_number",
    "po_line": "purchase_order_line_item_id",
    "asin": "asin",
    "title": "product_title",
    "tax_rate": "tax_rate",
    "unspsc": "unspsc",
    "refund_reason": "refund_reason",
    "budget_id": "budget_id",
    "seller_name": "merchant_legal_name",
}


def lines_of(transaction: Transaction, *, include_personal_data: bool = False) -> list[Line]:
    """Return the lines of a transaction; one without any has one line, whose own columns are None.

    Refunds are negative, whichever signs the API gave to the transaction and to its lines: some accounts get them
    unsigned. Inside, amounts keep their opposite signs, such as discounts, or a correction among the lines.

    :param include_personal_data: keep buyer and payer, which stay out of everything otherwise.
    """
    common = _header(transaction, include_personal_data)
    items = transaction.transaction_line_items or (TransactionLineItem(),)
    is_refund = transaction.transaction_type in (TransactionType.REFUND, TransactionType.OVERREFUND)
    amount = (transaction.amount and transaction.amount.amount) or Decimal()
    signs = _refund_signs(items, amount) if is_refund else [1] * len(items)
    common["amount"] = _signed(transaction.amount, _sign_of_refund(amount) if is_refund else 1)
    lines = [
        {**common, "line_number": number, **_item(item, sign)}
        for number, (item, sign) in enumerate(zip(items, signs, strict=True), start=1)
    ]
    for line in lines:
        line["currency"] = line["currency"] or common["currency"]
    identity = transaction.transaction_id or _identity(lines)
    return [{"transaction_id": identity, **line} for line in lines]


def document_type_of(line: Mapping[str, Any]) -> str:
    """Return the type of the document that a line belongs to: charges to invoices, refunds to credit memos."""
    kind = line["transaction_type"]
    if kind in (TransactionType.REFUND, TransactionType.OVERREFUND):
        return CREDIT_MEMO
    if kind == TransactionType.CHARGE:
        return INVOICE
    # A new type of the API's.
    return CREDIT_MEMO if (amount := line["amount"] or line["total"]) and Decimal(amount) < 0 else INVOICE


def is_number(number: str | None) -> bool:
    """Tell whether the number of a document is one, and not the note that it is yet to come."""
    return number is not None and bool(number.strip()) and number.strip().lower() != PENDING.lower()


def triple_of(line: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the three ids by which Amazon knows a line, None where one of them is missing."""
    found = line["order_id"], line["order_line_item_id"], line["shipment_id"]
    return found if all(found) else None


def open_key(line: Mapping[str, Any], document_type: str) -> tuple[str, str, str, str, str, str]:
    """Return what an open item is known by: the order line, or, where that is unknown, the transaction's line."""
    ids = [line[name] or "" for name in ("marketplace_id", "order_id", "order_line_item_id", "shipment_id")]
    known = line["order_id"] and line["order_line_item_id"]
    alone = "" if known else f"{line['transaction_id']}#{line['line_number']}"
    return ids[0], ids[1], ids[2], ids[3], document_type, alone


def iso(time: datetime | None) -> str | None:
    """Return a time in UTC, always as long, so that its strings sort as times do."""
    if time is None:
        return None
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def text_of(amount: Decimal | None) -> str | None:
    """Return an amount with all its digits and without an exponent."""
    return None if amount is None else format(amount, "f")


def _header(transaction: Transaction, include_personal_data: bool) -> Line:
    buyer, payer = (transaction.buyer, transaction.payer) if include_personal_data else (None, None)
    others = [each.associated_transaction_id for each in transaction.associated_transaction_details]
    return {
        "transaction_type": transaction.transaction_type,
        "transaction_date": iso(transaction.transaction_date),
        "feed_date": iso(transaction.feed_date),
        "marketplace_id": transaction.marketplace_id,
        "legal_entity": transaction.legal_entity_name,
        "group_name": transaction.purchasing_customer_group_name,
        "invoice_number": transaction.invoice_number,
        "currency": transaction.amount and transaction.amount.currency_code,
        "payment_instrument_type": transaction.payment_instrument_type,
        "last4": transaction.payment_instrument_last4_digits,
        "charge_identifier": transaction.charge_identifier,
        "associated_transaction_ids": [each for each in others if each],
        "ship_tax_rate": transaction.ship_tax_rate,
        "gift_wrap_tax_rate": transaction.gift_wrap_tax_rate,
        "buyer": _person(buyer),
        "payer": _person(payer),
    }


def _item(item: TransactionLineItem, sign: int) -> Line:
    amounts: dict[str, Money | None] = {name: getattr(item, source) for name, source in _AMOUNTS.items()}
    currencies = [each.currency_code for each in reversed(amounts.values()) if each and each.currency_code]
    info = dict(item.business_order_info)
    return {
        **{name: getattr(item, source) for name, source in _TEXTS.items()},
        "shipment_date": iso(item.shipment_date),
        "quantity": item.item_quantity,
        "currency": currencies[0] if currencies else None,
        **{name: _signed(each, 1 if name == _PRICE else sign) for name, each in amounts.items()},
        "business_order_info": json.dumps(info, sort_keys=True, ensure_ascii=False) if info else None,
    }


def _refund_signs(items: Sequence[TransactionLineItem], amount: Decimal) -> list[int]:
    """Return what to multiply the amounts of each line of a refund with, 1 or -1.

    Lines that add up to the transaction's amount agree on what their signs mean, so that a line of the other sign
    is a correction. Else each line tells its own.
    """
    totals = [_decisive(item) for item in items]
    if abs(together := sum(totals, Decimal())) == abs(amount):
        return [_sign_of_refund(together)] * len(totals)
    return [_sign_of_refund(total) for total in totals]


def _sign_of_refund(amount: Decimal) -> int:
    return -1 if amount > 0 else 1


def _decisive(item: TransactionLineItem) -> Decimal:
    """Return the amount that tells a line's sign: its total, else its principal, else the sum of its parts."""
    found = {name: getattr(item, source) for name, source in _AMOUNTS.items() if name != _PRICE}
    amounts = {name: money.amount for name, money in found.items() if money and money.amount}
    return amounts.get("total") or amounts.get("principal") or sum(amounts.values(), Decimal())


def _signed(money: Money | None, sign: int) -> str | None:
    if money is None or money.amount is None:
        return None
    return text_of(money.amount.copy_negate() if sign < 0 and money.amount else money.amount)


def _person(customer: Customer | None) -> str | None:
    if customer is None:
        return None
    values = {"id": customer.id, "name": customer.name, "email": customer.email}
    return json.dumps(values, ensure_ascii=False)


def _identity(lines: list[Line]) -> str:
    """Return an id for a transaction that has none: the same whenever the API shows it."""
    kept = [[line[name] for name in _IDENTIFYING] for line in lines]
    return "unidentified-" + hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]
