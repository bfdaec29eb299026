"""The trigger alone: what it does to the loop it runs in, and to its deadlines."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers import permits
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(permits, "_CONNECTION_PAUSE", 0.1)


def trigger(report_id, **arguments):
    now = time.time()
    return ReportStatusTrigger(
        **{
            "report_id": report_id,
            "amazon_business_conn_id": "amazon_business_default",
            "poke_interval": 0.05,
            "deadline": now + 20,
            "young_until": now + 20,
            **arguments,
        }
    )


async def only_event(waiting):
    events = [event.payload async for event in waiting.run()]
    assert len(events) == 1
    return events[0]


async def test_a_slow_api_does_not_hold_up_the_loop(sandbox):
    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
    sandbox.inject(Fault(operation="getReport", kind="delay", seconds=1.5))
    gaps = []

    async def ticker():
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    ticking = asyncio.create_task(ticker())
    event = await only_event(trigger(report_id))
    ticking.cancel()

    assert event["status"] == "ended"
    # The loop went on ticking all through the answer's 1.5 seconds.
    assert len(gaps) > 20


async def test_a_deadline_that_passed_while_no_triggerer_ran_still_allows_one_look(sandbox):
    done = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
    running = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="IN_PROGRESS")
    past = {"deadline": time.time() - 100}

    assert (await only_event(trigger(done, **past)))["status"] == "ended"
    assert await only_event(trigger(running, **past)) == {
        "status": "timeout",
        "report_id": running,
        "last_status": "IN_PROGRESS",
        "own": False,
    }


async def test_a_connection_that_cannot_be_read_for_a_while_is_waited_for(sandbox, monkeypatch):
    import os

    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
    connection = os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"]
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")
    waiting = asyncio.create_task(only_event(trigger(report_id)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", connection)

    assert (await waiting)["status"] == "ended"


async def test_a_cancelled_trigger_cancels_no_report(sandbox):
    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="IN_QUEUE")
    waiting = asyncio.create_task(only_event(trigger(report_id)))
    await asyncio.sleep(0.3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert sandbox.count("cancelReport") == 0


def test_a_row_of_the_trigger_table_holds_no_secret(sandbox):
    row = str(trigger("1").serialize())

    for secret in (sandbox.client_secret, sandbox.refresh_token, "Atza|"):
        assert secret not in row
