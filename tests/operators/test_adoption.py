"""Which reports a task may take for its own, and which it may reuse."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from datetime import timedelta

import pytest

from airflow_provider_amzbiz import durable_create, report_status
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    InvalidInputError,
    ReportTimeoutError,
    ResponseLostError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators import base
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.conftest import BUCKET, connect
from tests.deferring import Store, context, events_of, rebuilt, run

LINES, INVOICE = "SANDBOX_ORDER_LINES", "GET_AB_INVOICE_PDF"
WINDOW = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, **WINDOW, **arguments})


def a_strangers(sandbox, *, seconds_ago=0.0, **arguments):
    """A report that another application of the same customer has made."""
    report_id = AmazonBusinessHook("stranger").create_report(LINES, **WINDOW, **arguments)
    sandbox.reports[report_id].created_time -= timedelta(seconds=seconds_ago)
    return report_id


@pytest.fixture(autouse=True)
def _stranger(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, conn_id="stranger")
    # What another process creates, this one does not know.
    from airflow_provider_amzbiz.client import reports

    monkeypatch.setattr(reports, "_created", {})


def test_a_report_made_while_the_task_waited_for_its_permit_is_not_taken(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"createReport": [0.25, 1]}))
    AmazonBusinessHook().create_report(LINES)
    theirs = []

    def overtake():
        time.sleep(0.3)
        theirs.append(sandbox.add_report(LINES))
        report = sandbox.reports[theirs[0]]
        times = [durable_create.datetime.fromisoformat(each) for each in WINDOW.values()]
        report.data_start_time, report.data_end_time = times
        sandbox.inject(Fault(operation="createReport", kind="drop"))

    other = threading.Thread(target=overtake)
    other.start()
    report_id = create().execute(context())
    other.join()

    assert report_id not in theirs
    assert len(sandbox.reports) == 3


@pytest.mark.parametrize("seconds", [-3600, 600, 3600])
def test_a_retry_takes_no_report_of_another_time(sandbox, seconds):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="drop", times=2))
    with pytest.raises(ResponseLostError) as caught:
        create().execute(context(store))
    assert caught.value.report_type == LINES
    # Created so long after the requests of the first attempt, or before them.
    theirs = a_strangers(sandbox, seconds_ago=max(-seconds, 0))
    record = store[durable_create.CreateRecord.KEY]
    record["sent"] = [[moment - max(seconds, 0) for moment in each] for each in record["sent"]]

    assert create().execute(context(store)) != theirs


def test_a_retry_takes_the_report_that_was_made_meanwhile(sandbox):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="lost", times=1))
    sandbox.inject(Fault(operation="createReport", kind="drop", times=1))
    # The listing shows nothing while the first attempt looks.
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=1))
    with pytest.raises(InvalidInputError):
        create().execute(context(store))

    assert [create().execute(context(store))] == list(sandbox.reports)


@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_request_leaves_nothing_to_look_for(sandbox, status):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="status", status=status))
    with pytest.raises((InvalidInputError, AccessDeniedError)):
        create().execute(context(store))

    assert store == {}
    theirs = a_strangers(sandbox)
    assert create().execute(context(store)) != theirs
    assert sandbox.count("getReports") == 0


@pytest.mark.parametrize("status", [400, 429])
def test_a_store_that_fails_does_not_hide_what_the_api_said(sandbox, status, caplog):
    class Undeletable(Store):
        def delete(self, key):
            raise RuntimeError("the store is away")

    sandbox.inject(Fault(operation="createReport", kind="status", status=status))

    with pytest.raises((InvalidInputError, creation_deferred())) as ended:
        create(deferrable=True).execute(context(Undeletable()))

    assert isinstance(ended.value, InvalidInputError) is (status == 400)
    assert "the store is away" in caplog.text


def test_a_lost_response_is_looked_up_after_a_deferral_where_the_listing_is_throttled(sandbox, monkeypatch):
    monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.0)
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    sandbox.inject(Fault(operation="getReports", kind="status", status=429, times=2))
    events = []

    # No store: what is known travels with the deferral.
    report_id = run(lambda: create(deferrable=True), context(), deferrals=events)

    assert list(sandbox.reports) == [report_id]
    assert {event["operation"] for event in events} == {"getReports"}


def test_a_type_that_always_has_options_is_never_taken(sandbox, monkeypatch):
    # Amazon refuses such a request; should it not, nothing tells one invoice from another.
    request = AmazonBusinessHook().report_request(INVOICE, "ATVPDKIKX0DER")
    theirs = AmazonBusinessHook("stranger").create_report(INVOICE, report_options={"invoiceId": "1"})
    report = AmazonBusinessHook().get_report(theirs)

    assert not request.fits(report)
    with pytest.raises(InvalidInputError, match="reuse_within"):
        create(
            report_type=INVOICE, data_start_time=None, data_end_time=None, reuse_within=timedelta(hours=1)
        ).execute(context())


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
                lambda: create(wait_for_completion=True, timeout=1, poke_interval=0.2, deferrable=deferrable),
                context(),
            )

        assert [report.status for report in sandbox.reports.values()] == ["IN_QUEUE"]
        assert sandbox.count("cancelReport") == 0

    def test_is_not_cancelled_when_a_user_ends_the_wait_nor_by_a_later_attempt(self, sandbox):
        store = Store()
        # The second attempt knows by the record alone that the report was adopted.
        for _ in range(2):
            with pytest.raises(creation_deferred()) as deferred:
                create(wait_for_completion=True, deferrable=True).execute(context(store))
            asyncio.run(rebuilt(deferred.value).on_kill())

        assert [report.status for report in sandbox.reports.values()] == ["IN_QUEUE"]
        assert sandbox.count("cancelReport") == 0

    def test_is_not_cancelled_where_the_store_fails_when_it_was_found(self, sandbox):
        store = Store()
        noted = store.set

        def fail_when_it_is_found(key, value, **_):
            if value["adopted"]:
                raise RuntimeError("the store is away")
            noted(key, value)

        store.set = fail_when_it_is_found
        with pytest.raises((AmazonBusinessError, creation_deferred())) as ended:
            create(wait_for_completion=True, deferrable=True).execute(context(store))

        if isinstance(ended.value, creation_deferred()):
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
        with pytest.raises(creation_deferred()) as deferred:
            ReportsToS3Operator(**batch).execute(ctx)
        (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
        with pytest.raises(creation_deferred()) as deferred:
            ReportsToS3Operator(**batch).execute_complete(ctx, event)

        trigger = rebuilt(deferred.value)
        asyncio.run(trigger.on_kill())

        (adopted,) = trigger.adopted
        own = {report_id: report.status for report_id, report in sandbox.reports.items()}
        assert own.pop(adopted) == "IN_QUEUE"
        assert list(own.values()) == ["CANCELLED"]


class TestReuse:
    @pytest.mark.parametrize(
        "within",
        [timedelta(0), timedelta(days=-1), timedelta(days=30, seconds=1), timedelta(days=3650), 3600, "1h"],
    )
    def test_refuses_what_cannot_be_meant(self, within):
        with pytest.raises(InvalidInputError, match="reuse_within is .* at most the 30 days"):
            create(reuse_within=within)

    def test_takes_no_report_whose_document_is_about_to_go(self, sandbox):
        old = a_strangers(sandbox, seconds_ago=30 * 86400 - 60)
        assert create(reuse_within=timedelta(days=30)).execute(context()) != old

        younger = a_strangers(sandbox, seconds_ago=29 * 86400)
        for report in sandbox.reports.values():
            if report.report_id not in (old, younger):
                report.cancelled = True
        assert create(reuse_within=timedelta(days=30)).execute(context()) == younger

    def test_goes_by_the_clock_of_the_api(self, sandbox):
        sandbox.clock.advance(-600)
        theirs = a_strangers(sandbox)

        assert create(reuse_within=timedelta(minutes=5)).execute(context()) == theirs

    def test_reads_no_page_more_than_it_needs(self, sandbox):
        for _ in range(250):
            old = sandbox.add_report(LINES)
            sandbox.reports[old].created_time -= timedelta(minutes=5)
        newest = a_strangers(sandbox)

        assert create(reuse_within=timedelta(hours=1)).execute(context()) == newest
        assert sandbox.count("getReports") == 1

    def test_reads_page_after_page_until_it_finds_one(self, sandbox):
        theirs = a_strangers(sandbox, seconds_ago=600)
        for _ in range(150):
            sandbox.add_report(LINES)

        assert create(reuse_within=timedelta(hours=1)).execute(context()) == theirs
        assert sandbox.count("getReports") == 2

    def test_continues_at_the_page_where_it_was_throttled(self, sandbox, monkeypatch):
        monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.0)
        theirs = a_strangers(sandbox, seconds_ago=600)
        for _ in range(250):
            sandbox.add_report(LINES)
        sandbox.inject(Fault(operation="getReports", kind="status", status=429, after=1, times=1))
        events = []

        found = run(lambda: create(reuse_within=timedelta(hours=1), deferrable=True), context(), deferrals=events)

        assert found == theirs
        assert [event["operation"] for event in events] == ["getReports"]
        assert sandbox.count("getReports", 200) == 3

    def test_begins_again_where_the_token_of_a_page_has_expired(self, sandbox):
        theirs = a_strangers(sandbox, seconds_ago=600)
        for _ in range(150):
            sandbox.add_report(LINES)
        sandbox.inject(Fault(operation="getReports", kind="status", status=400, after=1, times=1))

        assert create(reuse_within=timedelta(hours=1)).execute(context()) == theirs
        assert sandbox.count("getReports") == 4

    def test_does_not_begin_again_for_ever(self, sandbox):
        for _ in range(150):
            sandbox.add_report(LINES)
        sandbox.inject(Fault(operation="getReports", kind="status", status=400, after=1, times=1))
        sandbox.inject(Fault(operation="getReports", kind="status", status=400, after=1, times=1))

        with pytest.raises(InvalidInputError):
            create(reuse_within=timedelta(hours=1)).execute(context())

    def test_looks_once_only_where_the_task_queues_to_create(self, sandbox):
        report_id = run(lambda: create(reuse_within=timedelta(hours=1), deferrable=True), context(map_index=1))

        assert list(sandbox.reports) == [report_id]
        assert sandbox.count("getReports") == 1

    def test_takes_no_report_that_this_process_made_with_options(self, sandbox):
        theirs = AmazonBusinessHook().create_report(LINES, **WINDOW, report_options={"rows": "3"})

        assert create(reuse_within=timedelta(hours=1)).execute(context()) != theirs


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_task_that_timed_out_waits_a_whole_timeout_when_it_is_cleared(sandbox, deferrable):
    sandbox.script(processing_seconds=3600)
    store = Store()

    def waited():
        start = time.monotonic()
        with pytest.raises(Exception, match="did not end within the timeout of 1 s") as caught:
            run(
                lambda: create(wait_for_completion=True, timeout=1, poke_interval=0.2, deferrable=deferrable),
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
        with pytest.raises(creation_deferred()) as deferred:
            create(wait_for_completion=True, timeout=60, deferrable=True).execute(context(store))
        trigger.append(deferred.value.trigger)
        time.sleep(0.2)

    assert trigger[0].deadline == trigger[1].deadline


def creation_deferred():
    from airflow.providers.common.compat.sdk import TaskDeferred

    return TaskDeferred


@pytest.mark.parametrize("part", ["reason", "cancel"])
def test_what_is_only_part_of_an_error_does_not_hold_the_worker(sandbox, monkeypatch, part, caplog):
    from airflow_provider_amzbiz.exceptions import ReportFatalError, ReportTimeoutError

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(report_status, "REASON_SECONDS", 0.5)
    monkeypatch.setattr(durable_create, "CANCEL_SECONDS", 0.5)
    sandbox.script(
        outcome="FATAL_WITH_DOCUMENT" if part == "reason" else "DONE",
        queue_seconds=0 if part == "reason" else 3600,
    )
    for operation in ("getReportDocument", "cancelReport"):
        sandbox.inject(Fault(operation=operation, kind="status", status=429, times=None))
    error, text = (
        (ReportFatalError, "could not be read") if part == "reason" else (ReportTimeoutError, "did not end")
    )

    # With the hour that a call may wait for its permit otherwise, this would not end.
    with pytest.raises(error, match=text):
        run(
            lambda: create(
                wait_for_completion=True,
                deferrable=True,
                poke_interval=0.2,
                timeout=5 if part == "reason" else 0.5,
            ),
            context(),
        )
