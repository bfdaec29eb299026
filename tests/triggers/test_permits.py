"""The queue for permits in the triggerer."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_amzbiz.client.token_bucket import TokenBucket
from airflow_provider_amzbiz.client.usage_plan import Limit
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers import permits
from airflow_provider_amzbiz.triggers.permits import PermitTrigger, acquire_permits, wait_for_permits
from tests.conftest import connect
from tests.deferring import events_of


def queueing(**arguments):
    return PermitTrigger(
        **{
            "operation": "createReport",
            "amazon_business_conn_id": "amazon_business_default",
            "since": time.time(),
            **arguments,
        }
    )


async def test_a_permit_brings_the_task_s_state_back(sandbox):
    trigger = queueing(since=1.5, state={"reuse": {"next_token": "t"}})
    trigger.since = time.time()

    (event,) = await events_of(trigger)

    assert (event["status"], event["operation"], event["permits"]) == ("permitted", "createReport", 1)
    assert event["since"] == trigger.since
    assert event["state"] == {"reuse": {"next_token": "t"}}
    assert sandbox.count("createReport") == 0


async def test_a_permit_that_never_comes_is_an_error_in_the_end(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits='{"createReport": [0.001, 1]}')
    monkeypatch.setattr(permits, "MAX_QUEUE_SECONDS", 0.3)
    now = time.time()

    (event,) = await events_of(queueing(since=now, throttled_at=now, had_permit=True))

    assert event["error"]["class"] == "ThrottledError"
    assert "createReport got no permit within" in event["error"]["message"]


async def test_permits_are_given_in_the_order_of_the_queue():
    bucket = TokenBucket(Limit(20.0, 1))
    bucket.emptied()
    order = []

    async def queue(name, **arguments):
        await wait_for_permits(bucket, "createReport", **arguments)
        order.append(name)

    waits = [asyncio.create_task(queue(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    # A task that was throttled although it had its permit keeps its place.
    waits.append(asyncio.create_task(queue("throttled", first=True)))
    await asyncio.gather(*waits)

    assert order == ["throttled", "a", "b"]


async def test_a_task_that_stops_waiting_leaves_the_queue():
    bucket = TokenBucket(Limit(0.001, 1))
    bucket.emptied()
    waiting = asyncio.create_task(wait_for_permits(bucket, "createReport"))
    await asyncio.sleep(0)
    assert bucket.waiting == 1

    waiting.cancel()
    await asyncio.wait([waiting])

    assert bucket.waiting == 0


async def test_an_acquired_permit_is_used_by_the_next_call(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits='{"getReport": [0.001, 1]}')
    report_id = sandbox.add_report("SANDBOX_ORDER_LINES")
    hook = AmazonBusinessHook.for_trigger("amazon_business_default")

    await acquire_permits(hook, "getReport")

    # The bucket is empty now, and this hook does not wait.
    assert hook.get_report(report_id).report_id == report_id
