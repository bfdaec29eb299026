"""What the Reconciliation API returns, read from Amazon's own examples."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_provider_amzbiz import sandbox
from airflow_provider_amzbiz.client.json_model import read_exact_json
from airflow_provider_amzbiz.client.reconciliation_models import (
    PENDING,
    Customer,
    InvoiceDetail,
    InvoiceDetailsByOrderLineItem,
    InvoicePaymentDetails,
    InvoiceType,
    Money,
    OrderLineItem,
    PhysicalAddress,
    Transaction,
    TransactionType,
)

CASES = {
    case["name"]: read_exact_json(json.dumps(case["response"]).encode())
    for case in json.loads(Path(sandbox.__file__).with_name("static_reconciliation_cases.json").read_text("utf-8"))
}


def test_a_transaction_has_all_that_amazon_shows():
    (row,) = CASES["getTransactions.200"]["transactions"]

    found = Transaction.from_api(row)

    assert found.extra == {}
    assert found.marketplace_id == "ATVPDKIKX0DER"
    assert found.feed_date == datetime(2021, 5, 12, 20, 44, 21, 791000, timezone.utc)
    assert found.transaction_type == TransactionType.CHARGE
    assert found.transaction_id == "1x47pVc03Ffs71cjjCct"
    assert found.charge_identifier == "RA5RE0N60"
    assert found.ship_tax_rate == "0.00"
    assert found.gift_wrap_tax_rate == "0.00"
    assert found.legal_entity_name == "May ProdInv"
    assert found.invoice_number == "JP218PV8HMOI"
    assert found.amount == Money("USD", Decimal("5.99"))
    assert found.payment_instrument_type == "PayStation"
    assert found.payment_instrument_last4_digits is None
    assert found.associated_transaction_details[0].associated_transaction_id == "ONf39R7NmjIh9247YJ34"


def test_the_order_is_on_the_line_and_not_on_the_transaction():
    (row,) = CASES["getTransactions.200"]["transactions"]

    (line,) = Transaction.from_api(row).transaction_line_items

    assert line.extra == {}
    assert (line.order_id, line.order_line_item_id, line.shipment_id) == (
        "114-1458190-2465828",
        "31208275451321",
        "DhG3L9W23",
    )
    assert line.discount == Money("USD", Decimal("-2.99"))
    assert line.purchase_order_number is None
    assert line.item_quantity == 1
    assert line.shipment_date == datetime(2020, 4, 3, 16, 59, 21, tzinfo=timezone.utc)
    assert line.business_order_info == {"GL code": "535-office", "COVID-19 Related?": "No", "Cost center": None}
    assert not hasattr(Transaction.from_api(row), "order_id")


def test_one_line_has_two_invoices_and_three_credit_memos():
    rows = CASES["getInvoiceDetailsByOrderLineItems.200"]["invoiceDetailsByOrderLineItems"]

    first = InvoiceDetailsByOrderLineItem.from_api(rows[0])

    assert first.order_line_item == OrderLineItem("250-9059274-9386231", "6172160940605", "DZms0yvhc")
    assert [each.invoice_type for each in first.invoice_details] == [InvoiceType.STANDARD] * 2 + [
        InvoiceType.CREDIT_MEMO
    ] * 3
    assert len({each.invoice_number for each in first.invoice_details}) == 5


def test_no_field_of_the_examples_is_unknown():
    def extras(value):
        if isinstance(value, dict):
            yield from value.get("extra", {}).items()
            for each in value.values():
                yield from extras(each)
        if isinstance(value, list):
            for each in value:
                yield from extras(each)

    rows = CASES["getInvoiceDetailsByOrderLineItems.200"]["invoiceDetailsByOrderLineItems"]

    assert [found for row in rows for found in extras(InvoiceDetailsByOrderLineItem.from_api(row).to_dict())] == []


def test_a_japanese_credit_memo_is_read_to_its_last_part():
    rows = CASES["getInvoiceDetailsByOrderLineItems.200"]["invoiceDetailsByOrderLineItems"]
    memo = InvoiceDetailsByOrderLineItem.from_api(rows[0]).invoice_details[2]

    assert memo.associated_invoice_number == "JP218PV8HMOI"
    assert memo.consolidated_invoice_details is None
    # Positive for a credit memo too, and of another scale than the invoice's.
    assert memo.invoice_total == Decimal("1751.0")
    assert memo.tax[0].exclusive_total == Money("JPY", Decimal(1592))
    assert memo.tax[0].rate == "0.1"
    item = memo.transaction_data_items[0]
    assert item.unit_tax_inclusive_price == Money(None, Decimal(0))
    assert item.apportionment[0].line_number == 1
    assert item.apportionment[0].unit_price == Money("JPY", Decimal(1592))
    assert item.discount is None
    assert memo.fees[0].tax.amount == Money("JPY", Decimal(12))
    assert memo.fees[0].apportionment[0].tax_exclusive_fee == Money("JPY", Decimal(61))
    assert memo.invoice_issuer.registration_number is None
    assert memo.bill_to_address.city is None


def test_a_consolidated_invoice_has_its_own_number_or_none_yet():
    rows = CASES["getInvoiceDetailsByOrderLineItems.200"]["invoiceDetailsByOrderLineItems"]
    plain = InvoiceDetailsByOrderLineItem.from_api(rows[0]).invoice_details[0]
    pending = InvoiceDetail.from_api({"consolidatedInvoiceDetails": {"invoiceNumber": "Pending"}})

    assert plain.consolidated_invoice_details.invoice_number == "11XS-123S-XFA1"
    assert pending.consolidated_invoice_details.invoice_number == PENDING


def test_payment_details_may_lack_what_the_schema_requires():
    found = [
        InvoicePaymentDetails.from_api(each)
        for each in CASES["getBatchInvoicePaymentDetails.200"]["invoicePaymentDetailsResults"]
    ]

    assert found == [
        InvoicePaymentDetails("JP218PV8HMOI", "SUCCESS"),
        InvoicePaymentDetails("1XQX-T4VG-9939", "ERROR"),
    ]


@pytest.mark.parametrize("kind", ["CHARGE", "REFUND", "SURCHARGE"])
def test_a_new_kind_of_transaction_stays_as_it_came(kind):
    assert Transaction.from_api({"transactionType": kind}).transaction_type == kind


def test_personal_data_is_not_in_a_repr():
    customer = Customer("amzn1.account.1", "Jane Doe", "jane@example.com")
    address = PhysicalAddress(full_name="Jane Doe", phone_number="555-0100", address_line1="1 Main Street")

    shown = f"{Transaction(buyer=customer, payer=customer)!r} {InvoiceDetail(bill_to_address=address)!r}"

    for secret in ("Jane", "jane@", "555-0100", "Main Street"):
        assert secret not in shown
