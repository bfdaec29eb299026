"""Numbers in parameters: what is none, or too large to be meant, is refused by name where the DAG is read."""

from __future__ import annotations

import json
from datetime import timedelta
from fractions import Fraction

import pytest

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reconciliation import GetTransactionsOperator
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger
from tests.deferring import context, run

LINES = "SANDBOX_ORDER_LINES"
NO_SECONDS = [
    float("nan"), float("inf"), -1, 1e300, 10**400, timedelta(days=3651), timedelta.max, "5", "", [], True
]  # fmt: skip
NO_COUNT = [0, -1, 2.5, "5", True, float("nan"), float("inf"), [], timedelta(seconds=5)]


def create(**arguments):
    return CreateReportOperator(task_id="t", report_type=LINES, **arguments)


def wait(**arguments):
    return ReportStatusSensor(task_id="t", report_id="1", **arguments)


def transfer(**arguments):
    return ReportDocumentToS3Operator(task_id="t", report_id="1", s3_uri="s3://b/k", **arguments)


def batch(**arguments):
    return ReportsToS3Operator(
        task_id="t", requests=[{"report_type": LINES}], s3_bucket="b", s3_key="k", **arguments
    )


def listing(**arguments):
    return GetReportsOperator(task_id="t", report_types=LINES, **arguments)


def cancel(**arguments):
    return CancelReportOperator(task_id="t", report_id="1", **arguments)


def transactions(**arguments):
    return GetTransactionsOperator(task_id="t", **arguments)


def feed(**arguments):
    return InvoicesToS3Operator(task_id="t", s3_bucket="b", s3_key="k", ledger="s3://b/l/", **arguments)


def watch(**arguments):
    return ReportsDoneTrigger(report_types=LINES, **arguments)


SECONDS = [
    (create, "timeout"), (create, "poke_interval"), (create, "max_throttle_wait"), (wait, "timeout"),
    (wait, "poke_interval"), (batch, "timeout"), (batch, "poke_interval"), (transfer, "max_throttle_wait"),
    (cancel, "max_throttle_wait"), (listing, "max_throttle_wait"), (transactions, "max_throttle_wait"),
    (transactions, "overlap"), (feed, "overlap"), (feed, "open_for"), (watch, "poll_interval"),
    (AmazonBusinessHook, "retry_for"), (AmazonBusinessHook, "max_throttle_wait"),
]  # fmt: skip


@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize(("make", "name"), SECONDS)
def test_seconds_that_make_no_sense_are_rejected(make, name, value):
    with pytest.raises(InvalidInputError, match=rf"^{name} is .* but must be .*seconds.* at most 315360000"):
        make(**{name: value})


@pytest.mark.parametrize("value", NO_COUNT, ids=repr)
@pytest.mark.parametrize(("make", "name"), [(listing, "max_reports"), (transfer, "max_bytes")])
def test_counts_that_are_no_integers_are_rejected(make, name, value):
    with pytest.raises(InvalidInputError, match=rf"^{name} is .* but must be an integer above 0"):
        make(**{name: value})


@pytest.mark.parametrize("value", [-1, float("nan"), "1", None, True, 1.0])
def test_a_share_that_is_no_share_is_rejected(value):
    with pytest.raises(InvalidInputError, match="^max_failed is "):
        batch(max_failed=value)


@pytest.mark.parametrize("value", [timedelta(days=3650), 315360000, Fraction(41, 2)])
@pytest.mark.parametrize("deferrable", [True, False])
def test_the_longest_waits_are_waited(sandbox, value, deferrable):
    more = {"timeout": value, "deferrable": deferrable, "poke_interval": 0.1}

    created = run(lambda: create(wait_for_completion=True, **more), context())
    found = run(lambda: ReportStatusSensor(task_id="t", report_id=created, **more), context())

    assert [found["report_id"]] == [created] == list(sandbox.reports)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sensor_may_poll_without_a_pause(sandbox, deferrable):
    sandbox.script(processing_seconds=1)
    report_id = AmazonBusinessHook().create_report(LINES)

    found = run(
        lambda: ReportStatusSensor(
            task_id="t", report_id=report_id, poke_interval=0, timeout=60, deferrable=deferrable
        ),
        context(),
    )

    assert json.dumps(found)
    assert found["processing_status"] == "DONE"
