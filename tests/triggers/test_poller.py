"""Many waits in one event loop: one poll for all of them."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers import poller
from airflow_provider_amzbiz.triggers.subscriptions import Subscription
from tests.conftest import connect
from tests.triggers.polling import running, statuses, waiting


async def test_many_waits_share_pages_and_each_gets_one_event(sandbox):
    ids = running(sandbox, 120, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.5)
    before = sandbox.count("getReport")
    sandbox.clock.advance(3600)

    results = await asyncio.gather(*waits)

    assert statuses(results) == ["DONE"] * 120
    assert [event["report"]["report_id"] for (event,) in results] == ids
    assert sandbox.count("getReports") < 30
    assert sandbox.count("getReport") - before < 30


async def test_few_waits_need_no_listing(sandbox):
    ids = running(sandbox, 3)

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 3
    assert sandbox.count("getReports") == 0


async def test_each_terminal_status_is_an_event(sandbox):
    ids = []
    for outcome in ("DONE", "CANCELLED", "FATAL"):
        ids += running(sandbox, 10, outcome=outcome)

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 10 + ["CANCELLED"] * 10 + ["FATAL"] * 10


async def test_one_report_may_be_waited_for_twice(sandbox):
    (report_id,) = running(sandbox, 1, processing_seconds=3600)
    waits = [waiting(report_id) for _ in range(30)]
    await asyncio.sleep(0.2)
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 30


async def test_reports_that_the_listing_does_not_show_are_found_one_by_one(sandbox):
    ids = running(sandbox, 40)
    sandbox.operations.behaviour.listing_lag_seconds = 3600

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 40


async def test_reports_of_unknown_type_are_polled_one_by_one(sandbox):
    ids = running(sandbox, 40)

    results = await asyncio.gather(*[waiting(each, known=False) for each in ids])

    assert statuses(results) == ["DONE"] * 40


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "body": "empty"},
        {"kind": "status", "status": 503, "body": "html"},
        {"kind": "drop"},
        {"kind": "empty"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_failing_polls_fail_no_wait(sandbox, fault):
    ids = running(sandbox, 30)
    waits = [waiting(each, poke_interval=0.1) for each in ids]
    for operation in ("getReports", "getReport"):
        sandbox.inject(Fault(operation=operation, times=2, **fault))

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 30


async def test_who_joins_late_and_who_leaves_early(sandbox):
    ids = running(sandbox, 60, processing_seconds=3600)
    early, late = ids[:30], ids[30:]
    waits = [waiting(each) for each in early]
    await asyncio.sleep(0.5)
    for wait in waits[:25]:
        wait.cancel()
    waits = waits[25:] + [waiting(each) for each in late]
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 35


async def test_nothing_runs_when_the_last_wait_has_left(sandbox):
    ids = running(sandbox, 30, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.5)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    waits.clear()
    del wait
    await asyncio.sleep(0.2)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    calls = len(sandbox.calls)
    await asyncio.sleep(0.8)
    assert len(sandbox.calls) == calls
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Subscription]


async def test_two_connections_to_one_account_share_one_poller(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, conn_id="other")
    ids = running(sandbox, 2, processing_seconds=3600)
    waits = [waiting(ids[0]), waiting(ids[1], conn_id="other")]
    await asyncio.sleep(0.3)

    names = [task.get_name() for task in asyncio.all_tasks()]
    assert names.count("amazon-business-poller") == 1
    sandbox.clock.advance(3600)
    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 2


async def test_a_short_interval_is_not_held_up_by_a_long_one(sandbox):
    slow, quick = running(sandbox, 2)
    lasting = waiting(slow, poke_interval=60.0)
    await asyncio.sleep(0.2)

    start = time.monotonic()
    assert statuses([await waiting(quick, poke_interval=0.1)]) == ["DONE"]
    assert time.monotonic() - start < 20
    assert not lasting.done()
    lasting.cancel()


def test_each_loop_has_its_own(sandbox):
    # As in dag.test(), where each deferral runs in a loop of its own.
    for report_id in running(sandbox, 2):

        async def once(report_id=report_id):
            return await waiting(report_id)

        assert statuses([asyncio.run(once())]) == ["DONE"]


async def test_a_fault_of_the_poller_ends_no_wait(sandbox, monkeypatch, caplog):
    ids = running(sandbox, 3)
    faults = [RuntimeError("some fault")]
    polling = poller.ReportPoller._poll

    async def poll(self, due):
        if faults:
            raise faults.pop()
        await polling(self, due)

    monkeypatch.setattr(poller.ReportPoller, "_poll", poll)

    assert statuses(await asyncio.gather(*[waiting(each) for each in ids])) == ["DONE"] * 3
    assert "Polling the reports failed" in caplog.text
