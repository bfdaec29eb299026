"""One report per intent, through lost answers, lost workers and limits."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred

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
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers.base import InlineWait
from airflow_provider_amzbiz.triggers.events import PermitGranted
from tests.conftest import connect
from tests.deferring import Store, context, rebuilt, run

LINES = "SANDBOX_ORDER_LINES"
WINDOW = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, "poke_interval": 0.1, **arguments})


LOST = [
    {"kind": "lost"},
    {"kind": "empty"},
    {"kind": "lost_status", "status": 500, "body": "json"},
    {"kind": "lost_status", "status": 503, "body": "html"},
]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: "-".join(map(str, fault.values())))
def test_a_report_whose_id_was_lost_is_found(sandbox, fault, caplog):
    # Airflow 2's command line, which other tests run, leaves the level at WARNING.
    caplog.set_level(logging.INFO)
    sandbox.add_report(LINES)
    sandbox.inject(Fault(operation="createReport", **fault))

    report_id = create(**WINDOW).execute(context())

    assert sandbox.count("createReport") == 1
    assert list(sandbox.reports)[-1] == report_id
    assert "was created nevertheless" in caplog.text


def test_without_a_window_too(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    assert [create().execute(context())] == list(sandbox.reports)


def test_a_request_that_never_arrived_is_sent_again(sandbox, caplog):
    sandbox.inject(Fault(operation="createReport", kind="drop"))

    report_id = create(**WINDOW).execute(context())

    assert list(sandbox.reports) == [report_id]
    assert "The listing does not have it, so the report is created again" in caplog.text


def test_with_options_nothing_is_taken_from_a_listing(sandbox, caplog):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    report_id = create(report_options={"invoiceId": "1"}).execute(context())

    assert len(sandbox.reports) == 2
    assert sandbox.count("getReports") == 0
    assert list(sandbox.reports)[-1] == report_id
    assert "No listing shows its options" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        {"report_type": "GET_AFN_INVENTORY_DATA"},
        {"marketplace_ids": ["A2EUQ1WTGCTBG2"]},
        {"marketplace_ids": ["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"]},
        {"data_start_time": "2025-12-31T00:00:00Z"},
        {"data_end_time": "2026-01-03T00:00:00Z"},
        {"data_start_time": None, "data_end_time": None},
    ],
    ids=str,
)
def test_another_request_s_report_is_not_taken(sandbox, other):
    asked = {"report_type": LINES, **WINDOW, **other}
    foreign = AmazonBusinessHook().create_report(asked.pop("report_type"), **asked)
    sandbox.inject(Fault(operation="createReport", kind="drop"))

    assert create(**WINDOW).execute(context()) != foreign
    assert len(sandbox.reports) == 2


def test_an_equal_report_from_before_is_not_taken(sandbox):
    before = create(**WINDOW).execute(context())
    sandbox.reports[before].created_time -= timedelta(seconds=5)
    sandbox.inject(Fault(operation="createReport", kind="drop"))

    assert create(**WINDOW).execute(context()) != before


@pytest.mark.parametrize("skew", [-300.0, 300.0, -3600.0, 3600.0, -80000.0, 80000.0])
def test_a_clock_of_the_api_that_is_wrong_makes_no_difference(sandbox, skew):
    sandbox.clock.advance(skew)
    before = create(**WINDOW).execute(context())
    sandbox.reports[before].created_time -= timedelta(seconds=5)
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    found = create(**WINDOW).execute(context())

    assert list(sandbox.reports) == [before, found]


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_the_first_look_up_goes_by_the_clock_of_the_api(sandbox, monkeypatch, skew):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05,))
    sandbox.clock.advance(skew)
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    assert [create(**WINDOW).execute(context())] == list(sandbox.reports)


def test_where_it_may_be_one_of_two_neither_is_taken(sandbox, caplog):
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    hook = AmazonBusinessHook()
    hook.client.token()
    equal = create(**WINDOW)
    sending = type(hook).send

    def send_and_be_overtaken(self, request, **more):
        type(hook).send = sending
        # Somebody else asks for the same in the same moment.
        try:
            return sending(self, request, **more)
        finally:
            sending(AmazonBusinessHook(), request)

    type(hook).send = send_and_be_overtaken
    report_id = equal.execute(context())

    assert list(sandbox.reports)[-1] == report_id
    assert len(sandbox.reports) == 3
    assert "It may be any of" in caplog.text


def test_two_lost_answers_are_left_to_the_retries(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost", times=2))
    store = Store()
    options = {"report_options": {"rows": "3"}}

    with pytest.raises(ResponseLostError):
        create(**options).execute(context(store))
    assert create(**options).execute(context(store)) == list(sandbox.reports)[-1]


class Killed(BaseException):
    """Stands for a SIGKILL: nothing after it runs."""


def killed_while(store, method):
    """Make the store a place where the worker dies."""

    def die(*_, **__):
        raise Killed

    setattr(store, method, die)
    return store


def test_a_retry_goes_on_with_the_report_of_the_try_before(sandbox, caplog):
    caplog.set_level("INFO")
    store = Store()
    with pytest.raises(Killed):
        create(**WINDOW).execute(context(killed_while(store, "delete")))
    del store.delete

    report_id = create(**WINDOW).execute(context(store))

    assert list(sandbox.reports) == [report_id]
    assert f"Continuing with report {report_id}" in caplog.text


def test_a_worker_that_died_before_it_could_note_the_id(sandbox):
    store = Store()
    noted = store.set

    def die_with_the_id(key, value, **_):
        if value["report_id"]:
            raise Killed
        noted(key, value)

    store.set = die_with_the_id
    with pytest.raises(Killed):
        create(**WINDOW).execute(context(store))
    store.set = noted

    assert [create(**WINDOW).execute(context(store))] == list(sandbox.reports)


def test_a_store_that_fails_after_the_report_is_created_loses_no_id(sandbox, caplog):
    store = Store()
    noted = store.set

    def fail_with_the_id(key, value, **_):
        if value["report_id"]:
            raise RuntimeError("the store is away")
        noted(key, value)

    store.set = fail_with_the_id

    assert [create(**WINDOW).execute(context(store))] == list(sandbox.reports)
    assert "could not be written: the store is away" in caplog.text


@pytest.mark.parametrize("grace", [60, 0])
def test_a_report_that_is_not_known_is_gone_on_with_while_it_is_young(sandbox, monkeypatch, grace):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", grace)
    store = Store()
    with pytest.raises(Killed):
        create(**WINDOW).execute(context(killed_while(store, "delete")))
    del store.delete
    (first,) = sandbox.reports
    sandbox.inject(Fault(operation="getReport", kind="status", status=404))

    report_id = create(**WINDOW).execute(context(store))

    assert (report_id == first) is bool(grace)
    assert len(sandbox.reports) == (1 if grace else 2)


def test_a_report_with_options_is_gone_on_with_by_its_id(sandbox):
    store = Store()
    options = {"report_options": {"rows": "3"}}
    with pytest.raises(Killed):
        create(**options).execute(context(killed_while(store, "delete")))
    del store.delete

    assert [create(**options).execute(context(store))] == list(sandbox.reports)


def test_another_request_makes_another_report(sandbox):
    store = Store()
    with pytest.raises(Killed):
        create(**WINDOW).execute(context(killed_while(store, "delete")))
    del store.delete

    create(report_options={"rows": "3"}).execute(context(store))
    assert len(sandbox.reports) == 2


@pytest.mark.parametrize("outcome", ["FATAL", "CANCELLED"])
def test_a_useless_report_is_not_gone_on_with(sandbox, outcome):
    sandbox.script(outcome=outcome)
    store = Store()
    with pytest.raises(Killed):
        create(**WINDOW).execute(context(killed_while(store, "delete")))
    del store.delete

    create(**WINDOW).execute(context(store))
    assert len(sandbox.reports) == 2


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_report_that_the_end_of_an_earlier_try_cancels_is_made_anew(sandbox, deferrable):
    """Airflow starts the new try of a cleared task a second before it ends the old one's trigger."""
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
    assert store == {}


def test_a_cleared_task_makes_a_new_report(sandbox):
    store = Store()
    first = create(**WINDOW).execute(context(store))
    assert store == {}

    assert create(**WINDOW).execute(context(store)) != first


def test_not_durable_remembers_nothing(sandbox):
    store = Store()
    create(durable=False).execute(context(killed_while(store, "set")))


def test_reuse_takes_the_newest_equal_report(sandbox):
    old, new = [create(**WINDOW).execute(context()) for _ in range(2)]
    create(data_start_time="2025-01-01T00:00:00Z").execute(context())

    assert create(**WINDOW, reuse_within=timedelta(hours=1)).execute(context()) == new
    sandbox.reports[new].cancelled = True
    assert create(**WINDOW, reuse_within=timedelta(hours=1)).execute(context()) == old
    sandbox.clock.advance(7200)
    fresh = create(**WINDOW, reuse_within=timedelta(hours=1)).execute(context())
    assert fresh not in (old, new)


def test_reuse_with_options_is_an_error(sandbox):
    with pytest.raises(InvalidInputError, match="reuse_within"):
        create(report_options={"a": "b"}, reuse_within=timedelta(hours=1)).execute(context())
    assert sandbox.count("createReport") == 0


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
def test_bad_arguments_show_when_the_dag_is_read(arguments, named):
    with pytest.raises(InvalidInputError, match=named):
        create(**arguments)


def tight(monkeypatch, sandbox, operation="createReport", rate=2.0, burst=1):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [rate, burst]}))


def test_a_task_that_is_refused_waits_for_its_turn_in_the_triggerer(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, body="json"))
    events = []

    report_id = run(lambda: create(deferrable=True), context(), deferrals=events)

    assert list(sandbox.reports) == [report_id]
    assert [event["status"] for event in events] == ["permitted"]
    assert sandbox.count("createReport") == 2


def test_it_waits_again_where_somebody_else_took_its_permit(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, body="json", times=3))
    events = []

    run(lambda: create(deferrable=True), context(), deferrals=events)

    assert [event["status"] for event in events] == ["permitted"] * 3
    assert len({event["since"] for event in events}) == 1
    assert len(sandbox.reports) == 1


def test_its_patience_ends(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, body="json", times=None))
    event = PermitGranted("createReport", permits=1, since=0.0).to_dict()

    with pytest.raises(ThrottledError):
        create(deferrable=True).execute_complete(context(), event)
    assert sandbox.reports == {}


def test_mapped_tasks_queue_before_they_call(sandbox, monkeypatch):
    tight(monkeypatch, sandbox, burst=3)
    events = []

    run(lambda: create(deferrable=True), context(map_index=7), deferrals=events)

    assert len(events) == 1
    assert sandbox.count("createReport") == 1


def test_a_lost_answer_after_the_wait_is_looked_for_too(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    report_id = run(lambda: create(deferrable=True, **WINDOW), context(Store(), map_index=0))

    assert list(sandbox.reports) == [report_id]


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
    assert store == {}


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("outcome", "on_cancelled", "error"),
    [
        ("FATAL", "fail", ReportFatalError),
        ("CANCELLED", "fail", ReportCancelledError),
        ("CANCELLED", "skip", AirflowSkipException),
        ("CANCELLED", "succeed", None),
    ],
)
def test_what_the_end_means(sandbox, deferrable, outcome, on_cancelled, error):
    sandbox.script(outcome=outcome)
    arguments = {"wait_for_completion": True, "deferrable": deferrable, "on_cancelled": on_cancelled}

    def end():
        return run(lambda: create(**arguments), context())

    if error is None:
        assert [end()] == list(sandbox.reports)
        return
    with pytest.raises(error):
        end()


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("queue_seconds", "cancelled"), [(3600, True), (0, False)])
def test_a_wait_that_takes_too_long_cancels_what_it_can(sandbox, deferrable, queue_seconds, cancelled):
    sandbox.script(queue_seconds=queue_seconds, processing_seconds=3600)

    with pytest.raises(ReportTimeoutError, match="within the timeout of 0.5 s"):
        run(lambda: create(wait_for_completion=True, deferrable=deferrable, timeout=0.5), context())

    (report,) = sandbox.reports.values()
    assert report.cancelled is cancelled


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
        raise Killed

    monkeypatch.setattr(InlineWait, "run", killed)
    with pytest.raises(Killed):
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


def test_the_wait_of_a_create_can_be_listed(sandbox):
    before = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        create(wait_for_completion=True, deferrable=True).execute(context(Store()))

    trigger = deferred.value.trigger
    assert trigger.report_type == LINES
    since, until = trigger.created_between
    assert before <= since <= until <= time.time()


def test_killing_never_fails(sandbox):
    sandbox.script(queue_seconds=3600)
    with pytest.raises(TaskDeferred) as deferred:
        create(wait_for_completion=True, deferrable=True).execute(context())
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=403, body="json", times=None))

    asyncio.run(rebuilt(deferred.value).on_kill())


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
