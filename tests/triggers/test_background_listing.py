"""The listing fails, and the polls continue without it."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_amzbiz.sandbox import Fault
from tests.triggers.polling import running, statuses, waiting


@pytest.mark.parametrize("status", [429, 403, 500])
async def test_while_the_listing_fails_reports_are_polled_one_by_one(sandbox, status):
    ids = running(sandbox, 40)
    sandbox.inject(Fault(operation="getReports", kind="status", status=status, times=None))

    results = await asyncio.wait_for(asyncio.gather(*[waiting(each) for each in ids]), 20)

    assert statuses(results) == ["DONE"] * 40


async def test_a_listing_that_failed_is_read_again_later(sandbox):
    ids = running(sandbox, 200, processing_seconds=3600)
    sandbox.inject(Fault(operation="getReports", kind="status", status=500, times=1))
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(1)
    assert sandbox.count("getReports", 500) == 1
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 200
    assert sandbox.count("getReports", 200)
