"""A trigger in the task's own process: the same wait where there is no triggerer."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.triggers.base import BaseTrigger


def run_here(trigger: BaseTrigger) -> dict[str, Any]:
    """Run a trigger to its event, and return what that holds.

    A task that does not defer waits by the same code as one that does, so that both end alike.
    """

    async def first_event() -> dict[str, Any]:
        events = trigger.run()
        try:
            event: dict[str, Any] = (await anext(events)).payload
            return event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    return asyncio.run(first_event())
