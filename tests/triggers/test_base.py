"""What blocks, in a thread of the triggerer."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.triggers import base
from airflow_provider_amzbiz.triggers.base import run_in_thread
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger
from tests.deferring import context, events_of


async def test_requests_to_the_supervisor_run_in_the_triggerer_s_loop():
    async def request():
        return asyncio.get_running_loop()

    # So Airflow 3.1 reads a connection.
    assert await run_in_thread(lambda: async_to_sync(request)()) is asyncio.get_running_loop()


async def test_a_request_in_progress_completes_although_its_trigger_is_cancelled():
    requested, reply, completed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def request():
        requested.set()
        await asyncio.wait_for(reply.wait(), 5)
        completed.set()

    requesting = asyncio.create_task(run_in_thread(lambda: async_to_sync(request)()))
    await asyncio.wait_for(requested.wait(), 5)
    requesting.cancel()
    await asyncio.wait([requesting], timeout=5)
    assert requesting.cancelled()

    reply.set()
    await asyncio.wait_for(completed.wait(), 5)


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


async def test_its_threads_are_bounded():
    started, all_started, release = [], threading.Event(), threading.Event()

    def block():
        started.append(threading.current_thread())
        if len(started) == base.MAX_THREADS:
            all_started.set()
        release.wait(30)

    calls = [asyncio.create_task(run_in_thread(block)) for _ in range(base.MAX_THREADS * 2)]
    try:
        assert await asyncio.to_thread(all_started.wait, 30)
        # If there were a thread for a further call, it would have started by now.
        await asyncio.sleep(0.1)
        assert len(set(started)) == len(started) == base.MAX_THREADS
    finally:
        release.set()
        await asyncio.gather(*calls)


async def test_a_slow_call_of_each_of_fifty_accounts_delays_no_other():
    """A triggerer with a hundred accounts has about two calls per second for each."""
    together = threading.Barrier(50)

    # Each call blocks until all fifty are in progress at once.
    await asyncio.gather(*[run_in_thread(together.wait, 20) for _ in range(50)])

    assert not together.broken
