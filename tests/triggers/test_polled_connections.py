"""Connections that are corrected, rejected or away while reports are polled."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.conftest import connect
from tests.triggers.polling import LINES, rotate, running, statuses, until, waiting


async def test_fresh_tokens_that_are_rejected_fail_no_wait(sandbox):
    (report_id,) = running(sandbox, 1)
    sandbox.inject(Fault(operation="getReport", kind="expire_token", times=5))

    assert statuses([await waiting(report_id, known=False, poke_interval=0.1)]) == ["DONE"]


async def test_a_revoked_grant_fails_each_wait_with_the_reason(sandbox):
    ids = running(sandbox, 30, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.2)
    sandbox.revoke()
    sandbox.expire_tokens()

    results = await asyncio.gather(*waits)

    assert {event["status"] for (event,) in results} == {"error"}
    assert all("invalid_grant" in event["error"]["message"] for (event,) in results)


async def test_a_connection_that_was_corrected_meanwhile_is_read_again(sandbox, monkeypatch):
    import json

    # The token of a client secret that has been rotated away.
    wrong = {**sandbox.connection, "password": "amzn1.oa2-cs.v1.old"}
    (report_id,) = running(sandbox, 1)
    right = sandbox.connection
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(wrong))
    wait = waiting(report_id, known=False)
    await asyncio.sleep(0.2)
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(right))

    assert statuses([await wait]) == ["DONE"]


@pytest.mark.parametrize("waits", [1, 30])
@pytest.mark.parametrize("trouble", ["another account's endpoint", "another account", "503", "is missing"])
async def test_an_endpoint_that_was_corrected_meanwhile_is_called(sandbox, monkeypatch, caplog, trouble, waits):
    ids = running(sandbox, waits)
    with Sandbox(throttle=False) as other:
        connect(monkeypatch, other)
        if trouble == "another account's endpoint":
            wrong = {**sandbox.connection, "host": other.url}
            monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(wrong))
        elif trouble == "503":
            other.inject(Fault("*", "status", status=503, times=None))
        elif trouble == "is missing":
            other.stop()
        events = [
            waiting(
                each,
                known=False,
                report_type=LINES,
                created_time=sandbox.clock.now().isoformat(),
                poke_interval=1,
                # No poll at the deadline before the end of the test, and no report is too young to be known.
                deadline=time.time() + 600,
                not_found_grace_until=0.0,
            )
            for each in ids
        ]
        await until(lambda: "failed, the wait continues" in caplog.text)
        connect(monkeypatch, sandbox)

        assert statuses(await asyncio.wait_for(asyncio.gather(*events), 60)) == ["DONE"] * waits


async def test_a_connection_that_is_missing_for_a_while_is_waited_for(sandbox, monkeypatch):
    ids = running(sandbox, 2, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.3)
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")
    sandbox.clock.advance(3600)
    sandbox.expire_tokens()
    await asyncio.sleep(0.5)
    connect(monkeypatch, sandbox)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 2


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 503}, {"kind": "status", "status": 429}, {"kind": "drop"}]
)
@pytest.mark.parametrize("count", [3, 30])
async def test_a_transient_fault_before_a_rotated_secret_ends_no_wait(sandbox, monkeypatch, fault, count):
    ids = running(sandbox, count, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.5)
    rotate(sandbox, monkeypatch, "amazon_business_default")
    sandbox.inject(Fault(operation="token", **fault))
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * count


async def test_each_connection_of_an_account_stands_for_its_own_waits(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, conn_id="forgotten")
    connect(monkeypatch, sandbox, conn_id="kept")
    connect(monkeypatch, sandbox)
    ids = running(sandbox, 4, processing_seconds=3600)
    forgotten = [waiting(each, conn_id="forgotten") for each in ids[:2]]
    kept = [waiting(each, conn_id="kept") for each in ids[2:]]
    await asyncio.sleep(0.5)
    rotate(sandbox, monkeypatch, "kept")
    events = [event for (event,) in await asyncio.gather(*forgotten)]
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*kept)) == ["DONE"] * 2
    assert {event["error"]["class"] for event in events} == {"AuthenticationError"}
