"""A task that defers logs what it waits for, and until when: the log ends there otherwise."""

from __future__ import annotations

import json
import re

import pytest

from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import TaskDeferred
from tests.conftest import connect
from tests.creating import LINES, create
from tests.deferring import context

UNTIL = r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC at the latest"


@pytest.fixture
def log_of(caplog, capsys):
    """Let a task defer, and return what it has logged."""
    caplog.set_level("INFO")

    def log_of(task, ctx):
        with pytest.raises(TaskDeferred):
            task.execute(ctx)
        # Airflow 3 prints the log of a task.
        return caplog.text + capsys.readouterr().out

    return log_of


def test_a_sensor(sandbox, log_of):
    sandbox.script(queue_seconds=60)
    report_id = create().execute(context())

    log = log_of(ReportStatusSensor(task_id="wait", report_id=report_id, deferrable=True), context())

    assert re.search(f"Waiting in the triggerer for report {report_id} to end, {UNTIL}", log)


def test_a_create_that_waits_for_its_report(sandbox, log_of):
    sandbox.script(queue_seconds=60)

    log = log_of(create(wait_for_completion=True, deferrable=True), context())

    (report_id,) = sandbox.reports
    assert re.search(f"Waiting in the triggerer for report {report_id} to end, {UNTIL}", log)


def test_a_mapped_create_that_queues_first(sandbox, log_of):
    log = log_of(create(deferrable=True), context(map_index=1))

    assert re.search(f"Waiting in the triggerer for a permit of createReport, {UNTIL}", log)


def test_a_create_that_was_throttled(sandbox, monkeypatch, log_of):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"createReport": [0.01, 1]}))
    create().execute(context())

    log = log_of(create(deferrable=True), context())

    assert re.search("createReport may be called again in", log)
    assert re.search(f"Waiting in the triggerer for a permit of createReport, {UNTIL}", log)


def test_a_mapped_transfer(sandbox, log_of):
    report_id = create().execute(context())
    move = ReportDocumentToS3Operator(
        task_id="move", report_id=report_id, s3_bucket="b", s3_key="k", deferrable=True, aws_conn_id=None
    )

    log = log_of(move, context(map_index=1))

    assert re.search(f"Waiting in the triggerer for a permit of getReportDocument, {UNTIL}", log)


def test_a_batch(sandbox, s3, log_of):
    batch = ReportsToS3Operator(
        task_id="batch",
        requests=[{"report_type": LINES, "marketplace_ids": "ATVPDKIKX0DER"}],
        s3_bucket="tests",
        s3_key="deferral-logs/{index}.tsv",
        deferrable=True,
    )

    log = log_of(batch, context())

    assert re.search(f"Waiting in the triggerer for permits and reports, {UNTIL}", log)
    # Fewer requests than the burst take no time that is worth a word.
    assert "0 minutes" not in log
    assert "at least" not in log
