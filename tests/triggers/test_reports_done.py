"""The watch for finished reports: what is announced, in every order of events, and across restarts."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest

from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers import asset_state, connections, reports_done
from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger
from tests.client.clients import alternate_tokens
from tests.conftest import connect
from tests.triggers.polling import refuse_report
from tests.triggers.watching import INVOICE, LINES, StateStore, Watching, ago, watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for module, name in (
        (connections, "PAUSE"),
        (reports_done, "_PAGE_PAUSE"),
        (asset_state, "_RETRY_PAUSE"),
        (asset_state, "_EVENT_SECONDS"),
        (reports_done, "_RUN_CREATION_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.02)


@pytest.mark.main_path
async def test_each_report_is_announced_once_when_it_is_done(sandbox):
    old = sandbox.add_report(LINES)
    async with Watching(watch()) as watching:
        await watching.polls(sandbox, 2)
        first, second = sandbox.add_report(LINES), sandbox.add_report(LINES, status="IN_PROGRESS")
        cancelled = sandbox.add_report(LINES, status="CANCELLED")
        await watching.polls(sandbox)
        assert watching.ids == [first]

        sandbox.reports[second].outcome = "DONE"
        await watching.polls(sandbox)

    assert watching.ids == [first, second]
    assert not {old, cancelled} & set(watching.ids)
    assert watching.events[0]["report_document_id"] == sandbox.reports[first].document_id
    assert watching.events[0]["processing_status"] == "DONE"


async def test_the_last_of_several_comes_when_the_run_of_the_first_is_made(sandbox, monkeypatch):
    monkeypatch.setattr(reports_done, "_RUN_CREATION_SECONDS", 1.5)
    wanted = [sandbox.add_report(LINES, created=ago(minutes=minutes)) for minutes in (30, 20, 10)]
    async with Watching(watch(since=ago(hours=1))) as watching:
        await watching.until(lambda: watching.ids == wanted[:2])
        before = asyncio.get_running_loop().time()
        await watching.until(lambda: watching.ids == wanted)

    assert asyncio.get_running_loop().time() - before > 1


async def test_reports_that_finish_in_another_order_than_they_were_created_are_all_announced(sandbox):
    # The first three were created long before the mark, by the time that they are done.
    slow = [sandbox.add_report(LINES, status="IN_PROGRESS", created=ago(hours=hours)) for hours in (40, 30, 20)]
    store = StateStore()
    async with Watching(watch(store)) as watching:
        await watching.polls(sandbox)
        quick = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [quick])
        for report_id in reversed(slow):
            sandbox.reports[report_id].outcome = "DONE"
            await watching.until(lambda report_id=report_id: watching.ids[-1] == report_id)
        await watching.polls(sandbox)

    assert watching.ids == [quick, *reversed(slow)]


async def test_more_slow_reports_than_are_polled_one_by_one_are_found_in_the_listing(sandbox, monkeypatch):
    monkeypatch.setattr(reports_done, "_MAX_SINGLE_POLLS", 3)
    slow = [sandbox.add_report(LINES, status="IN_PROGRESS", created=ago(hours=10, minutes=n)) for n in range(120)]
    async with Watching(watch()) as watching:
        await watching.polls(sandbox)
        for report_id in slow:
            sandbox.reports[report_id].outcome = "DONE"
        await watching.until(lambda: len(watching.ids) == 120)
        await watching.polls(sandbox)

    assert sorted(watching.ids) == sorted(slow)


async def test_a_status_that_is_not_known_is_waited_on(sandbox):
    async with Watching(watch()) as watching:
        await watching.polls(sandbox)
        report_id = sandbox.add_report(LINES, status="IN_REVIEW")
        await watching.polls(sandbox)
        assert watching.ids == []
        sandbox.reports[report_id].outcome = "DONE"
        await watching.until(lambda: watching.ids == [report_id])


async def test_a_restart_continues_where_the_watch_stopped(sandbox):
    store = StateStore()
    async with Watching(watch(store)) as before:
        await before.polls(sandbox)
        announced = sandbox.add_report(LINES)
        slow = sandbox.add_report(LINES, status="IN_QUEUE")
        await before.until(lambda: before.ids == [announced])
        await before.polls(sandbox)
    missed = sandbox.add_report(LINES)
    sandbox.reports[slow].outcome = "DONE"

    async with Watching(watch(store)) as after:
        await after.until(lambda: len(after.ids) == 2)
        await after.polls(sandbox)

    assert sorted(after.ids) == sorted([slow, missed])


async def test_since_announces_what_is_older_than_the_watch_page_by_page(sandbox):
    wanted = [sandbox.add_report(LINES, created=ago(days=3, minutes=n)) for n in range(230)]
    sandbox.add_report(LINES, created=ago(days=5))
    async with Watching(watch(StateStore(), since=ago(days=4))) as watching:
        await watching.until(lambda: len(watching.ids) == 230)
        assert sandbox.count("getReports") == 3
        await watching.polls(sandbox)

    # Oldest first.
    assert watching.ids == wanted[::-1]


async def test_only_the_requested_types_and_marketplaces(sandbox):
    arguments = {"report_types": [LINES, INVOICE], "marketplace_ids": "A2EUQ1WTGCTBG2"}
    async with Watching(watch(**arguments)) as watching:
        await watching.polls(sandbox)
        sandbox.add_report(LINES)
        sandbox.add_report("SANDBOX_OTHER", marketplace_ids=["A2EUQ1WTGCTBG2"])
        invoice = sandbox.add_report(INVOICE, marketplace_ids=["A2EUQ1WTGCTBG2", "ATVPDKIKX0DER"])
        await watching.polls(sandbox)

    assert watching.ids == [invoice]


async def test_faults_are_waited_out_and_miss_nothing(sandbox, caplog):
    store = StateStore()
    async with Watching(watch(store)) as watching:
        await watching.polls(sandbox)
        sandbox.inject(Fault(operation="getReports", kind="status", status=503, times=9))
        store.faults = 2
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [report_id])
        await watching.polls(sandbox)

    assert watching.ids == [report_id]
    assert "the watch continues" in caplog.text


async def test_a_listing_whose_tokens_alternate_is_a_fault_that_is_waited_out(sandbox, caplog):
    alternate_tokens(sandbox, pages=3)
    async with Watching(watch()) as watching:
        await watching.polls(sandbox, 5)
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [report_id])

    assert "same nextToken again" in caplog.text


async def test_a_connection_that_is_invalid_for_a_while_ends_no_watch(sandbox, monkeypatch, caplog):
    monkeypatch.setattr(connections, "_FRESH_SECONDS", 0.05)
    async with Watching(watch()) as watching:
        await watching.polls(sandbox)
        connect(monkeypatch, sandbox, region="us")
        await asyncio.sleep(0.5)
        connect(monkeypatch, sandbox)
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [report_id])

    assert "The watch cannot use its connection for the moment" in caplog.text


async def test_a_clock_that_is_ahead_for_a_moment_hides_no_report(sandbox, monkeypatch):
    store = StateStore()
    with monkeypatch.context() as ahead:
        ahead.setattr(ReportsClient, "clock_offset", property(lambda _: 80000.0))
        async with Watching(watch(store)) as watching:
            sandbox.add_report(LINES)
            await watching.polls(sandbox)
    async with Watching(watch(store)) as watching:
        await watching.polls(sandbox)
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: report_id in watching.ids)


async def test_a_report_that_the_api_does_not_know_for_a_day_is_dropped(sandbox, caplog):
    report_id = sandbox.add_report(LINES, status="IN_PROGRESS")
    async with Watching(watch(StateStore(), since=ago(hours=1))) as watching:
        await watching.polls(sandbox)
        sandbox.clock.advance(7200)
        sandbox.add_report(LINES, status="IN_PROGRESS")
        sandbox.clock.advance(1200)
        await watching.polls(sandbox)
        # Somebody may correct the connection, which is of another account for the moment.
        sandbox.inject(Fault(operation="getReport", kind="status", status=404, times=3))
        await watching.until(lambda: f"Report {report_id} cannot be polled" in caplog.text)
        sandbox.clock.advance(80000)
        polled = sandbox.count("getReport", status=200)
        await watching.until(lambda: sandbox.count("getReport", status=200) > polled)
        await watching.polls(sandbox)
        assert "no longer known" not in caplog.text
        sandbox.inject(Fault(operation="getReport", kind="status", status=404, times=1000))
        await watching.polls(sandbox)
        sandbox.clock.advance(80000)
        await watching.polls(sandbox)
        assert "no longer known" not in caplog.text
        sandbox.clock.advance(8000)
        await watching.until(lambda: f"Report {report_id} is no longer known" in caplog.text)
        calls = sandbox.count("getReport")
        await watching.polls(sandbox)
        assert sandbox.count("getReport") == calls


async def test_a_report_that_is_denied_alone_holds_up_no_other_one(sandbox, monkeypatch, caplog):
    denied, slow = (
        sandbox.add_report(LINES, status="IN_PROGRESS", created=ago(minutes=minutes)) for minutes in (90, 60)
    )
    refuse_report(monkeypatch, denied)
    async with Watching(watch(since=ago(hours=2))) as watching:
        # It moves the mark, so that the older ones are polled one by one.
        sandbox.add_report(LINES, created=ago(minutes=20), status="CANCELLED")
        await watching.until(lambda: f"Report {denied} cannot be polled" in caplog.text)
        sandbox.reports[slow].outcome = "DONE"
        new = sandbox.add_report(LINES)
        await watching.until(lambda: set(watching.ids) == {slow, new})


async def test_a_rejected_grant_is_logged_as_an_error_and_a_corrected_one_continues(sandbox, caplog):
    async with Watching(watch()) as watching:
        await watching.polls(sandbox)
        sandbox.inject(Fault(operation="getReports", kind="status", status=403, times=2))
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [report_id])

    assert any(record.levelname == "ERROR" and "403" in record.getMessage() for record in caplog.records)


async def test_a_slow_api_does_not_hold_up_the_loop(sandbox):
    sandbox.inject(Fault(operation="getReports", kind="delay", seconds=1.0))
    ticks = 0
    async with Watching(watch()):
        # The second call comes after the first one's response.
        while sandbox.count("getReports") < 2 and ticks < 1000:
            await asyncio.sleep(0.01)
            ticks += 1

    assert ticks > 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"report_types": []}, "report_types has 0 values"),
        ({"report_types": [f"T{n}" for n in range(11)]}, "must have 1 to 10"),
        ({"marketplace_ids": []}, "marketplace_ids has 0 values"),
        ({"since": "yesterday"}, "since is 'yesterday'"),
        ({"since": datetime(2026, 1, 1)}, "no UTC offset"),
        ({"since": "2999-01-01T00:00:00+00:00"}, "in the future"),
        ({"poll_interval": 0}, "poll_interval is 0"),
        ({"amazon_business_conn_id": ""}, "amazon_business_conn_id is ''"),
    ],
)
def test_parameters_are_checked_where_the_dag_is_parsed(arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        ReportsDoneTrigger(**{"report_types": [LINES], **arguments})


def test_a_row_of_the_trigger_table_makes_the_same_trigger_and_holds_no_secret(sandbox):
    _, row = watch(report_types="B,A", since=datetime(2026, 1, 1, tzinfo=timezone.utc)).serialize()

    assert ReportsDoneTrigger(**row).serialize()[1] == row
    assert row["report_types"] == ["A", "B"]
    for secret in (sandbox.client_secret, sandbox.refresh_token):
        assert secret not in str(row)


async def test_a_report_that_the_listing_shows_late_is_announced(sandbox):
    async with Watching(watch()) as watching:
        await watching.polls(sandbox)
        newer = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [newer])
        late = sandbox.add_report(LINES, created=ago(minutes=10))
        await watching.until(lambda: watching.ids == [newer, late])
        await watching.polls(sandbox)

    assert watching.ids == [newer, late]


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
async def test_a_clock_of_the_api_that_is_wrong_makes_no_difference(sandbox, skew):
    sandbox.clock.advance(skew)
    async with Watching(watch()) as watching:
        await watching.polls(sandbox)
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [report_id])
        await watching.polls(sandbox)

    assert watching.ids == [report_id]
