"""A deferred task that a user stops has its reports cancelled; one that moves to another triggerer has not."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import TaskDeferred
from tests.conftest import BUCKET
from tests.deferring import context, events_of, rebuilt

task_runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
LINES = "SANDBOX_ORDER_LINES"


def deferred_create():
    task = CreateReportOperator(
        task_id="task", report_type=LINES, wait_for_completion=True, deferrable=True, poke_interval=0.2
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    return rebuilt(deferred.value)


def deferred_batch():
    batch = {
        "task_id": "task",
        "requests": [{"report_type": LINES}],
        "s3_bucket": BUCKET,
        "s3_key": f"kills/{time.time()}.tsv",
        "poke_interval": 0.2,
        "deferrable": True,
    }
    ctx = context()
    with pytest.raises(TaskDeferred) as deferred:
        ReportsToS3Operator(**batch).execute(ctx)
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with pytest.raises(TaskDeferred) as deferred:
        ReportsToS3Operator(**batch).execute_complete(ctx, event)
    return rebuilt(deferred.value)


@pytest.mark.parametrize("defer", [deferred_create, deferred_batch])
@pytest.mark.parametrize("map_index", [-1, 3])
@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("deferred", "IN_QUEUE"),
        ("running", "IN_QUEUE"),
        ("failed", "CANCELLED"),
        (None, "CANCELLED"),
        ("scheduled", "CANCELLED"),
    ],
)
def test_only_a_task_that_no_longer_waits_has_its_report_cancelled(
    sandbox, s3, monkeypatch, caplog, defer, map_index, state, status
):
    sandbox.script(queue_seconds=3600)
    trigger = defer()
    trigger.task_instance = SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=map_index)

    def get_task_states(**given):
        assert given == {"dag_id": "dag", "task_ids": ["task"], "run_ids": ["run"], "map_index": map_index}
        # As the API server of Airflow 3.3 names them.
        return {"run": {"task" if map_index < 0 else f"task_{map_index}": state}}

    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", staticmethod(get_task_states))
    with caplog.at_level(logging.INFO):
        asyncio.run(trigger.on_kill())

    assert [report.status for report in sandbox.reports.values()] == [status]
    # The end-to-end tests wait for this line.
    assert ("No report is cancelled" in caplog.text) == (status == "IN_QUEUE")
