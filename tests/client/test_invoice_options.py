"""Options that an invoice does not have are rejected before any call."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.client.invoice_options import INVOICE_OPTIONS
from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import invoices

INVOICE = "GET_AB_INVOICE_PDF"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("invoiceID", "invoiceId"),
        ("invoice_id", "invoiceId"),
        ("InvoiceId", "invoiceId"),
        ("invoiceNumber", "invoiceId"),
        ("orderid", "orderId"),
        ("order_id", "orderId"),
        ("orderLineId", "orderLineItemId"),
        ("shipment", "shipmentId"),
        ("document_type", "documentType"),
        ("type", "documentType"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_the_nearest_option_is_named(sandbox, given, meant, as_text):
    options = {"documentType": "Invoice", given: "1"}
    with pytest.raises(InvalidInputError) as caught:
        AmazonBusinessHook().create_report(INVOICE, report_options=json.dumps(options) if as_text else options)

    assert f"report_options has {given!r}" in str(caught.value)
    assert f"did you mean {meant!r}?" in str(caught.value)
    assert all(option in str(caught.value) for option in INVOICE_OPTIONS)
    assert sandbox.calls == []


def test_nothing_is_guessed_where_nothing_is_near(sandbox):
    with pytest.raises(InvalidInputError, match="report_options has 'rows'") as caught:
        AmazonBusinessHook().create_report(INVOICE, report_options={"invoiceId": "1", "rows": 5})

    assert "did you mean" not in str(caught.value)
    assert sandbox.calls == []


def test_other_types_may_have_any_option(sandbox):
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", report_options={"invoice_id": "1"})

    assert sandbox.reports[report_id].report_options == {"invoice_id": "1"}


def test_the_sandbox_knows_the_same_options():
    assert set(INVOICE_OPTIONS) == invoices.OPTIONS
