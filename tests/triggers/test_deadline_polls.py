"""The last poll of waits whose deadlines are reached."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers import reports
from tests.conftest import connect
from tests.triggers.polling import LINES, running, statuses, waiting


class TestDeadlines:
    async def test_many_at_once_are_polled_once_more(self, sandbox):
        ids = running(sandbox, 60)
        deadline = time.time() + 1

        results = await asyncio.gather(
            *[waiting(each, known=False, poke_interval=60, deadline=deadline) for each in ids]
        )
        assert statuses(results) == ["DONE"] * 60

    @pytest.mark.slow
    async def test_with_a_slow_api_all_end_long_before_airflow_s_own_deadline(self, sandbox):
        ids = [sandbox.add_report(LINES, status="IN_PROGRESS") for _ in range(40)]
        deadline = time.time() + 1
        waits = [waiting(each, known=False, poke_interval=60, deadline=deadline) for each in ids]
        sandbox.inject(Fault(operation="getReport", kind="delay", seconds=4, times=None))

        results = await asyncio.wait_for(asyncio.gather(*waits), reports.BACKSTOP / 2)
        assert {event["status"] for (event,) in results} == {"timeout"}

    async def test_all_end_although_the_limit_is_used_up(self, sandbox, monkeypatch):
        connect(monkeypatch, sandbox, rate_limits='{"getReport": [0.1, 1], "getReports": [0.1, 1]}')
        monkeypatch.setattr(reports, "LAST_POLL_SECONDS", 2.0)
        ids = [sandbox.add_report(LINES, status="IN_PROGRESS") for _ in range(40)]
        waits = [waiting(each, known=False, poke_interval=60, deadline=time.time() + 0.5) for each in ids]

        results = await asyncio.wait_for(asyncio.gather(*waits), 20)
        assert {event["status"] for (event,) in results} == {"timeout"}
        await asyncio.sleep(0.5)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_listing_finds_many(self, sandbox, monkeypatch):
        # More than getReport allows in the time that a last poll may take.
        connect(monkeypatch, sandbox, rate_limits='{"getReport": [0.1, 1]}')
        ids = [sandbox.add_report(LINES, status="DONE") for _ in range(50)]
        created = {each: sandbox.reports[each].created_time.isoformat() for each in ids}
        deadline = time.time() + 0.5

        results = await asyncio.gather(
            *[
                waiting(
                    each,
                    known=False,
                    poke_interval=60,
                    deadline=deadline,
                    report_type=LINES,
                    created_time=created[each],
                )
                for each in ids
            ]
        )
        assert statuses(results) == ["DONE"] * 50
