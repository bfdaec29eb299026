"""One report per task, through lost responses, lost workers and retries."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch.running import unpack
from airflow_provider_amzbiz.client import reports
from airflow_provider_amzbiz.client.auth import access_tokens
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    InvalidInputError,
    ReportTimeoutError,
    ResponseLostError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators import base
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import TaskDeferred
from tests.conftest import BUCKET
from tests.creating import LINES, WINDOW, create, dated
from tests.deferring import Store, context, events_of, rebuilt, run
from tests.processes import ProcessLost, lost_with


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


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


def test_with_options_nothing_is_adopted_from_a_listing(sandbox, caplog):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    report_id = create(report_options={"invoiceId": "1"}).execute(context())

    assert len(sandbox.reports) == 2
    assert sandbox.count("getReports") == 0
    assert list(sandbox.reports)[-1] == report_id
    assert "No listing shows its options" in caplog.text


def test_if_it_may_be_one_of_two_neither_is_adopted(sandbox, caplog):
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


def test_two_lost_responses_are_left_to_the_retries(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost", times=2))
    store = Store()
    options = {"report_options": {"rows": "3"}}

    with pytest.raises(ResponseLostError):
        create(**options).execute(context(store))
    assert create(**options).execute(context(store)) == list(sandbox.reports)[-1]


def test_a_retry_continues_with_the_report_of_the_previous_attempt(sandbox, caplog):
    caplog.set_level("INFO")
    store = Store()
    with pytest.raises(ProcessLost):
        create(**WINDOW).execute(context(lost_with(store, "handed_on")))
    del store.set

    report_id = create(**WINDOW).execute(context(store))

    assert list(sandbox.reports) == [report_id]
    assert f"Continuing with report {report_id}" in caplog.text


def test_a_worker_that_died_before_it_could_record_the_id(sandbox):
    store = Store()
    with pytest.raises(ProcessLost):
        create(**WINDOW).execute(context(lost_with(store, "report_id")))
    del store.set

    assert [create(**WINDOW).execute(context(store))] == list(sandbox.reports)


@pytest.mark.parametrize("grace", [60, 0])
def test_a_report_that_is_not_known_yet_is_waited_for_while_it_is_new(sandbox, monkeypatch, grace):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", grace)
    store = Store()
    with pytest.raises(ProcessLost):
        create(**WINDOW).execute(context(lost_with(store, "handed_on")))
    del store.set
    (first,) = sandbox.reports
    sandbox.inject(Fault(operation="getReport", kind="status", status=404))

    report_id = create(**WINDOW).execute(context(store))

    assert (report_id == first) is bool(grace)
    assert len(sandbox.reports) == (1 if grace else 2)


@pytest.mark.parametrize("operation", ["getReport", "token"])
def test_a_404_of_a_proxy_creates_no_second_report(sandbox, monkeypatch, operation):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", 0)
    store = Store()
    with pytest.raises(ProcessLost):
        create(**WINDOW).execute(context(lost_with(store, "handed_on")))
    del store.set
    access_tokens(AmazonBusinessHook().config).discard(AmazonBusinessHook().client.token())
    sandbox.inject(Fault(operation=operation, kind="status", status=404, body="html"))

    assert [create(**WINDOW).execute(context(store))] == list(sandbox.reports)


def test_a_retry_continues_with_a_report_with_options_by_its_id(sandbox):
    store = Store()
    options = {"report_options": {"rows": "3"}}
    with pytest.raises(ProcessLost):
        create(**options).execute(context(lost_with(store, "handed_on")))
    del store.set

    assert [create(**options).execute(context(store))] == list(sandbox.reports)


def test_another_request_creates_another_report(sandbox):
    store = Store()
    with pytest.raises(ProcessLost):
        create(**WINDOW).execute(context(lost_with(store, "handed_on")))
    del store.set

    create(report_options={"rows": "3"}).execute(context(store))
    assert len(sandbox.reports) == 2


@pytest.mark.parametrize("outcome", ["FATAL", "CANCELLED"])
def test_a_useless_report_is_created_again(sandbox, outcome):
    sandbox.script(outcome=outcome)
    store = Store()
    with pytest.raises(ProcessLost):
        create(**WINDOW).execute(context(lost_with(store, "handed_on")))
    del store.set

    create(**WINDOW).execute(context(store))
    assert len(sandbox.reports) == 2


def test_a_lost_response_after_the_wait_is_searched_for_too(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    report_id = run(lambda: create(deferrable=True, **WINDOW), context(Store(), map_index=0))

    assert list(sandbox.reports) == [report_id]


def test_killing_never_fails(sandbox):
    sandbox.script(queue_seconds=3600)
    with pytest.raises(TaskDeferred) as deferred:
        create(wait_for_completion=True, deferrable=True).execute(context())
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=403, body="json", times=None))

    asyncio.run(rebuilt(deferred.value).on_kill())


def test_a_cancellation_takes_no_longer_than_its_task_has(sandbox, monkeypatch):
    monkeypatch.setattr(durable_create, "CANCEL_SECONDS", 0.5)
    monkeypatch.setattr(reports, "CANCEL_GRACE", (1.0, 1.0))
    sandbox.script(queue_seconds=3600)
    report_id = create().execute(context())
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=404))

    assert not durable_create.cancel_quietly("amazon_business_default", report_id)
    assert sandbox.count("cancelReport") == 1


@pytest.mark.usefixtures("stranger")
def test_a_retry_adopts_the_report_that_was_created_meanwhile(sandbox):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="lost", times=1))
    sandbox.inject(Fault(operation="createReport", kind="drop", times=1))
    # The listing shows nothing while the first attempt looks.
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=1))
    with pytest.raises(InvalidInputError):
        dated().execute(context(store))

    assert [dated().execute(context(store))] == list(sandbox.reports)


@pytest.mark.usefixtures("stranger")
def test_a_lost_response_is_looked_up_after_a_deferral_where_the_listing_is_throttled(sandbox, monkeypatch):
    monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.0)
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    sandbox.inject(Fault(operation="getReports", kind="status", status=429, times=2))
    events = []

    # No store: what is known travels with the deferral.
    report_id = run(lambda: dated(deferrable=True), context(), deferrals=events)

    assert list(sandbox.reports) == [report_id]
    assert {event["operation"] for event in events} == {"getReports"}


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("store", [None, Store()])
def test_a_lost_response_is_looked_up_as_it_was_sent_whatever_is_rendered_after_the_deferral(
    sandbox, monkeypatch, store
):
    monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.0)
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    sandbox.inject(Fault(operation="getReports", kind="status", status=429, times=2))
    hours, events = itertools.count(1), []

    def rendered_anew():
        hour = next(hours)
        return create(
            data_start_time="2026-01-01T00:00:00Z",
            data_end_time=f"2026-01-02T{hour:02d}:00:00Z",
            amazon_business_conn_id="amazon_business_default" if hour == 1 else "nowhere",
            deferrable=True,
        )

    report_id = run(rendered_anew, context(store), deferrals=events)

    assert len(events) > 1
    assert list(sandbox.reports) == [report_id]


@pytest.mark.usefixtures("stranger")
class TestWhatWasAdopted:
    """It may be somebody else's, so that nothing cancels it."""

    @pytest.fixture(autouse=True)
    def _lost(self, sandbox):
        sandbox.script(queue_seconds=3600)
        sandbox.inject(Fault(operation="createReport", kind="lost"))

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_is_not_cancelled_by_a_timeout(self, sandbox, deferrable):
        with pytest.raises(ReportTimeoutError):
            run(
                lambda: dated(wait_for_completion=True, timeout=1, poke_interval=0.2, deferrable=deferrable),
                context(),
            )

        assert [report.status for report in sandbox.reports.values()] == ["IN_QUEUE"]
        assert sandbox.count("cancelReport") == 0

    def test_is_not_cancelled_when_a_user_ends_the_wait_nor_by_a_later_attempt(self, sandbox):
        store = Store()
        # The second attempt knows by the record alone that the report was adopted.
        for _ in range(2):
            with pytest.raises(TaskDeferred) as deferred:
                dated(wait_for_completion=True, deferrable=True).execute(context(store))
            asyncio.run(rebuilt(deferred.value).on_kill())

        assert [report.status for report in sandbox.reports.values()] == ["IN_QUEUE"]
        assert sandbox.count("cancelReport") == 0

    def test_is_not_cancelled_where_the_store_fails_when_it_was_found(self, sandbox):
        store = Store()
        record = store.set

        def fail_when_it_is_found(key, value, **_):
            if value["adopted"]:
                raise RuntimeError("the store is away")
            record(key, value)

        store.set = fail_when_it_is_found
        with pytest.raises((AmazonBusinessError, TaskDeferred)) as ended:
            dated(wait_for_completion=True, deferrable=True).execute(context(store))

        if isinstance(ended.value, TaskDeferred):
            asyncio.run(rebuilt(ended.value).on_kill())
        assert [report.status for report in sandbox.reports.values()] == ["IN_QUEUE"]

    def test_is_not_cancelled_with_a_batch(self, sandbox, s3):
        batch = {
            "task_id": "batch",
            "requests": [{"report_type": LINES, **WINDOW}, {"report_type": LINES}],
            "s3_bucket": BUCKET,
            "s3_key": f"adopted/{time.time()}/{{index}}.tsv",
            "poke_interval": 0.2,
            "deferrable": True,
        }
        sandbox.script(queue_seconds=3600, times=2)
        ctx = context()
        with pytest.raises(TaskDeferred) as deferred:
            ReportsToS3Operator(**batch).execute(ctx)
        (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
        with pytest.raises(TaskDeferred) as deferred:
            ReportsToS3Operator(**batch).execute_complete(ctx, event)

        trigger = rebuilt(deferred.value)
        asyncio.run(trigger.on_kill())

        (adopted,) = [report.report_id for report in unpack(trigger.running) if report.adopted]
        own = {report_id: report.status for report_id, report in sandbox.reports.items()}
        assert own.pop(adopted) == "IN_QUEUE"
        assert list(own.values()) == ["CANCELLED"]
