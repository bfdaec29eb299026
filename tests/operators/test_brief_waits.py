"""Operators that cancel or read give their worker slot back while they wait for a permit."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, InvalidInputError, ThrottledError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators import base, listed_reports
from airflow_provider_amzbiz.operators.listed_reports import ListedReports
from airflow_provider_amzbiz.operators.reconciliation import GetTransactionsOperator
from airflow_provider_amzbiz.operators.reports import CancelReportOperator, GetReportsOperator
from airflow_provider_amzbiz.sandbox import Company, Fault, ReconciliationSettings, Sandbox
from airflow_provider_amzbiz.transfers.transactions_to_s3 import TransactionsToS3Operator
from airflow_provider_amzbiz.triggers.events import PermitGranted
from tests.airflow_names import TaskDeferred
from tests.client.clients import alternate_tokens
from tests.conftest import BUCKET, connect
from tests.deferring import context, events_of, rebuilt, run

LINES = "SANDBOX_ORDER_LINES"
START = datetime(2026, 1, 5, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(base, "BRIEF_SECONDS", 0.5)


@pytest.fixture
def books(monkeypatch):
    """A sandbox with a company of which everything has happened."""
    company = Company(seed=1, orders=27, start=START)
    settings = ReconciliationSettings(page_size=7)
    with Sandbox(company=company, throttle=False, reconciliation=settings) as sandbox:
        sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 60)
        connect(monkeypatch, sandbox)
        yield sandbox


def limit(monkeypatch, sandbox, operation, rate=2.0, burst=1):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [rate, burst]}))


def used_up(monkeypatch, sandbox, operation):
    """Have the next permit of an operation in half an hour."""
    limit(monkeypatch, sandbox, operation, 1 / 1800)
    AmazonBusinessHook().client._transport._buckets[operation].emptied()


def throttle(sandbox, operation, **more):
    sandbox.inject(Fault(operation=operation, kind="status", status=429, **more))


def cancel(report_id="1", **more):
    return CancelReportOperator(task_id="t", report_id=report_id, **{"deferrable": True, **more})


def listing(**more):
    return GetReportsOperator(task_id="t", report_types=LINES, **{"deferrable": True, **more})


def transactions(**more):
    return GetTransactionsOperator(
        task_id="t", feed_start=START, feed_end=START + timedelta(days=60), **{"deferrable": True, **more}
    )


def table(**more):
    return TransactionsToS3Operator(
        task_id="t",
        s3_bucket=BUCKET,
        s3_key="brief/transactions.jsonl",
        feed_start=START,
        feed_end=START + timedelta(days=60),
        **{"deferrable": True, **more},
    )


MAKERS = {
    "cancelReport": cancel,
    "getReports": listing,
    "getTransactions": transactions,
}


@pytest.mark.parametrize(("operation", "make"), MAKERS.items())
def test_a_task_without_a_permit_gives_its_worker_slot_back(sandbox, monkeypatch, operation, make):
    used_up(monkeypatch, sandbox, operation)

    # With what it may wait on the worker otherwise, this would take half an hour.
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(context())

    assert deferred.value.trigger.operation == operation
    assert sandbox.count(operation) == 0


def test_the_table_of_transactions_does_too(sandbox, s3, monkeypatch):
    used_up(monkeypatch, sandbox, "getTransactions")

    with pytest.raises(TaskDeferred) as deferred:
        table().execute(context())

    assert deferred.value.trigger.operation == "getTransactions"


@pytest.mark.parametrize(("operation", "make"), MAKERS.items())
def test_without_deferrable_it_waits_on_the_worker_and_fails_with_a_retry(sandbox, monkeypatch, operation, make):
    used_up(monkeypatch, sandbox, operation)

    with pytest.raises(ThrottledError, match="may be called again in"):
        make(deferrable=False, max_throttle_wait=0.1).execute(context())


def test_a_throttled_cancel_is_continued_with_one_call(sandbox):
    report_id = queued(sandbox)
    throttle(sandbox, "cancelReport", times=None)
    with pytest.raises(TaskDeferred) as deferred:
        cancel(report_id).execute(context())
    sandbox.clear_faults()
    before = sandbox.count("cancelReport")

    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    assert cancel(report_id).execute_complete(context(), event) is True

    assert sandbox.count("cancelReport") == before + 1
    assert sandbox.reports[report_id].cancelled


def test_a_cancel_waits_in_the_triggerer_for_the_status_of_its_report_too(sandbox, monkeypatch):
    report_id = sandbox.add_report(LINES)
    throttle(sandbox, "getReport", times=None)

    with pytest.raises(TaskDeferred) as deferred:
        cancel(report_id).execute(context())
    sandbox.clear_faults()
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))

    assert event["operation"] == "getReport"
    assert cancel(report_id).execute_complete(context(), event) is False


def queued(sandbox):
    """Create a report that stays in the queue."""
    sandbox.script(queue_seconds=3600)
    return AmazonBusinessHook().create_report(LINES)


def test_a_kill_while_it_waits_cancels_nothing(sandbox, monkeypatch):
    report_id = queued(sandbox)
    used_up(monkeypatch, sandbox, "cancelReport")
    with pytest.raises(TaskDeferred) as deferred:
        cancel(report_id).execute(context())
    trigger = rebuilt(deferred.value)

    async def killed():
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.3)
        waiting.cancel()
        # As Airflow 3.3 does when a user stops the task.
        if hasattr(trigger, "on_kill"):
            await trigger.on_kill()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(killed())

    assert sandbox.count("cancelReport") == 0
    # Its place in the queue is free again.
    assert AmazonBusinessHook().token_bucket("cancelReport").waiting == 0


def test_it_cancels_what_its_template_renders_when_it_is_resumed(sandbox):
    first, second = queued(sandbox), queued(sandbox)
    throttle(sandbox, "cancelReport", times=None)
    with pytest.raises(TaskDeferred) as deferred:
        cancel(first).execute(context())
    sandbox.clear_faults()
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))

    cancel(second).execute_complete(context(), event)

    assert [each.cancelled for each in (sandbox.reports[first], sandbox.reports[second])] == [False, True]


@pytest.mark.parametrize(("operation", "make"), [("cancelReport", cancel), ("getReports", listing)])
def test_mapped_tasks_queue_before_they_call(sandbox, monkeypatch, operation, make):
    report_id = queued(sandbox)
    limit(monkeypatch, sandbox, operation)
    more = {"report_id": report_id} if make is cancel else {}
    events = []

    run(lambda: make(**more), context(map_index=3), deferrals=events)

    assert [each["operation"] for each in events] == [operation]
    assert sandbox.count(operation) == 1


def test_a_mapped_task_queues_for_no_call_that_is_not_allowed(sandbox):
    with pytest.raises(InvalidInputError, match="page_size is 101"):
        listing(page_size=101).execute(context(map_index=3))
    with pytest.raises(InvalidInputError, match="report_id"):
        cancel("None").execute(context(map_index=3))


def test_mapped_readers_of_transactions_call_at_once(books):
    events = []

    run(transactions, context(map_index=3), deferrals=events)

    assert events == []


@pytest.mark.parametrize("deferred_before", [0, 1, 3])
def test_a_listing_continues_from_the_page_that_it_has_reached(sandbox, deferred_before):
    ids = [sandbox.add_report(LINES) for _ in range(5)]
    task = listing(page_size=1)
    if deferred_before:
        throttle(sandbox, "getReports", after=deferred_before, times=None)
    else:
        throttle(sandbox, "getReports", times=None)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    # Rejected ones are counted, too.
    throttled = sandbox.count("getReports", 429)
    sandbox.clear_faults()
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))

    # Other filters: those of the listing that was begun apply.
    resumed = listing(page_size=1, created_until=None if deferred_before else START + timedelta(days=3650))
    found = resumed.execute_complete(context(), event)

    assert [each["report_id"] for each in found] == ids[::-1]
    assert sandbox.count("getReports") == len(ids) + throttled


def test_a_listing_whose_token_is_refused_begins_again(sandbox, caplog, capsys):
    ids = [sandbox.add_report(LINES) for _ in range(3)]
    throttle(sandbox, "getReports", after=2, times=None)
    with pytest.raises(TaskDeferred) as deferred:
        listing(page_size=1).execute(context())
    sandbox.clear_faults()
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    sandbox.inject(Fault(operation="getReports", kind="status", status=400))

    with caplog.at_level(logging.WARNING):
        found = listing(page_size=1).execute_complete(context(), event)

    assert [each["report_id"] for each in found] == ids[::-1]
    assert "Listing again from the first page" in caplog.text + capsys.readouterr().out


def test_a_listing_that_is_refused_at_once_fails(sandbox):
    sandbox.add_report(LINES)
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=2))

    with pytest.raises(InvalidInputError):
        listing().execute(context())
    assert sandbox.count("getReports") == 1


def test_a_listing_too_large_for_a_deferral_waits_on_its_worker(sandbox, monkeypatch, caplog, capsys):
    ids = [sandbox.add_report(LINES) for _ in range(3)]
    monkeypatch.setattr(listed_reports, "PACKED_BYTES", 300)
    limit(monkeypatch, sandbox, "getReports", rate=0.8)

    with caplog.at_level(logging.INFO):
        found = listing(page_size=1).execute(context())

    assert [each["report_id"] for each in found] == ids[::-1]
    assert "are too many to keep in a deferral: waiting on the worker" in caplog.text + capsys.readouterr().out


def test_an_instance_can_run_twice(sandbox):
    sandbox.add_report(LINES)
    task = listing()

    assert len(task.execute(context())) == 1
    sandbox.add_report(LINES)
    assert len(task.execute(context())) == 2


@pytest.mark.parametrize(
    "state", [{"reports": "x", "next_token": None}, {"reports": "eJw="}, {"next_token": "a"}, {"reports": 1}]
)
def test_damaged_pages_are_an_error_that_says_what_to_do(sandbox, state):
    event = PermitGranted("getReports", permits=1, since=0.0, state=state).to_dict()

    with pytest.raises(AmazonBusinessError, match="Clear the task to list again from the first page"):
        listing().execute_complete(context(), event)
    assert sandbox.count("getReports") == 0


def test_some_hundred_reports_fit_a_deferral():
    """As Amazon's are: ids and times are random, and compress badly."""
    chance = random.Random(1)

    def report():
        moment = (START + timedelta(seconds=chance.random() * 8e6)).isoformat(timespec="milliseconds")
        return {
            "report_id": str(chance.randrange(10**11)),
            "report_type": "GET_AB_INVOICE_PDF",
            "processing_status": "DONE",
            "created_time": moment,
            "marketplace_ids": ["ATVPDKIKX0DER"],
            "data_start_time": moment,
            "data_end_time": moment,
            "processing_start_time": moment,
            "processing_end_time": moment,
            "report_document_id": f"amzn1.spdoc.1.4.na.{chance.randbytes(16).hex()}.T{chance.randrange(10**13)}.1",
            "extra": {},
        }

    listed = ListedReports()
    sizes = []
    while (packed := listed.packed()) is not None:
        assert ListedReports.unpacked(json.loads(json.dumps(packed))).reports == listed.reports
        sizes.append(len(json.dumps(packed)))
        listed.add([report() for _ in range(100)], f"token {len(sizes)}")

    assert 200 <= (len(sizes) - 1) * 100 <= 500
    # With base64 of Fernet on top, a row of MySQL has 64 KB.
    assert max(sizes) <= 36_000


@pytest.mark.parametrize("make", [transactions, table])
def test_transactions_are_read_once_after_the_wait(books, s3, make):
    make().execute(context())
    pages = books.count("getTransactions")
    throttle(books, "getTransactions", times=None)
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(context())
    before = books.count("getTransactions")
    books.clear_faults()
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))

    found = make().execute_complete(context(), event)

    count = len(found) if make is transactions else found["transactions"]
    assert count == len(books.company.transactions)
    assert books.count("getTransactions") == before + pages


@pytest.mark.parametrize("make", [transactions, table])
def test_once_rows_are_read_the_task_stays_on_its_worker(books, s3, monkeypatch, make):
    # A permit comes later than a deferrable task waits for its first one.
    limit(monkeypatch, books, "getTransactions", rate=0.8)
    events = []

    found = run(lambda: make(), context(), deferrals=events)

    assert events == []
    count = len(found) if make is transactions else found["transactions"]
    assert count == len(books.company.transactions)


def test_a_task_that_reads_waits_no_longer_than_it_may(books, monkeypatch):
    limit(monkeypatch, books, "getTransactions", rate=1 / 1800)

    with pytest.raises(ThrottledError):
        transactions(max_throttle_wait=0.1).execute(context())
    assert books.count("getTransactions") == 1


def test_tokens_from_before_a_deferral_are_known_after_it(sandbox):
    alternate_tokens(sandbox, pages=2)
    throttle(sandbox, "getReports", times=None)
    with pytest.raises(TaskDeferred) as deferred:
        listing().execute(context())
    sandbox.clear_faults()
    alternate_tokens(sandbox, pages=1)

    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with pytest.raises(AmazonBusinessError, match="same nextToken again"):
        listing().execute_complete(context(), event)
