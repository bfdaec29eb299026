"""How triggers read their connections: once for all of them, and again where that may help."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest

from airflow_provider_amzbiz.batch.running import RunningReport, pack
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers import connections
from airflow_provider_amzbiz.triggers.batch import BatchTrigger
from airflow_provider_amzbiz.triggers.permits import PermitTrigger
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger

DEFAULT = "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(connections, "PAUSE", 0.1)
    monkeypatch.setattr(connections, "_ERROR_SECONDS", 0.05)


@pytest.fixture
def reads(monkeypatch):
    """Count the reads of connections, each of which takes a while as with a secrets backend."""
    found, reading = [], AmazonBusinessHook.get_connection

    def counted(conn_id):
        found.append(conn_id)
        time.sleep(0.1)
        return reading(conn_id)

    monkeypatch.setattr(AmazonBusinessHook, "get_connection", staticmethod(counted))
    return found


def status_trigger(report_id, **arguments):
    now = time.time()
    return ReportStatusTrigger(
        **{
            "report_id": report_id,
            "amazon_business_conn_id": "amazon_business_default",
            "poke_interval": 0.2,
            "deadline": now + 30,
            "not_found_grace_until": 0.0,
            **arguments,
        }
    )


async def test_many_triggers_read_one_connection_once(sandbox, reads):
    report_id = sandbox.add_report(status="DONE")
    now = time.time()
    triggers = [
        *[status_trigger(report_id) for _ in range(100)],
        *[
            PermitTrigger(operation="createReport", amazon_business_conn_id="amazon_business_default", since=now)
            for _ in range(50)
        ],
        BatchTrigger(
            amazon_business_conn_id="amazon_business_default",
            record={},
            creates=0,
            running=pack([RunningReport(report_id, "SANDBOX_ORDER_LINES", now, adopted=False)])[0],
            documents=0,
            poke_interval=0.2,
            deadline=now + 20,
        ),
    ]

    events = await asyncio.gather(*[trigger.event() for trigger in triggers])

    assert {event["status"] for event in events} == {"ended", "permitted", "ready"}
    assert reads == ["amazon_business_default"]


async def test_the_loop_s_own_threads_are_left_to_others(sandbox):
    """Other triggers, and DNS, use them: they must get one at once, whatever the API does."""
    from concurrent.futures import ThreadPoolExecutor

    used = []

    class Counted(ThreadPoolExecutor):
        def submit(self, function, /, *arguments, **named):
            used.append(function)
            return super().submit(function, *arguments, **named)

    asyncio.get_running_loop().set_default_executor(Counted(1))
    ids = [sandbox.add_report(status="DONE") for _ in range(30)]

    events = await asyncio.gather(*[status_trigger(each).event() for each in ids])
    await status_trigger(ids[0], cancel_on_kill=True).on_kill()

    assert {event["status"] for event in events} == {"ended"}
    assert used == []


def edited(monkeypatch, **extra):
    connection = json.loads(os.environ[DEFAULT])
    connection["extra"] = {**connection["extra"], **extra}
    monkeypatch.setenv(DEFAULT, json.dumps(connection))


async def test_a_connection_that_is_invalid_for_a_while_is_waited_for(sandbox, monkeypatch):
    report_id = sandbox.add_report(status="DONE")
    edited(monkeypatch, region="us")
    waiting = asyncio.create_task(status_trigger(report_id).event())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    edited(monkeypatch, region="na")

    assert (await waiting)["status"] == "ended"


async def test_one_that_stays_invalid_ends_the_wait(sandbox, monkeypatch):
    monkeypatch.setattr(connections, "INVALID_SECONDS", 0.5)
    edited(monkeypatch, region="us")

    event = await status_trigger("1").event()

    assert (event["status"], event["error"]["class"]) == ("error", InvalidInputError.__name__)


async def test_a_secrets_backend_that_fails_in_its_own_way_is_waited_for(sandbox, monkeypatch):
    report_id = sandbox.add_report(status="DONE")
    faults, reading = [OSError("the vault is sealed")], AmazonBusinessHook.get_connection

    def failing(conn_id):
        if faults:
            raise faults.pop()
        return reading(conn_id)

    monkeypatch.setattr(AmazonBusinessHook, "get_connection", staticmethod(failing))

    assert (await status_trigger(report_id).event())["status"] == "ended"


async def test_an_error_is_raised_for_each_waiter_on_its_own(monkeypatch):
    monkeypatch.delenv(DEFAULT, raising=False)

    errors = await asyncio.gather(
        *[connections.shared_hook("amazon_business_default") for _ in range(3)], return_exceptions=True
    )

    assert all(isinstance(each, AmazonBusinessError) for each in errors)
    assert len(set(map(id, errors))) == 3
