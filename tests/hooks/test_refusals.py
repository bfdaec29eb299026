"""What the API rejects because of the account, as a user of the hook sees it."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Sandbox
from tests.conftest import connect

LINES = "SANDBOX_ORDER_LINES"


@pytest.fixture
def start(monkeypatch):
    """Start sandboxes that are the default connection."""
    running = []

    def starter(**settings):
        running.append(Sandbox(throttle=False, queue_seconds=0, processing_seconds=0, **settings))
        running[-1].start()
        connect(monkeypatch, running[-1])
        return running[-1]

    yield starter
    for sandbox in running:
        sandbox.stop()


def test_a_refresh_token_of_another_application(monkeypatch, start):
    sandbox = start()
    other = sandbox.add_account()
    connect(monkeypatch, sandbox, refresh_token=other.refresh_token)

    with pytest.raises(exceptions.AuthenticationError, match="unauthorized_client") as caught:
        AmazonBusinessHook().create_report(LINES)

    assert other.refresh_token not in str(caught.value)
    assert sandbox.count("token") == 1


def test_an_application_without_the_role(start):
    sandbox = start(has_role=False)

    with pytest.raises(exceptions.AccessDeniedError, match="role"):
        AmazonBusinessHook().create_report(LINES)
    works, message = AmazonBusinessHook().test_connection()

    assert not works
    assert "role" in message
    assert sandbox.count("createReport") == 1


@pytest.mark.parametrize("time_format", ["+00:00", ".sssZ"])
def test_both_forms_of_times_are_read(start, time_format):
    sandbox = start(time_format=time_format)
    hook = AmazonBusinessHook()
    window = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}
    report = hook.get_report(hook.create_report(LINES, **window))

    assert list(hook.get_reports(report_types=LINES)) == [report]
    assert report.data_end_time.isoformat() == "2026-01-02T00:00:00+00:00"
    assert 0 <= (sandbox.clock.now() - report.created_time).total_seconds() < 60


@pytest.mark.parametrize(
    "options",
    [{"invoiceId": "Pending"}, {"invoiceId": "1", "documentType": "CreditMemo"}, {"orderId": "1"}],
)
def test_invoices_that_amazon_rejects(start, options):
    sandbox = start()

    with pytest.raises(exceptions.InvalidInputError, match="400.*reportOptions"):
        AmazonBusinessHook().create_report("GET_AB_INVOICE_PDF", report_options=options)

    assert sandbox.reports == {}
