"""What becomes of a task that Airflow ends on its worker: SIGTERM, as when a pod is evicted or a node drained."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from datetime import timedelta

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import TaskKilledError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import AirflowFailException, AirflowSkipException
from tests.conftest import BUCKET, connect
from tests.deferring import Store, context, run

LINES = "SANDBOX_ORDER_LINES"


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, "poke_interval": 0.2, **arguments})


@pytest.fixture
def terminated():
    """Run a task in this process and send it SIGTERM, on which Airflow 3 only calls ``on_kill``."""
    before = signal.getsignal(signal.SIGTERM)

    def run_and_terminate(task, ctx, *, when=lambda: True, seconds=0.5):
        signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
        ended, sent = threading.Event(), []

        def send():
            while not ended.is_set() and not when():
                time.sleep(0.05)
            if not ended.wait(seconds):
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGTERM)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return task.execute(ctx)
        finally:
            ended.set()
            sender.join()
            # Kubernetes waits for 30 seconds.
            assert sent
            assert time.monotonic() - sent[0] < 25

    yield run_and_terminate
    signal.signal(signal.SIGTERM, before)


def assert_retried(caught):
    assert not isinstance(caught.value, (AirflowFailException, AirflowSkipException))


@pytest.mark.parametrize("on_cancelled", ["fail", "skip", "succeed"])
def test_a_task_that_waits_cancels_its_report_and_is_retried(sandbox, terminated, on_cancelled):
    sandbox.script(queue_seconds=3600)
    store = Store()
    arguments = {"wait_for_completion": True, "deferrable": False, "on_cancelled": on_cancelled}

    with pytest.raises(TaskKilledError, match="this task cancelled its report") as caught:
        terminated(create(**arguments), context(store), when=lambda: sandbox.count("getReport"))

    (first,) = sandbox.reports
    assert_retried(caught)
    assert (caught.value.report_id, caught.value.report_type) == (first, LINES)
    assert sandbox.reports[first].status == "CANCELLED"
    # What was cancelled is of no use to the retry.
    assert create(**arguments).execute(context(store)) == list(sandbox.reports)[-1] != first


def test_a_report_in_progress_is_left_to_the_retry(sandbox, terminated):
    sandbox.script(processing_seconds=3600)
    store = Store()

    with pytest.raises(TaskKilledError, match="could not be cancelled") as caught:
        terminated(create(wait_for_completion=True), context(store), when=lambda: sandbox.count("getReport"))

    assert_retried(caught)
    sandbox.clock.advance(3600)
    assert [create(wait_for_completion=True).execute(context(store))] == list(sandbox.reports)


def test_a_reused_report_is_left_alone(sandbox, terminated):
    sandbox.script(queue_seconds=3600)
    theirs = create().execute(context())
    reusing = create(wait_for_completion=True, reuse_within=timedelta(hours=1))

    with pytest.raises(TaskKilledError, match="not its own"):
        terminated(reusing, context(), when=lambda: sandbox.count("getReport"))

    assert sandbox.reports[theirs].status == "IN_QUEUE"


class ExecutionTimeout(BaseException):
    """As Airflow raises for ``execution_timeout``, in the main thread, before it calls ``on_kill``."""


@pytest.fixture
def alarm():
    """SIGALRM as Airflow handles it."""

    def ring(*_):
        raise ExecutionTimeout

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_airflow_s_execution_timeout_cancels_as_well(sandbox, alarm):
    sandbox.script(queue_seconds=3600)
    task = create(wait_for_completion=True)
    signal.setitimer(signal.ITIMER_REAL, 1.0)

    with pytest.raises(ExecutionTimeout) as caught:
        task.execute(context())
    task.on_kill()

    (report,) = sandbox.reports.values()
    assert report.cancelled
    assert caught.value.__context__ is None


def test_airflow_s_execution_timeout_ends_the_wait_during_a_poll(sandbox, monkeypatch, alarm):
    """Raised in the task of the event loop that polls, it would end that one only."""
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"getReport": [0.2, 1]}))
    AmazonBusinessHook().client._transport._buckets["getReport"].emptied()
    sandbox.script(queue_seconds=3600)
    task = create(wait_for_completion=True, deferrable=False, timeout=10)

    class Ring(logging.Handler):
        def emit(self, record):
            signal.raise_signal(signal.SIGALRM)

    polling, ring = logging.getLogger("airflow_provider_amzbiz.triggers.permits"), Ring()
    monkeypatch.setattr(polling, "level", logging.INFO)
    polling.addHandler(ring)
    try:
        with pytest.raises(ExecutionTimeout):
            task.execute(context())
    finally:
        polling.removeHandler(ring)
    task.on_kill()

    (report,) = sandbox.reports.values()
    assert report.cancelled


@pytest.mark.parametrize(
    ("operation", "make"),
    [
        ("createReport", create),
        ("cancelReport", lambda: CancelReportOperator(task_id="t", report_id="123")),
        ("getReports", lambda: GetReportsOperator(task_id="t", report_types=LINES)),
    ],
    ids=["create", "cancel", "list"],
)
def test_a_task_that_waits_for_its_permit_sends_nothing_more(sandbox, terminated, monkeypatch, operation, make):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [0.02, 1]}))
    first = AmazonBusinessHook().client
    first._transport._buckets[operation].emptied()
    store = Store()

    with pytest.raises(TaskKilledError) as caught:
        terminated(make(), context(store))

    assert_retried(caught)
    assert sandbox.count(operation) == 0
    # A request that was never sent created nothing that a retry would have to search for.
    assert store == {}


@pytest.mark.parametrize("soft_fail", [True, False])
@pytest.mark.parametrize(
    ("mode", "moment"), [("poke", "between two polls"), ("poke", "during a poll"), ("reschedule", "during a poll")]
)
def test_a_sensor_leaves_the_report_and_is_retried(sandbox, terminated, airflow_db, mode, moment, soft_fail):
    report_id = sandbox.add_report(LINES, status="IN_QUEUE")
    sensor = ReportStatusSensor(
        task_id="wait", report_id=report_id, poke_interval=30, timeout=3600, soft_fail=soft_fail, mode=mode
    )
    ctx = context()
    # Of the first poll of a rescheduled sensor, as Airflow 3 and 2 ask for it.
    ctx["ti"].get_first_reschedule_date, ctx["ti"].max_tries = lambda _: None, 0

    def has_come():
        return [call for call in sandbox.calls if call.operation == "getReport" and (during or call.status)]

    during = moment == "during a poll"
    if during:
        sandbox.inject(Fault(operation="getReport", kind="delay", seconds=3))

    start = time.monotonic()
    with pytest.raises(TaskKilledError, match="a retry continues to wait") as caught:
        terminated(sensor, ctx, when=has_come)

    # Not at the next poll.
    assert time.monotonic() - start < 30
    assert_retried(caught)
    assert caught.value.report_id == report_id
    assert sandbox.reports[report_id].status == "IN_QUEUE"
    assert sandbox.count("getReport") == 1


def test_a_sensor_that_waits_for_its_permit_is_ended_too(sandbox, terminated, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"getReport": [0.02, 1]}))
    AmazonBusinessHook().client._transport._buckets["getReport"].emptied()
    sensor = ReportStatusSensor(task_id="wait", report_id="1", poke_interval=60, timeout=3600)

    with pytest.raises(TaskKilledError, match="a retry continues to wait"):
        terminated(sensor, context())

    assert sandbox.count("getReport") == 0


def test_a_batch_cancels_what_it_can_and_its_retry_stores_all(sandbox, s3, terminated):
    sandbox.script(queue_seconds=3600, times=3)
    arguments = {
        "task_id": "batch",
        "requests": [{"report_type": LINES, "report_options": {"rows": str(rows)}} for rows in (1, 2, 3)],
        "s3_bucket": BUCKET,
        "s3_key": f"ended/{time.time()}/{{index}}.tsv",
        "poke_interval": 0.2,
    }

    with pytest.raises(TaskKilledError, match="a retry continues from s3://") as caught:
        terminated(
            ReportsToS3Operator(**arguments, deferrable=False), context(), when=lambda: sandbox.count("getReport")
        )

    assert_retried(caught)
    assert [report.status for report in sandbox.reports.values()] == ["CANCELLED"] * 3
    result = run(lambda: ReportsToS3Operator(**arguments, deferrable=True), context(try_number=2))
    assert (result["landed"], result["failed"]) == (3, 0)


def test_a_look_up_of_a_lost_report_ends_too(sandbox, terminated, monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (60.0, 60.0))
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    store = Store()

    with pytest.raises(TaskKilledError):
        terminated(create(), context(store), when=lambda: sandbox.count("createReport"))

    # The retry finds what the lost response was about.
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.1, 0.2))
    assert [create().execute(context(store))] == list(sandbox.reports)
