"""How a trigger's wait is run: in a triggerer, or in the task's own process."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_amzbiz.exceptions import AmazonBusinessError

Result = TypeVar("Result")

# Seconds from the deferral to the event at least. A scheduler that hears late of the deferred process's end, when
# the task is running again, takes it for a process that died (seen on Airflow 3.3.2, after four seconds).
SETTLE = 10.0


class WaitingTrigger(BaseTrigger):
    """A trigger that fires one event."""

    @abstractmethod
    async def wait(self) -> dict[str, Any]:
        """Wait, and return the event.

        :raises AmazonBusinessError: the wait cannot go on; it becomes the event ``error``.
        """

    async def event(self) -> dict[str, Any]:
        """Wait, and return the event, whatever comes."""
        try:
            return await self.wait()
        except AmazonBusinessError as error:
            return {"status": "error", "error": error.to_dict()}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the event, but not too soon."""
        start = time.monotonic()
        event = await self.event()
        await asyncio.sleep(max(start + SETTLE - time.monotonic(), 0.0))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run what blocks in a thread, which goes on to its end where the trigger is cancelled.

    Not by asyncio.to_thread: on Airflow 3.1, what reads a connection or masks a secret there makes an event loop
    of its own, leaves the supervisor's answer unread, and the triggerer dies of the next one. So it does where
    such a call is cancelled.
    """
    return await asyncio.shield(sync_to_async(function, thread_sensitive=False)(*arguments))


def run_here(trigger: WaitingTrigger) -> dict[str, Any]:
    """Wait in this process, and return the event.

    A task that does not defer waits by the same code as one that does, so that both end alike.
    """
    return asyncio.run(trigger.event())
