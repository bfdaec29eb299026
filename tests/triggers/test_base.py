"""What blocks, in a thread of the triggerer."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.triggers.base import run_in_thread
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger
from tests.deferring import context, events_of


async def test_what_airflow_asks_its_supervisor_is_asked_in_the_triggerers_loop():
    async def ask():
        return asyncio.get_running_loop()

    # So Airflow 3.1 reads a connection.
    assert await run_in_thread(lambda: async_to_sync(ask)()) is asyncio.get_running_loop()


async def test_a_question_under_way_is_answered_though_its_trigger_is_cancelled():
    asked, answer, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask():
        asked.set()
        await asyncio.wait_for(answer.wait(), 5)
        told.set()

    asking = asyncio.create_task(run_in_thread(lambda: async_to_sync(ask)()))
    await asyncio.wait_for(asked.wait(), 5)
    asking.cancel()
    await asyncio.wait([asking], timeout=5)
    assert asking.cancelled()

    answer.set()
    await asyncio.wait_for(told.wait(), 5)


async def test_a_wait_that_fails_in_an_unforeseen_way_is_an_error_of_ours(sandbox, caplog):
    trigger = ReportStatusTrigger(
        report_id="1",
        amazon_business_conn_id="amazon_business_default",
        poke_interval=1.0,
        deadline=time.time() + 60,
        not_found_grace_until=0.0,
        # As a row that somebody has edited.
        created_time="yesterday",
    )

    (event,) = await events_of(trigger)

    assert event["status"] == "error"
    assert "The wait failed: ValueError" in event["error"]["message"]
    assert "Traceback" in caplog.text
    with pytest.raises(AmazonBusinessError, match="The wait failed") as caught:
        ReportStatusSensor(task_id="t", report_id="1").execute_complete(context(), event)
    assert caught.value.report_id == "1"


async def test_calls_that_run_at_once_keep_their_connections(sandbox, caplog):
    sandbox.inject(Fault(operation="getReport", kind="delay", seconds=0.5, times=None))
    hook = AmazonBusinessHook()
    report_id = sandbox.add_report("SANDBOX_ORDER_LINES")

    for _ in range(2):
        await asyncio.gather(*[run_in_thread(hook.get_report, report_id) for _ in range(16)])

    assert "pool is full" not in caplog.text
