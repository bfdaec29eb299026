"""Amazon's static sandbox of the Reconciliation API: six cases, and nothing else."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox

BASE = "/reconciliation/2021-01-08"
GOOD_WINDOW = "feedStartDate=2020-07-09T00:00:00Z&feedEndDate=2020-08-01T00:00:00Z"
BAD_WINDOW = "feedStartDate=incorrectFormatDate&feedEndDate=2020-08-01T00:00:00"
LINES = [
    {"orderId": "503-0807783-5846230", "orderLineItemId": "6172301145805", "shipmentId": "Dps13nXXc"},
    {"orderId": "250-9059274-9386231", "orderLineItemId": "6172160940605", "shipmentId": "DZms0yvhc"},
]
IDS = ["JP218PV8HMOI", "1XQX-T4VG-9939"]


@pytest.fixture(scope="module")
def static_api(caller):
    with Sandbox(static=True, throttle=False) as sandbox:
        yield caller(sandbox)


def refused(message, **more):
    return {"errors": [{"code": "INVALID_REQUEST_PARAMETER", "message": message, **more}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer"),
    [
        (
            "GET", f"transactions?{BAD_WINDOW}", None, 400,
            refused("Input date [incorrectFormatDate] is not in the expected ISO8601 format."),
        ),
        (
            "POST", "invoices/batch/paymentDetails", {"invoiceIds": IDS}, 200,
            {
                "invoicePaymentDetailsResults": [
                    {"invoiceId": "JP218PV8HMOI", "resultType": "SUCCESS"},
                    {"invoiceId": "1XQX-T4VG-9939", "resultType": "ERROR"},
                ]
            },
        ),
        (
            "POST", "invoices/batch/paymentDetails", {"invoiceIds": ["INVALID_INVOICE_ID"]}, 400,
            refused(
                "The request contains invalid parameters.",
                details="The invoiceIds array must contain at least one invoice ID.",
            ),
        ),
        ("POST", "invoices", None, 400, refused("Missing required request parameters.")),
    ],
)  # fmt: skip
def test_a_short_case(static_api, method, path, body, status, answer):
    headers = {"Content-Type": "application/json"}
    response = static_api.request(method, f"{BASE}/{path}", json=body, headers=headers)

    assert response.status_code == status
    assert response.content == json.dumps(answer, separators=(",", ":")).encode() + b"\n"
    assert response.headers["x-amzn-RateLimit-Limit"] == "5.0"


def test_the_transaction(static_api):
    body = static_api.request("GET", f"{BASE}/transactions?{GOOD_WINDOW}").json()

    assert list(body) == ["transactions"]
    (row,) = body["transactions"]
    assert (row["transactionId"], row["amount"]) == (
        "1x47pVc03Ffs71cjjCct",
        {"currencyCode": "USD", "amount": "5.99"},
    )
    assert row["feedDate"] == "2021-05-12T20:44:21.791Z"
    assert row["transactionLineItems"][0]["discount"]["amount"] == "-2.99"


def test_the_invoice_details(static_api):
    body = static_api.request("POST", f"{BASE}/invoices", json={"orderLineItems": LINES}).json()

    rows = body["invoiceDetailsByOrderLineItems"]
    assert [each["orderLineItem"] for each in rows] == LINES[::-1]
    assert [[each["invoiceNumber"] for each in row["invoiceDetails"]] for row in rows] == [
        ["JP218PV8HMOI", "JP22E0VEIAJGKI", "JP21UV8HMOC", "JP2SRUXAJGKC", "JP2SPSMAJGKC"],
        ["JP25EF9G0FUI", "JP22C9G0FUC"],
    ]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"transactions?{GOOD_WINDOW.replace('00Z&', '00&')}", None),
        ("GET", f"transactions?{GOOD_WINDOW.replace('00Z&', '00.000Z&')}", None),
        ("GET", f"transactions?{GOOD_WINDOW}&nextPageToken=", None),
        ("GET", "transactions", None),
        ("POST", "invoices", {"orderLineItems": LINES[::-1]}),
        ("POST", "invoices", {"orderLineItems": LINES[:1]}),
        ("POST", "invoices/batch/paymentDetails", {"invoiceIds": IDS[::-1]}),
        ("POST", "invoices/batch/paymentDetails", {}),
    ],
)
def test_what_is_no_case(static_api, method, path, body):
    response = static_api.request(method, f"{BASE}/{path}", json=body)

    assert response.status_code == 400
    assert response.json()["errors"][0]["message"] == "Could not match input arguments"
