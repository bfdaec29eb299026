"""Marketplaces and the options of invoices: what Amazon's documentation does not show is rejected."""

from __future__ import annotations

import pytest

INVOICE = "GET_AB_INVOICE_PDF"
LINES = "SANDBOX_ORDER_LINES"
SCHEMA = "One or more parameters does not conform to the schema constraints."
MISSING = "One or more required parameters missing"
US, CA, MX = "ATVPDKIKX0DER", "A2EUQ1WTGCTBG2", "A1AM78C64UM0Y8"
DE, ES, UK, FR = "A1PA6795UKMFR9", "A1RKKUPIHCS9HS", "A1F83G8C2ARO7P", "A13V1IB3VIYZZH"
IT, IN = "APJ6JRA9NG5V4", "A21TJRUUN4KGV"
JP, AU = "A1VC38T7YXB528", "A39IBJ37TRP1C6"
REGIONS = {"na": [US, CA, MX], "eu": [DE, ES, UK, FR, IT, IN], "fe": [JP, AU]}
LINE = {"orderId": "203-1", "orderLineItemId": "207", "shipmentId": "D6"}


@pytest.fixture(scope="module")
def apis(caller):
    """One sandbox for each region, and one for all."""
    from contextlib import ExitStack

    from airflow_provider_amzbiz.sandbox import Sandbox

    with ExitStack() as stack:
        settings = {"throttle": False, "queue_seconds": 0, "processing_seconds": 0}
        yield {
            region: caller(stack.enter_context(Sandbox(region=region, **settings))) for region in (*REGIONS, "any")
        }


def rejection(response):
    assert response.status_code == 400, response.text
    (error,) = response.json()["errors"]
    assert error["code"] == "InvalidInput"
    return error["message"], error["details"]


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("report_type", [LINES, INVOICE])
def test_a_host_serves_its_own_marketplaces_only(apis, region, report_type):
    for other, marketplaces in REGIONS.items():
        for marketplace in marketplaces:
            response = apis[region].create(report_type, {"invoiceId": "1"}, marketplaceIds=[marketplace])
            listed = apis[region].list(f"reportTypes={report_type}&marketplaceIds={marketplace}")
            if other == region:
                assert (response.status_code, listed.status_code) == (202, 200)
            else:
                assert rejection(response) == rejection(listed) == (SCHEMA, "marketplaceIds;")


@pytest.mark.parametrize("region", [*REGIONS, "any"])
@pytest.mark.parametrize("wrong", ["A1805IZSGTT6HT", "US", "atvpdkikx0der", " ATVPDKIKX0DER"])
def test_a_marketplace_that_does_not_exist(apis, region, wrong):
    own = REGIONS["na" if region == "any" else region][0]
    for ids in ([wrong], [own, wrong]):
        assert rejection(apis[region].create(marketplaceIds=ids)) == (SCHEMA, "marketplaceIds;")


@pytest.mark.parametrize("region", [*REGIONS, "any"])
def test_no_request_is_for_two_regions(apis, region):
    for ids in ([US, DE], [DE, JP], [JP, US]):
        assert rejection(apis[region].create(marketplaceIds=ids)) == (SCHEMA, "marketplaceIds;")


def test_a_report_may_be_for_several_marketplaces_of_one_region(apis):
    for region, ids in REGIONS.items():
        assert apis[region].create(marketplaceIds=ids).status_code == 202
        assert apis["any"].create(marketplaceIds=ids).status_code == 202


def test_an_invoice_is_for_one_marketplace(apis):
    for ids in ([US, CA], [US, US]):
        response = apis["na"].create(INVOICE, {"invoiceId": "1"}, marketplaceIds=ids)
        assert rejection(response) == (SCHEMA, "marketplaceIds;")


@pytest.mark.parametrize(
    ("marketplace", "options"),
    [
        # The official examples, which show a German marketplace, and what the release notes added to them.
        (DE, {"invoiceId": "GB1UFB1HAEUI", "documentType": "Invoice"}),
        (DE, LINE),
        (DE, {"orderId": "203-9277085-5441169"}),
        (DE, {"orderId": "203-1", "documentType": "Invoice"}),
        (DE, {"orderId": "203-1", "shipmentId": "D6"}),
        (IN, {"orderId": "203-1"}),
        (US, {"invoiceId": "1111-2222-3333", "documentType": "Credits"}),
        (US, {"invoiceId": "1111-2222-3333", "documentType": "Invoice"}),
        (US, {"invoiceId": "1111-2222-3333"}),
        (US, {"orderId": "111-1", "documentType": "OrderSummary"}),
        (JP, LINE),
        (JP, {"invoiceId": "1"}),
        (AU, LINE),
    ],
)
def test_options_of_the_documentation(apis, marketplace, options):
    response = apis["any"].create(INVOICE, options, marketplaceIds=[marketplace])
    assert response.status_code == 202, response.text
    assert apis["any"].status(response.json()["reportId"]) == "DONE"


@pytest.mark.parametrize(
    ("marketplace", "options", "message", "details"),
    [
        (US, {"invoiceId": "1", "documentType": "Receipt"}, SCHEMA, "reportOptions.documentType;"),
        (US, {"invoiceId": "1", "documentType": "invoice"}, SCHEMA, "reportOptions.documentType;"),
        (US, {"invoiceId": "1", "documentType": ""}, SCHEMA, "reportOptions.documentType;"),
        (DE, {"invoiceId": "1", "documentType": "Credits"}, SCHEMA, "reportOptions.documentType;"),
        (DE, {"orderId": "1", "documentType": "OrderSummary"}, SCHEMA, "reportOptions.documentType;"),
        (JP, {**LINE, "documentType": "OrderSummary"}, SCHEMA, "reportOptions.documentType;"),
        (US, {"invoiceID": "1"}, SCHEMA, "reportOptions.invoiceID;"),
        (US, {"invoiceId": "1", "rows": "5"}, SCHEMA, "reportOptions.rows;"),
        (US, {"invoiceId": ""}, SCHEMA, "reportOptions.invoiceId;"),
        (US, {"invoiceId": "  "}, SCHEMA, "reportOptions.invoiceId;"),
        (DE, {"orderId": ""}, SCHEMA, "reportOptions.orderId;"),
        (US, {"invoiceId": "Pending"}, SCHEMA, "reportOptions.invoiceId;"),
        (US, {"invoiceId": "Pending", "documentType": "Credits"}, SCHEMA, "reportOptions.invoiceId;"),
        (DE, {"invoiceId": " pending "}, SCHEMA, "reportOptions.invoiceId;"),
        (US, {"documentType": "Invoice"}, MISSING, "reportOptions;"),
        (US, {"orderId": "111-1"}, MISSING, "reportOptions.documentType;"),
        (US, LINE, MISSING, "reportOptions.documentType;"),
        (US, {"orderId": "111-1", "documentType": "Invoice"}, SCHEMA, "reportOptions.documentType;"),
        (US, {"orderId": "111-1", "documentType": "Credits"}, SCHEMA, "reportOptions.documentType;"),
        (US, {"invoiceId": "1", "documentType": "OrderSummary"}, MISSING, "reportOptions.orderId;"),
        (DE, {"orderLineItemId": "207", "shipmentId": "D6"}, MISSING, "reportOptions.orderId;"),
        (
            JP,
            {"orderId": "203-1"},
            MISSING,
            "reportOptions.orderLineItemId;reportOptions.shipmentId;",
        ),
        (JP, {"orderId": "203-1", "shipmentId": "D6"}, MISSING, "reportOptions.orderLineItemId;"),
        (AU, {"orderId": "203-1", "orderLineItemId": "207"}, MISSING, "reportOptions.shipmentId;"),
    ],
)
def test_options_that_no_documentation_shows(apis, marketplace, options, message, details):
    before = len(apis["any"].sandbox.reports)
    response = apis["any"].create(INVOICE, options, marketplaceIds=[marketplace])
    assert rejection(response) == (message, details)
    assert len(apis["any"].sandbox.reports) == before


@pytest.mark.parametrize("options", [None, {}])
def test_without_any_option_there_is_no_invoice(apis, options):
    assert apis["na"].status(apis["na"].created(INVOICE, options)) == "CANCELLED"


def test_the_connection_names_a_marketplace_of_the_region(apis):
    for region, marketplaces in REGIONS.items():
        extra = apis[region].sandbox.connection["extra"]
        assert extra["marketplace_ids"] in marketplaces
        assert extra.get("region", "na") == region
        added = apis[region].get(apis[region].sandbox.add_report()).json()
        assert added["marketplaceIds"] == [extra["marketplace_ids"]]


def test_ids_and_urls_tell_the_region(apis):
    for region, place in {"na": "us-east-1", "eu": "eu-west-1", "fe": "us-west-2"}.items():
        described = apis[region].describe(marketplaceIds=REGIONS[region][:1])
        assert described["reportDocumentId"].startswith(f"amzn1.spdoc.1.4.{region}.")
        assert f".amzn1.tortuga.4.{region}." in described["url"]
        assert f"%2F{place}%2Fs3%2Faws4_request&" in described["url"]


@pytest.mark.parametrize("with_company", [True, False])
@pytest.mark.parametrize(
    ("invoice", "status"),
    [("FATAL-1", "FATAL"), ("FATAL-DOC-1", "FATAL"), ("SLOW-1", "DONE"), ("MULTI-1", "DONE"), ("1", "CANCELLED")],
)
def test_an_invoice_that_chooses_its_outcome_exists_beside_the_known_ones(caller, with_company, invoice, status):
    from airflow_provider_amzbiz.sandbox import Company, Sandbox

    settings = {"queue_seconds": 0, "processing_seconds": 0, "company": Company(seed=1) if with_company else None}
    with Sandbox(known_invoices=["1111"], **settings) as sandbox:
        response = caller(sandbox).create(INVOICE, {"invoiceId": invoice})
        report = sandbox.reports[response.json()["reportId"]]

    assert report.status == status
