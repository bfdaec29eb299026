"""Marketplaces of another region than the host are rejected before any call, where both are known."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.client.config import REGION_ENDPOINTS, ClientConfig
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.marketplaces import MARKETPLACES
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox.marketplaces import REGION_OF
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.deferring import context

LINES = "SANDBOX_ORDER_LINES"
US, DE, JP = "ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528"
EVERY = [(marketplace, region) for region, marketplaces in MARKETPLACES.items() for marketplace in marketplaces]


def client_of(endpoint):
    return ReportsClient(
        ClientConfig("id", "secret", "token", endpoint=endpoint), retry_for=0, max_throttle_wait=0
    )


@pytest.fixture
def region_connection(monkeypatch):
    """Make the connection one of a region, without an Endpoint of its own."""

    def connected(region, **extra):
        connection = {"conn_type": "amazon_business", "login": "id", "password": "secret"}
        extra = {"refresh_token": "token", "region": region, **extra}
        monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps({**connection, "extra": extra}))

    return connected


def test_the_sandbox_knows_the_same_marketplaces():
    assert dict(EVERY) == dict(REGION_OF)


@pytest.mark.parametrize(("marketplace", "region"), EVERY)
def test_a_marketplace_fits_its_own_region_only(marketplace, region):
    for called, endpoint in REGION_ENDPOINTS.items():
        if called == region:
            assert ReportRequest.of(LINES, marketplace, endpoint=endpoint).body["marketplaceIds"] == [marketplace]
        else:
            with pytest.raises(
                InvalidParameterError, match=f"'{marketplace}'.*region '{region}'.*region '{called}'"
            ):
                ReportRequest.of(LINES, marketplace, endpoint=endpoint)


def test_the_error_names_what_the_host_serves():
    with pytest.raises(InvalidParameterError) as caught:
        client_of(REGION_ENDPOINTS["eu"]).create_report(LINES, [DE, US])

    for marketplace in MARKETPLACES["eu"]:
        assert marketplace in str(caught.value)
    assert "United States" in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://eu.business-api.amazon.com/",
        "https://EU.business-api.amazon.com",
        "https://eu.business-api.amazon.com:443",
    ],
)
def test_the_host_counts_however_it_is_written(endpoint):
    with pytest.raises(InvalidParameterError, match="'ATVPDKIKX0DER'.*region 'na'"):
        client_of(endpoint).create_report(LINES, [US])


@pytest.mark.parametrize(
    "endpoint",
    [None, "http://127.0.0.1:8080", "https://proxy.example.com", "https://sandbox.na.business-api.amazon.com"],
)
def test_a_host_of_an_unknown_region_checks_nothing(endpoint):
    assert ReportRequest.of(LINES, [US, DE, JP], endpoint=endpoint).body["marketplaceIds"] == [US, DE, JP]


def test_a_marketplace_that_is_not_in_the_list_is_let_through():
    endpoint = REGION_ENDPOINTS["eu"]
    assert ReportRequest.of(LINES, ["A1805IZSGTT6HS", DE], endpoint=endpoint)


@pytest.mark.parametrize(("region", "marketplace"), [("na", DE), ("eu", US), ("fe", DE)])
def test_the_hook_rejects_creates_and_listings(region_connection, region, marketplace):
    region_connection(region, marketplace_ids=marketplace)
    hook = AmazonBusinessHook(retry_for=0, max_throttle_wait=0)

    for call in (
        lambda: hook.create_report(LINES, marketplace),
        # The connection's own marketplace is no better.
        lambda: hook.create_report(LINES),
        lambda: hook.get_reports(report_types=LINES, marketplace_ids=[marketplace]),
    ):
        with pytest.raises(InvalidInputError, match=f"marketplace_ids has '{marketplace}'"):
            call()


def test_operators_reject_it(region_connection):
    region_connection("na")
    batch = ReportsToS3Operator(
        task_id="batch",
        requests=[{"report_type": LINES, "marketplace_ids": [US]}, {"report_type": LINES, "marketplace_ids": DE}],
        s3_bucket="b",
        s3_key="{report_id}",
    )
    create = CreateReportOperator(task_id="create", report_type=LINES, marketplace_ids=[DE])

    for operator in (batch, create):
        with pytest.raises(InvalidInputError, match="'A1PA6795UKMFR9'.*'eu'.*'na'"):
            operator.execute(context())


def test_behind_an_endpoint_of_ones_own_the_api_decides(sandbox):
    with pytest.raises(InvalidInputError, match="400.*marketplaceIds"):
        AmazonBusinessHook().create_report(LINES, DE)
    assert sandbox.count("createReport", status=400) == 1
