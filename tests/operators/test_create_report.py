"""The operator that creates a report: waiting, timeouts and kills."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import timedelta

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ConnectionNotFoundError,
    InvalidInputError,
    ReportCancelledError,
    ReportFatalError,
    ReportTimeoutError,
    ResponseLostError,
    ThrottledError,
)
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers.base import InlineWait
from tests.airflow_names import AirflowFailException, TaskDeferred
from tests.conftest import connect
from tests.creating import LINES, WINDOW, create, dated
from tests.deferring import Store, context, events_of, rebuilt, run
from tests.processes import ProcessLost


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


def tight(monkeypatch, sandbox, operation="createReport", rate=2.0, burst=1):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [rate, burst]}))


def handed_on(store):
    """The report that the task has returned, according to all that its record has."""
    (record,) = store.values()
    return record["handed_on"] and record["report_id"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_report_that_the_end_of_a_previous_attempt_cancels_is_created_again(sandbox, deferrable):
    """Airflow starts the new attempt of a cleared task a second before it ends the old one's trigger."""
    sandbox.script(queue_seconds=3600)
    store = Store()
    with pytest.raises(TaskDeferred):
        create(wait_for_completion=True, deferrable=True).execute(context(store))
    (first,) = sandbox.reports
    ended = threading.Timer(0.5, lambda: setattr(sandbox.reports[first], "cancelled", True))
    ended.start()

    report_id = run(lambda: create(wait_for_completion=True, deferrable=deferrable), context(store))

    assert list(sandbox.reports) == [first, report_id]
    assert sandbox.reports[report_id].status == "DONE"
    assert handed_on(store) == report_id


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"reuse_within": timedelta(0)}, "reuse_within"),
        ({"poke_interval": 0}, "poke_interval"),
        ({"timeout": -1}, "timeout"),
        ({"max_throttle_wait": -1}, "max_throttle_wait"),
        ({"on_cancelled": "perhaps"}, "on_cancelled"),
    ],
)
def test_bad_arguments_fail_when_the_dag_is_parsed(arguments, named):
    with pytest.raises(InvalidInputError, match=named):
        create(**arguments)


def test_a_task_that_does_not_defer_waits_on_its_worker(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    create().execute(context())

    start = time.monotonic()
    create().execute(context())
    assert time.monotonic() - start > 0.3
    tight(monkeypatch, sandbox, rate=0.01)
    with pytest.raises(ThrottledError, match="createReport may be called again in") as caught:
        create(max_throttle_wait=1).execute(context())
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("deferrable", [True, False])
def test_waiting_for_completion(sandbox, deferrable):
    sandbox.script(processing_seconds=0.5)
    store = Store()

    report_id = run(lambda: create(wait_for_completion=True, deferrable=deferrable), context(store))

    assert sandbox.reports[report_id].status == "DONE"
    assert handed_on(store) == report_id


@pytest.mark.main_path
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("queue_seconds", "cancelled"), [(3600, True), (0, False)])
def test_a_wait_that_takes_too_long_cancels_what_it_can(sandbox, deferrable, queue_seconds, cancelled):
    sandbox.script(queue_seconds=queue_seconds, processing_seconds=3600)

    with pytest.raises(ReportTimeoutError, match="within the timeout of 0.5 s"):
        run(lambda: create(wait_for_completion=True, deferrable=deferrable, timeout=0.5), context())

    (report,) = sandbox.reports.values()
    assert report.cancelled is cancelled


@pytest.mark.main_path
@pytest.mark.parametrize(("queue_seconds", "cancelled"), [(3600, True), (0, False)])
def test_killing_the_deferred_task_cancels_its_report(sandbox, queue_seconds, cancelled, caplog):
    caplog.set_level("INFO")
    sandbox.script(queue_seconds=queue_seconds, processing_seconds=3600)
    with pytest.raises(TaskDeferred) as deferred:
        create(wait_for_completion=True, deferrable=True).execute(context())

    asyncio.run(rebuilt(deferred.value).on_kill())

    (report,) = sandbox.reports.values()
    assert report.cancelled is cancelled
    assert ("was no longer in the queue" in caplog.text) is not cancelled


def test_killing_the_task_while_it_waits_on_its_worker_cancels_its_report(sandbox, monkeypatch):
    sandbox.script(queue_seconds=3600)
    task = create(wait_for_completion=True)

    def killed(*_):
        raise ProcessLost

    monkeypatch.setattr(InlineWait, "run", killed)
    with pytest.raises(ProcessLost):
        task.execute(context())
    # As after Airflow's execution_timeout.
    task.on_kill()

    (report,) = sandbox.reports.values()
    assert report.cancelled


def test_killing_the_task_while_it_creates_cancels_its_report(sandbox):
    sandbox.script(queue_seconds=3600)
    task = create()
    send = task._nonblocking_hook.send

    def send_and_be_killed(request, **more):
        report_id = send(request, **more)
        task.on_kill()
        return report_id

    task._nonblocking_hook.send = send_and_be_killed
    with pytest.raises(AmazonBusinessError, match="this task cancelled its report"):
        task.execute(context())

    (report,) = sandbox.reports.values()
    assert report.cancelled


def test_a_kill_after_the_report_was_handed_on_leaves_it(sandbox):
    sandbox.script(queue_seconds=3600)
    task = create()
    task.execute(context())
    task.on_kill()

    (report,) = sandbox.reports.values()
    assert not report.cancelled


def test_a_reused_report_is_not_cancelled_by_the_timeout(sandbox):
    sandbox.script(queue_seconds=3600)
    create(**WINDOW).execute(context())

    with pytest.raises(ReportTimeoutError):
        run(
            lambda: create(
                **WINDOW,
                wait_for_completion=True,
                deferrable=True,
                reuse_within=timedelta(hours=1),
                timeout=0.3,
            ),
            context(),
        )

    (report,) = sandbox.reports.values()
    assert not report.cancelled


def test_a_missing_connection_fails_at_once_and_not_in_the_triggerer():
    with pytest.raises(ConnectionNotFoundError, match="no_such_connection"):
        create(
            deferrable=True, marketplace_ids=["ATVPDKIKX0DER"], amazon_business_conn_id="no_such_connection"
        ).execute(context(map_index=0))


def without_connection(monkeypatch, ctx, **arguments):
    """Resume a task after its wait, while Airflow's connection cannot be read; return what it returns."""
    with pytest.raises(TaskDeferred) as deferred:
        dated(wait_for_completion=True, deferrable=True, **arguments).execute(ctx)
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with monkeypatch.context() as blip:
        blip.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")
        return dated(wait_for_completion=True, deferrable=True, **arguments).execute_complete(ctx, event)


@pytest.mark.parametrize("has_store", [False, True])
def test_a_finished_report_is_returned_although_the_connection_cannot_be_read(sandbox, monkeypatch, has_store):
    store = Store() if has_store else None
    found = without_connection(monkeypatch, context(store))

    assert list(sandbox.reports) == [found]
    if has_store:
        # A worker that was lost before Airflow had the success.
        assert run(lambda: dated(wait_for_completion=True, deferrable=True), context(store, try_number=2)) == found
        assert list(sandbox.reports) == [found]


@pytest.mark.parametrize(("outcome", "error"), [("FATAL", ReportFatalError), ("CANCELLED", ReportCancelledError)])
def test_what_a_report_has_become_counts_before_the_connection(sandbox, monkeypatch, outcome, error):
    sandbox.script(outcome=outcome)

    with pytest.raises(error):
        without_connection(monkeypatch, context())


@pytest.mark.parametrize("has_store", [False, True])
def test_a_timeout_counts_before_the_connection(sandbox, monkeypatch, has_store):
    store = Store() if has_store else None
    sandbox.script(processing_seconds=3600)

    with pytest.raises(ReportTimeoutError, match="did not end within") as caught:
        without_connection(monkeypatch, context(store), timeout=1, poke_interval=0.2)
    assert (caught.value.report_id, caught.value.report_type) == (next(iter(sandbox.reports)), LINES)


def test_the_wait_of_a_create_can_be_listed(sandbox):
    before = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        create(wait_for_completion=True, deferrable=True).execute(context(Store()))

    trigger = deferred.value.trigger
    assert trigger.report_type == LINES
    since, until = trigger.created_between
    assert before <= since <= until <= time.time()


def test_a_reused_report_is_not_cancelled_with_the_task(sandbox):
    sandbox.script(queue_seconds=3600)
    create(**WINDOW).execute(context())
    with pytest.raises(TaskDeferred) as deferred:
        create(**WINDOW, wait_for_completion=True, deferrable=True, reuse_within=timedelta(hours=1)).execute(
            context()
        )

    asyncio.run(rebuilt(deferred.value).on_kill())

    (report,) = sandbox.reports.values()
    assert not report.cancelled


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_task_that_timed_out_waits_a_whole_timeout_when_it_is_cleared(sandbox, deferrable):
    sandbox.script(processing_seconds=3600)
    store = Store()

    def waited():
        start = time.monotonic()
        with pytest.raises(ReportTimeoutError, match="did not end within the timeout of 1 s") as caught:
            run(
                lambda: dated(wait_for_completion=True, timeout=1, poke_interval=0.2, deferrable=deferrable),
                context(store),
            )
        assert (caught.value.report_id, caught.value.report_type) == (next(iter(sandbox.reports)), LINES)
        return time.monotonic() - start

    waited()
    time.sleep(1.5)
    assert waited() >= 0.9
    assert len(sandbox.reports) == 1


def test_a_retry_of_a_wait_keeps_its_deadline(sandbox):
    sandbox.script(processing_seconds=3600)
    store = Store()
    trigger = []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            dated(wait_for_completion=True, timeout=60, deferrable=True).execute(context(store))
        trigger.append(deferred.value.trigger)
        time.sleep(0.2)

    assert trigger[0].deadline == trigger[1].deadline


@pytest.mark.main_path
def test_create_returns_the_id(sandbox):
    report_id = create(
        marketplace_ids=["A2EUQ1WTGCTBG2"],
        data_start_time="2026-01-01 00:00:00+00:00",
        data_end_time="2026-01-02 00:00:00+00:00",
        report_options={"rows": "5"},
    ).execute({})

    (report,) = sandbox.reports.values()
    assert report.report_id == report_id
    assert report.report_options == {"rows": "5"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"report_type": ""}, "report_type"),
        ({"marketplace_ids": []}, "marketplace_ids"),
        ({"data_start_time": "2099-01-01T00:00:00Z"}, "data_start_time"),
        ({"data_end_time": ""}, "data_end_time"),
        ({"report_options": {"a": []}}, "report_options"),
    ],
)
def test_create_with_bad_input_calls_nobody(sandbox, arguments, named):
    with pytest.raises(InvalidInputError, match=named) as caught:
        create(**arguments).execute({})
    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.calls == []


def test_create_that_is_not_durable_leaves_a_lost_response_to_the_retries(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    with pytest.raises(ResponseLostError) as caught:
        create(durable=False).execute({})
    assert not isinstance(caught.value, AirflowFailException)
    assert len(sandbox.reports) == 1
