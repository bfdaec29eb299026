"""Deferred and rescheduled tasks give their worker slot back where the account's limit is used up."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators import base
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors import reports
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers import base as transfers
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.airflow_names import TaskDeferred
from tests.conftest import BUCKET, connect
from tests.deferring import context, events_of, rebuilt

LINES = "SANDBOX_ORDER_LINES"


def used_up(monkeypatch, sandbox, operation):
    """Have the next permit of an operation in half an hour."""
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [1 / 1800, 1]}))
    AmazonBusinessHook().client._transport._buckets[operation].emptied()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.5)
    monkeypatch.setattr(reports, "LOOKUP_SECONDS", 0.5)
    monkeypatch.setattr(transfers, "_DOCUMENT_GRACE", (0.1,))


def sensor(report_id, **arguments):
    return ReportStatusSensor(task_id="t", report_id=report_id, poke_interval=3600, timeout=86400, **arguments)


def transfer(report_id):
    return ReportDocumentToS3Operator(
        task_id="t", report_id=report_id, s3_bucket=BUCKET, s3_key="held/{report_id}", deferrable=True
    )


# With what a call may wait for its permit otherwise, these tests would take half an hour.


def test_a_sensor_that_defers_waits_for_its_first_permit_in_the_triggerer(sandbox, monkeypatch):
    used_up(monkeypatch, sandbox, "getReport")

    with pytest.raises(TaskDeferred):
        sensor("1", deferrable=True).execute(context())

    assert sandbox.count("getReport") == 0


def test_a_sensor_that_is_rescheduled_does_not_wait_for_a_permit(sandbox, monkeypatch):
    used_up(monkeypatch, sandbox, "getReport")
    ctx = context()
    ctx["ti"].get_first_reschedule_date = lambda _: None

    assert not sensor("1", mode="reschedule").poke(ctx).is_done
    assert sandbox.count("getReport") == 0


def test_a_transfer_waits_for_the_poll_of_its_report_in_the_triggerer(sandbox, s3, monkeypatch):
    used_up(monkeypatch, sandbox, "getReport")

    with pytest.raises(TaskDeferred) as deferred:
        transfer(sandbox.add_report(LINES)).execute(context())

    assert deferred.value.trigger.operation == "getReport"


def test_a_transfer_continues_with_the_permit_for_that_poll(sandbox, s3):
    report_id = sandbox.add_report(LINES)
    sandbox.inject(Fault(operation="getReport", kind="status", status=429, times=None))
    with pytest.raises(TaskDeferred) as deferred:
        transfer(report_id).execute(context())
    sandbox.clear_faults()

    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    (stored,) = transfer(report_id).execute_complete(context(), event)

    assert event["operation"] == "getReport"
    assert stored["uri"] == f"s3://{BUCKET}/held/{report_id}"


def test_a_transfer_whose_document_is_not_known_yet_waits_for_the_next_call_in_the_triggerer(
    sandbox, s3, monkeypatch
):
    # The one permit is for the call that fails because there is no such document yet.
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"getReportDocument": [1 / 1800, 1]}))
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=404))

    with pytest.raises(TaskDeferred) as deferred:
        transfer(sandbox.add_report(LINES)).execute(context())

    assert deferred.value.trigger.operation == "getReportDocument"
    assert sandbox.count("getReportDocument") == 1
