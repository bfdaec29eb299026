"""Finding finished reports in the listing, and which parts of it are read."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers import listing
from tests.client.clients import alternate_tokens
from tests.triggers.polling import LINES, running, statuses, waiting


async def test_a_type_that_cannot_be_listed_is_polled_one_by_one(sandbox):
    ids = running(sandbox, 40)
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, body="json", times=None))

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 40
    assert sandbox.count("getReports") == 1


async def test_a_page_that_is_rejected_excludes_no_type(sandbox, caplog):
    ids = running(sandbox, 250, processing_seconds=600)
    waits = [waiting(each) for each in ids]
    sandbox.clock.advance(600)
    # The token of the next page may have expired.
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=1, after=1))

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 250
    assert sandbox.count("getReports", 400) == 1
    assert "Reports of type" not in caplog.text


async def test_a_type_that_could_not_be_listed_is_listed_again_later(sandbox, monkeypatch):
    monkeypatch.setattr(listing, "_UNLISTED_SECONDS", 1.0)
    ids = running(sandbox, 200, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=1))
    await asyncio.sleep(2)
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 200
    assert sandbox.count("getReports", 200)


async def test_of_several_types_only_the_rejected_one_is_polled_one_by_one(sandbox, monkeypatch):
    from airflow_provider_amzbiz.sandbox import validation

    ids = running(sandbox, 100, processing_seconds=3600)
    odd = [sandbox.add_report("GET_AB_INVOICE_PDF", status="IN_PROGRESS") for _ in range(30)]
    waits = [waiting(each) for each in (*ids, *odd)]
    # It can be polled, but not be asked for.
    monkeypatch.setattr(validation, "REPORT_TYPES", validation.REPORT_TYPES - {"GET_AB_INVOICE_PDF"})
    await asyncio.sleep(0.5)
    sandbox.clock.advance(3600)
    for each in odd:
        sandbox.reports[each].outcome = "DONE"

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 130
    assert sandbox.count("getReports", 200)
    assert sandbox.count("getReports", 400) <= 2


async def test_waits_of_a_create_are_found_in_the_listing(sandbox):
    sandbox.script(processing_seconds=3600, times=60)
    start = time.time()
    ids = running(sandbox, 60)
    sandbox.clock.advance(0)
    between = {"report_type": LINES, "created_between": [start, time.time()]}
    waits = [waiting(each, known=False, **between) for each in ids]
    await asyncio.sleep(0.5)
    before = sandbox.count("getReport")
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 60
    assert sandbox.count("getReports")
    assert sandbox.count("getReport") - before < 30


async def test_old_reports_are_found_behind_many_newer_ones(sandbox):
    old = running(sandbox, 25)
    for report in sandbox.reports.values():
        report.created_time -= timedelta(hours=10)
    waits = [waiting(each) for each in old]
    for _ in range(1500):
        sandbox.add_report(LINES)

    assert statuses(await asyncio.wait_for(asyncio.gather(*waits), 20)) == ["DONE"] * 25
    assert not any("nextToken" in call.query for call in sandbox.calls)


async def test_a_report_that_never_ends_does_not_lengthen_the_listings(sandbox):
    (stuck,) = running(sandbox, 1, outcome="ON_HOLD")
    sandbox.reports[stuck].created_time -= timedelta(days=30)
    for _ in range(300):
        old = sandbox.add_report(report_type=LINES)
        sandbox.reports[old].created_time -= timedelta(days=10)
    forever = waiting(stuck)
    ids = running(sandbox, 40, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(1.5)
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 40
    pages = [call for call in sandbox.calls if call.operation == "getReports"]
    assert pages
    assert not any("nextToken" in call.query for call in pages)
    forever.cancel()


async def test_a_listing_whose_tokens_alternate_is_read_no_further(sandbox, caplog):
    ids = running(sandbox, 40)
    alternate_tokens(sandbox)

    assert statuses(await asyncio.gather(*[waiting(each) for each in ids])) == ["DONE"] * 40
    assert "same nextToken again" in caplog.text
    assert sandbox.count("getReports") == 3
