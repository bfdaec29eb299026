"""Reports of a batch that are lost, damaged or fail for a while."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch.record import Stint
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ReportTimeoutError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.transfers import batch_run
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import AirflowFailException, TaskDeferred
from tests.deferring import context, events_of, rebuilt, run
from tests.transfers.batches import DAMAGED, LINES, Killed, batch, invoices, keys, manifest, on_record

pytestmark = pytest.mark.usefixtures("quick_batches")


def test_a_worker_lost_while_it_creates_loses_no_report_that_was_noted(sandbox, s3, prefix, monkeypatch):
    landed = durable_create.create
    count = 0
    lock = threading.Lock()

    def create_and_die(*arguments):
        nonlocal count
        with lock:
            count += 1
            if count > 3:
                raise Killed
        return landed(*arguments)

    monkeypatch.setattr(durable_create, "create", create_and_die)
    with pytest.raises(Killed):
        run(lambda: batch(prefix, invoices(*range(8))), context())
    monkeypatch.setattr(durable_create, "create", landed)
    assert {item.report_id for item in on_record(s3, prefix)} - {None} == set(sandbox.reports)

    run(lambda: batch(prefix, invoices(*range(8))), context(try_number=2))

    assert len(sandbox.reports) == 8
    assert len(keys(s3, prefix)) == 8


def test_a_lost_response_without_options_is_found(sandbox, s3, prefix):
    sandbox.inject(Fault(operation="createReport", kind="lost", times=2))
    requests = [
        {
            "report_type": LINES,
            "data_start_time": f"2026-01-0{day}T00:00:00Z",
            "data_end_time": f"2026-01-0{day + 1}T00:00:00Z",
        }
        for day in (1, 2, 3)
    ]

    run(lambda: batch(prefix, requests, s3_key=prefix + "{index}.tsv"), context())

    assert len(sandbox.reports) == 3


@pytest.mark.parametrize("end", [AmazonBusinessError("503"), Killed()], ids=["failed", "killed"])
def test_a_lost_report_is_found_although_earlier_searches_did_not_end(sandbox, s3, prefix, monkeypatch, end):
    """Each search is around the time when the request was sent, and not when the last one was tried."""
    # Longer than what a search allows for clocks.
    monkeypatch.setattr(batch_run, "REST_SECONDS", 3.0)
    search, searches = durable_create.find_lost, []

    def fail_twice(*arguments):
        searches.append(arguments)
        if len(searches) < 3:
            time.sleep(3 if isinstance(end, Killed) else 0)
            raise end
        return search(*arguments)

    def lose_the_end(stint):
        if isinstance(end, Killed) and searches and len(searches) < 3:
            raise end
        close(stint)

    close = Stint.close
    monkeypatch.setattr(durable_create, "find_lost", fail_twice)
    monkeypatch.setattr(Stint, "close", lose_the_end)
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    window = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}

    for attempted in (1, 2, 3):
        with contextlib.suppress(Killed):
            run(
                lambda: batch(prefix, [{"report_type": LINES, **window}], s3_key=prefix + "{index}.tsv"),
                context(try_number=attempted),
            )

    assert len(sandbox.reports) == 1
    assert keys(s3, prefix) == ["0.tsv"]


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "createReport", "kind": "status", "status": 429, "body": "json"},
        {"operation": "getReportDocument", "kind": "status", "status": 429, "body": "json"},
        {"operation": "getReportDocument", "kind": "status", "status": 503, "body": "html"},
        {"operation": "getReport", "kind": "status", "status": 503, "body": "html"},
        {"operation": "getReport", "kind": "drop"},
        {"operation": "document", "kind": "status", "status": 500},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_faults_that_pass_are_tried_again(sandbox, s3, prefix, fault):
    sandbox.inject(Fault(times=2, **fault))

    run(lambda: batch(prefix, invoices(1, 2, 3)), context())

    assert keys(s3, prefix) == ["1.pdf", "2.pdf", "3.pdf"]
    assert len(sandbox.reports) == 3


def test_a_damaged_document_is_created_again_once_and_the_item_says_so(sandbox, s3, prefix):
    sandbox.script(document=DAMAGED)

    result = run(lambda: batch(prefix, invoices(1, 2, 3)), context())

    assert result["landed"] == 3
    assert len(keys(s3, prefix)) == 3
    assert len(sandbox.reports) == 4
    (again,) = [item for item in manifest(s3, prefix) if item.get("recreated")]
    assert "damaged" in again["recreated"]
    assert again["uri"]


def test_a_document_that_stays_damaged_fails_its_request_only(sandbox, s3, prefix):
    sandbox.script(document=DAMAGED, times=2)

    with pytest.raises(AmazonBusinessError, match="1 of 1 requests failed") as caught:
        run(lambda: batch(prefix, invoices(1)), context())
    assert not isinstance(caught.value, AirflowFailException)
    assert keys(s3, prefix) == []
    assert len(sandbox.reports) == 2


@pytest.mark.slow
def test_a_document_that_amazon_no_longer_has_is_created_again(sandbox, s3, prefix):
    sandbox.script(processing_seconds=3600)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1), timeout=1), context())
    sandbox.clock.advance(3600)
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=404, body="json", times=3))

    result = run(lambda: batch(prefix, invoices(1)), context(try_number=2))

    assert result["landed"] == 1
    assert len(sandbox.reports) == 2
    (item,) = manifest(s3, prefix)
    assert "no longer has its document" in item["recreated"]


def test_a_report_that_is_lost_fails_alone_and_a_retry_searches_for_it_again(sandbox, s3, prefix, monkeypatch):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", 0)
    sandbox.script(processing_seconds=3600, times=2)
    task = batch(prefix, invoices(1, 2))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))

    def go_on():
        with pytest.raises(TaskDeferred) as deferred:
            batch(prefix, invoices(1, 2)).execute_complete(context(), event)
        lost.append(sandbox.accounts[0].reports.pop(next(iter(sandbox.reports))))
        sandbox.clock.advance(3600)
        raise deferred.value

    lost = []
    with pytest.raises(AmazonBusinessPermanentError, match="1 of 2"):
        run(lambda: batch(prefix, invoices(1, 2)), context(), begin=go_on)
    sandbox.accounts[0].reports[lost[0].report_id] = lost[0]
    assert sum(item["error"] is not None for item in manifest(s3, prefix)) == 1

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert result["landed"] == 2
    assert len(sandbox.reports) == 2


def test_a_report_of_an_earlier_try_that_is_lost_is_created_again(sandbox, s3, prefix, monkeypatch):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", 0)
    sandbox.script(processing_seconds=3600, times=2)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1, 2), timeout=2), context())
    sandbox.clock.advance(3600)
    sandbox.accounts[0].reports.pop(next(iter(sandbox.reports)))

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert (result["landed"], result["failed"]) == (2, 0)
    assert len(sandbox.reports) == 2


def test_a_report_of_an_earlier_try_that_ended_fatal_is_created_again(sandbox, s3, prefix):
    sandbox.script(processing_seconds=3600, outcome="FATAL")
    sandbox.script(processing_seconds=3600)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1, 2), timeout=2), context())
    sandbox.clock.advance(3600)

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert (result["landed"], result["failed"]) == (2, 0)
    assert [each.status for each in sandbox.reports.values()].count("FATAL") == 1
    assert len(sandbox.reports) == 3


def test_what_nobody_foresaw_of_one_document_does_not_end_the_batch(sandbox, s3, prefix, monkeypatch):
    land, bad = ReportsToS3Operator._store_document, []

    def unforeseen(self, fetch, **arguments):
        bad.append(arguments["names"]["report_id"])
        if arguments["names"]["report_id"] == bad[0]:
            raise OverflowError("https://documents.example/x?X-Amz-Signature=secret")
        return land(self, fetch, **arguments)

    monkeypatch.setattr(ReportsToS3Operator, "_store_document", unforeseen)
    result = run(lambda: batch(prefix, invoices(1, 2, 3), max_failed=1), context())
    assert (result["landed"], result["failed"]) == (2, 1)
    (error,) = [each["error"] for each in manifest(s3, prefix) if each["error"]]
    assert "OverflowError" in error
    assert "secret" not in error


def test_a_lost_request_is_not_given_the_report_that_another_one_has(sandbox, s3, prefix, monkeypatch):
    window = {"data_start_time": "2026-11-01T00:00:00Z", "data_end_time": "2026-11-02T00:00:00Z"}
    requests = [
        {"report_type": LINES, **window},
        {"report_type": LINES, **window, "report_options": {"rows": "5"}},
    ]

    def make():
        return batch(prefix, requests, s3_key=prefix + "{index}.tsv")

    create, noted = durable_create.create, threading.Event()

    def die_unless_it_has_options(sender, hook, request, record):
        if request.options:
            return create(sender, hook, request, record)
        noted.wait(10)
        raise Killed

    def note(stint, item):
        landed(stint, item)
        noted.set()

    landed = Stint.note
    monkeypatch.setattr(durable_create, "create", die_unless_it_has_options)
    monkeypatch.setattr(Stint, "note", note)
    with pytest.raises(Killed):
        run(make, context())
    monkeypatch.setattr(durable_create, "create", create)
    # As in another process, which knows what is on record only.
    monkeypatch.setattr(AmazonBusinessHook, "is_of_another_request", lambda *_: False)
    assert len(sandbox.reports) == 1

    run(make, context(try_number=2))

    whole, five = manifest(s3, prefix)
    assert len(sandbox.reports) == 2
    assert whole["report_id"] != five["report_id"]
    assert not sandbox.reports[whole["report_id"]].report_options
    assert not whole["adopted"]
