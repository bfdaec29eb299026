"""Polling reports one by one: one that fails concerns nobody else."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import connect
from tests.triggers.polling import refuse_report, running, statuses, until, waiting


async def test_a_report_that_is_not_known_delays_no_other_poll(sandbox):
    ids = running(sandbox, 10, processing_seconds=3600)
    unknown = [waiting(f"1234{number}", known=False, poke_interval=5) for number in range(9)]
    waits = [waiting(each, known=False, poke_interval=5) for each in ids]

    await until(lambda: sandbox.count("getReport") >= 19)

    polls = [call for call in sandbox.calls if call.operation == "getReport"][:19]
    assert len({call.path for call in polls}) == 19
    # All are of one round.
    assert (polls[-1].at - polls[0].at).total_seconds() < 5
    for each in [*unknown, *waits]:
        each.cancel()


async def test_an_unknown_report_fails_its_own_wait_only(sandbox):
    ids = running(sandbox, 30)
    lost = waiting("12345", known=False, not_found_grace_until=0.0)

    results = await asyncio.gather(*[waiting(each) for each in ids])
    (event,) = await lost

    assert statuses(results) == ["DONE"] * 30
    assert event["error"]["class"] == "ReportNotFoundError"


async def test_a_request_that_is_rejected_fails_its_own_wait_only(sandbox):
    (report_id,) = running(sandbox, 1)
    odd = waiting("a/../b", known=False, not_found_grace_until=0.0)

    assert statuses([await waiting(report_id)]) == ["DONE"]
    (event,) = await odd
    assert event["status"] == "error"


async def test_a_report_that_cannot_be_polled_delays_no_other(sandbox):
    ids = running(sandbox, 12)
    hurt = waiting(ids[3])
    others = [waiting(each) for each in ids if each != ids[3]]
    # The API's response about this one cannot be read.
    sandbox.reports[ids[3]].extra_fields = {"createdTime": 5}

    results = await asyncio.gather(*others)

    assert statuses(results) == ["DONE"] * 11
    assert not hurt.done()
    hurt.cancel()


@pytest.mark.parametrize("count", [12, 40])
async def test_access_that_is_denied_to_one_report_ends_its_wait_only(sandbox, monkeypatch, count):
    ids = running(sandbox, count, processing_seconds=3600)
    refuse_report(monkeypatch, "99999999999")
    denied = waiting("99999999999", known=False)
    waits = [waiting(each) for each in ids]
    (event,) = await denied
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * count
    assert (event["status"], event["error"]["class"]) == ("error", "AccessDeniedError")
    assert event["error"]["report_id"] == "99999999999"


async def test_what_was_polled_last_is_remembered_when_its_waits_come_again(sandbox, monkeypatch):
    """The trigger of a batch makes new waits for the same reports every few minutes."""
    ids = running(sandbox, 90, processing_seconds=3600)
    # Twenty of them can be polled in a round, and none can be listed.
    connect(monkeypatch, sandbox, rate_limits='{"getReport": [100, 100]}')
    # In ten rounds of any twenty, about seven of the ninety would be polled never.
    for _ in range(10):
        before = sandbox.count("getReport")
        waits = [waiting(each, known=False, poke_interval=0.2) for each in ids]
        await until(lambda before=before: sandbox.count("getReport") >= before + 20)
        await asyncio.sleep(0.2)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    polled = {call.path.rsplit("/", 1)[1] for call in sandbox.calls if call.operation == "getReport"}
    assert polled == set(ids)
