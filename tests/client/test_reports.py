"""The five operations, against the sandbox."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.client.clients import CA, LINES, US, client_of


def test_create_sends_every_parameter(sandbox, client):
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)

    report_id = client.create_report(
        LINES,
        [US, CA],
        data_start_time=start,
        data_end_time="2026-01-02 00:00:00+00:00",
        report_options={"rows": 10},
    )

    report = sandbox.reports[report_id]
    assert report.report_type == LINES
    assert list(report.marketplace_ids) == [US, CA]
    assert report.report_options == {"rows": "10"}
    call = next(call for call in sandbox.calls if call.operation == "createReport")
    assert (
        json.loads(call.body)
        if isinstance(call.body, (str, bytes))
        else call.body
        == {
            "reportType": LINES,
            "marketplaceIds": [US, CA],
            "dataStartTime": "2026-01-01T00:00:00.000Z",
            "dataEndTime": "2026-01-02T00:00:00.000Z",
            "reportOptions": {"rows": "10"},
        }
    )
    assert call.headers["user-agent"].startswith("airflow-provider-amzbiz/")


def test_nothing_is_sent_for_bad_input(sandbox, client):
    bad = [
        lambda: client.create_report("", [US]),
        lambda: client.create_report(LINES, None),
        lambda: client.create_report(LINES, [US] * 26),
        lambda: client.create_report(LINES, [US], data_end_time=datetime.now(timezone.utc) + timedelta(1)),
        lambda: client.create_report(LINES, [US], report_options={"a": None}),
        lambda: client.get_reports(report_types=[]),
        lambda: client.get_reports(report_types=[LINES] * 11),
        lambda: client.get_reports(report_types=[LINES], page_size=101),
        lambda: client.get_reports(report_types=[LINES], processing_statuses=["NEW"]),
        lambda: client.get_reports(report_types=[LINES], marketplace_ids=[US] * 11),
        lambda: client.get_reports(report_types=[LINES], next_token="t"),
        lambda: client.get_report(""),
        lambda: client.cancel_report(" "),
        lambda: client.get_report_document(None),
    ]
    for call in bad:
        with pytest.raises(errors.InvalidParameterError):
            call()
    assert sandbox.calls == []


def test_get_report(sandbox, client):
    report_id = client.create_report(LINES, [US])

    report = client.get_report(report_id)

    assert report.report_id == report_id
    assert report.processing_status == "DONE"
    assert report.report_document_id


def test_a_response_about_another_report_is_not_believed(sandbox, client):
    sandbox.script(extra_fields={"reportId": "99999999999"})
    report_id = client.create_report(LINES, [US])

    with pytest.raises(errors.UnavailableError, match=f"returned report '99999999999' instead of '{report_id}'"):
        client.get_report(report_id)


def test_cancel(sandbox, client):
    sandbox.script(outcome="DONE", queue_seconds=100)
    queued = client.create_report(LINES, [US])
    done = client.create_report(LINES, [US])

    assert client.cancel_report(queued) is True
    assert client.get_report(queued).processing_status == "CANCELLED"
    assert client.cancel_report(queued) is False
    assert client.cancel_report(done) is False
    with pytest.raises(errors.NotFoundError):
        client.cancel_report("99999999999")


def test_a_report_just_created_can_be_cancelled(sandbox, client):
    """For some seconds it may be unknown."""
    sandbox.script(queue_seconds=100)
    report_id = client.create_report(LINES, [US])
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=404, times=2))

    assert client.cancel_report(report_id) is True


def test_a_cancel_that_is_rejected_though_the_report_is_in_the_queue(sandbox, client):
    sandbox.script(queue_seconds=100)
    report_id = client.create_report(LINES, [US])
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=400, body="json"))

    with pytest.raises(errors.RequestRejectedError):
        client.cancel_report(report_id)


def test_a_cancel_whose_response_was_lost_still_returns_true(sandbox, client):
    sandbox.script(outcome="DONE", queue_seconds=100)
    report_id = client.create_report(LINES, [US])
    sandbox.inject(Fault(operation="cancelReport", kind="lost"))

    assert client.cancel_report(report_id) is True


def test_get_report_document(sandbox, client):
    report = client.get_report(client.create_report(LINES, [US]))

    document = client.get_report_document(report.report_document_id)

    assert document.report_document_id == report.report_document_id
    assert document.compression_algorithm == "GZIP"
    assert "X-Amz-Signature=" in document.url


def test_unknown_ids(client):
    with pytest.raises(errors.NotFoundError):
        client.get_report("99999999999")
    with pytest.raises(errors.RequestRejectedError, match="Invalid reportDocumentId"):
        client.get_report_document("99999999999")


def test_an_id_cannot_leave_its_path(sandbox, client):
    with pytest.raises(errors.ApiError):
        client.get_report("../documents/x?y")
    assert {call.operation for call in sandbox.calls} <= {"token", "getReport"}


def test_a_404_for_a_report_just_created(monkeypatch):
    with Sandbox(not_found_seconds=60, throttle=False) as sandbox:
        client = client_of(sandbox)
        report_id = client.create_report(LINES, [US])
        with pytest.raises(errors.NotFoundError):
            client.get_report(report_id)
        sandbox.clock.advance(61)
        assert client.get_report(report_id)


def test_the_static_sandbox_of_amazon_works():
    with Sandbox(static=True) as sandbox:
        client = client_of(sandbox)
        marketplaces = ["A1PA6795UKMFR9", US]
        created = client.create_report(
            "GET_MERCHANT_LISTINGS_ALL_DATA", marketplaces, data_start_time="2019-12-10T20:11:24Z"
        )
        assert created == "ID323"
        # It always returns this report, for the id of its own create too.
        assert client.get_report(created).report_id == "ReportId1"
        assert client.cancel_report("ID") is True
        document = client.get_report_document("0356cf79-b8b0-4226-b4b9-0ee058ea5760")
        assert document.compression_algorithm is None
        with pytest.raises(errors.RequestRejectedError, match="Invalid input"):
            client.get_report("badReportId1")
