"""One limit for two triggerers and their workers through Redis, which is gone for a minute during a batch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.throttle import Buckets
from dev.leaks import secrets_of
from dev.redis_server import RedisServer
from e2e.pipelines import connection_of, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

DAG, RUNS, COUNT = "batch_once", 2, 40
# How much faster the limits are than the API's: together, the batches take two and a half minutes at least.
SCALE = 4.5
PASSWORD = "the-password-of-the-store"
GONE_SECONDS = 60


@pytest.fixture
def store() -> Iterator[RedisServer]:
    """The server, which is not the one of Celery."""
    with RedisServer(("requirepass", PASSWORD)) as running:
        yield running


@pytest.fixture
def sandbox(airflow: Any, store: RedisServer, secrets: set[str]) -> Iterator[Sandbox]:
    """The API, with limits by a fast clock, and a connection that names the store."""
    with Sandbox(queue_seconds=2, processing_seconds=2) as running:
        running.accounts[0].buckets = Buckets("2026", Clock(SCALE))
        address = {"conn_type": "redis", "host": "127.0.0.1", "port": store.port, "password": PASSWORD}
        airflow.put_connection("limit_store", address)
        connection = connection_of(running, SCALE)
        connection["extra"]["rate_limit_store"] = "limit_store"
        airflow.put_connection("amazon_business_default", connection)
        yield running
        secrets |= secrets_of(running) | {PASSWORD}


def test_nothing_is_lost_or_fails_while_the_store_is_gone(
    airflow: Any, sandbox: Sandbox, store: RedisServer, s3: Any
) -> None:
    runs = [
        airflow.start(DAG, {"first": number * COUNT, "count": COUNT, "folder": f"store-{number}"})
        for number in range(RUNS)
    ]
    wait_until(lambda: len(sandbox.reports) >= 20, 240)
    with store.client(password=PASSWORD) as client:
        keys = [key.decode() for key in client.keys("*")]
    assert any(key.endswith(":createReport}:state") for key in keys), "the processes use the store"

    store.kill()
    at_the_kill = len(sandbox.reports)
    time.sleep(GONE_SECONDS)
    meanwhile = len(sandbox.reports) - at_the_kill
    store.start()

    for number, run in enumerate(runs):
        assert airflow.wait_for_run(DAG, run, 600) == "success"
        (task,) = [each for each in airflow.tasks(DAG, run) if each["task_id"] == "batch"]
        result = airflow.xcom(DAG, run, "batch")
        assert task["try_number"] == 1
        assert (result["requested"], result["landed"], result["failed"]) == (COUNT, COUNT, 0), number
    created = Counter(each.report_options["invoiceId"] for each in sandbox.reports.values())
    assert created == {f"INV-{number}": 1 for number in range(RUNS * COUNT)}
    assert meanwhile > 0
    with store.client(password=PASSWORD) as client:
        assert client.keys("*"), "the store is used again"
    throttled = sum(call.status == 429 for call in sandbox.calls)
    print(f"{meanwhile} created while the store was gone; 429: {throttled} of {len(sandbox.calls)} calls")
