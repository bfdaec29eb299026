"""What blocks, in a thread of the triggerer."""

from __future__ import annotations

import asyncio

from asgiref.sync import async_to_sync

from airflow_provider_amzbiz.triggers.running import in_thread


async def test_what_airflow_asks_its_supervisor_is_asked_in_the_triggerers_loop():
    async def ask():
        return asyncio.get_running_loop()

    # So Airflow 3.1 reads a connection.
    assert await in_thread(lambda: async_to_sync(ask)()) is asyncio.get_running_loop()


async def test_a_question_under_way_is_answered_though_its_trigger_is_cancelled():
    asked, answer, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask():
        asked.set()
        await asyncio.wait_for(answer.wait(), 5)
        told.set()

    asking = asyncio.create_task(in_thread(lambda: async_to_sync(ask)()))
    await asyncio.wait_for(asked.wait(), 5)
    asking.cancel()
    await asyncio.wait([asking], timeout=5)
    assert asking.cancelled()

    answer.set()
    await asyncio.wait_for(told.wait(), 5)
