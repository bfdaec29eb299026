"""The queue for permits in the triggerer."""

from __future__ import annotations

import asyncio
import threading
import time

import fakeredis
import pytest

from airflow_provider_amzbiz.client.limit_store import LimitStore
from airflow_provider_amzbiz.client.shared_bucket import SharedBucket
from airflow_provider_amzbiz.client.store_address import StoreAddress
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


# With a limit store.


@pytest.fixture
def redis():
    return fakeredis.FakeServer()


def triggerer(redis, limit):
    """Return the bucket of a triggerer of its own."""
    store = LimitStore(StoreAddress("s", "127.0.0.1"), connect=lambda _: fakeredis.FakeRedis(server=redis))
    local = TokenBucket(limit)
    local.fix(limit)
    return SharedBucket(local, store, "0123:createReport")


async def joined(bucket, count):
    """Wait until so many queue."""
    while bucket.waiting < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_two_triggerers_give_permits_in_the_order_of_asking(redis):
    buckets = [triggerer(redis, Limit(4.0, 1)) for _ in range(2)]
    buckets[0].throttled()
    order = []

    async def queue(number):
        await wait_for_permits(buckets[number % 2], "createReport")
        order.append(number)

    waits = []
    for number in range(6):
        waits.append(asyncio.create_task(queue(number)))
        await joined(buckets[number % 2], number + 1)
    await asyncio.gather(*waits)

    assert order == [0, 1, 2, 3, 4, 5]


async def test_a_cancelled_wait_leaves_the_queue_of_all(redis):
    bucket = triggerer(redis, Limit(0.001, 1))
    bucket.throttled()
    waiting = asyncio.create_task(wait_for_permits(bucket, "createReport"))
    await joined(bucket, 1)

    waiting.cancel()
    await asyncio.wait([waiting])

    bucket.take_up_to(1)
    assert bucket.waiting == 0


async def test_a_wait_that_is_cancelled_while_it_joins_leaves_the_queue_of_all(redis):
    bucket = triggerer(redis, Limit(0.001, 1))
    bucket.throttled()
    waiting = asyncio.create_task(wait_for_permits(bucket, "createReport"))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.wait([waiting])

    bucket.take_up_to(1)
    assert bucket.waiting == 0


async def test_the_server_is_never_called_in_the_event_loop(redis, monkeypatch):
    bucket = triggerer(redis, Limit(20.0, 1))
    bucket.throttled()
    call, threads = LimitStore.call, []

    def recorded(store, key, arguments):
        threads.append((arguments[0], threading.current_thread()))
        return call(store, key, arguments)

    monkeypatch.setattr(LimitStore, "call", recorded)
    await wait_for_permits(bucket, "createReport")
    cancelled = asyncio.create_task(wait_for_permits(bucket, "createReport"))
    await joined(bucket, 1)
    cancelled.cancel()
    await asyncio.wait([cancelled])

    assert {action for action, _ in threads} == {"join", "claim", "leave"}
    assert threading.current_thread() not in {thread for _, thread in threads}


async def test_a_wait_keeps_its_place_when_another_triggerer_takes_over(redis):
    first, second = (triggerer(redis, Limit(0.001, 1)) for _ in range(2))
    first.throttled()
    lost = asyncio.create_task(wait_for_permits(first, "createReport", name="wait"))
    await joined(first, 1)
    behind = second.join()

    taken_over = asyncio.create_task(wait_for_permits(second, "createReport", name="wait"))
    await asyncio.sleep(0.2)

    assert second.waiting == 2
    assert second.claim(behind) > 1500
    for each in (lost, taken_over):
        each.cancel()
    await asyncio.wait([lost, taken_over])


async def test_the_name_of_a_wait_survives_the_database():
    trigger = queueing(queue_name="wait")
    path, arguments = trigger.serialize()
    assert path.endswith("PermitTrigger")
    assert PermitTrigger(**arguments).queue_name == "wait"
    assert queueing().queue_name is None
