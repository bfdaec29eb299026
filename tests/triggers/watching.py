"""A watch that runs, for tests of it and of its parts."""

from __future__ import annotations

import asyncio
import copy
from datetime import datetime, timedelta, timezone

from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger

LINES = "SANDBOX_ORDER_LINES"


INVOICE = "GET_AB_INVOICE_PDF"


class StateStore:
    """What the triggerer gives a watcher on Airflow 3.3, and what is left of it after a kill."""

    def __init__(self):
        self.values = {}
        self.faults = 0

    async def aget(self, key, default=None):
        self._fail()
        return copy.deepcopy(self.values.get(key, default))

    async def aset(self, key, value):
        self._fail()
        self.values[key] = copy.deepcopy(value)

    def _fail(self):
        if self.faults:
            self.faults -= 1
            raise RuntimeError("the API server is away")


def watch(store=None, **arguments):
    trigger = ReportsDoneTrigger(**{"report_types": [LINES], "poll_interval": 0.05, **arguments})
    trigger.asset_state_store = store
    return trigger


class Watching:
    """A trigger that runs, and the ids that it has announced."""

    def __init__(self, trigger):
        self.trigger = trigger
        self.events = []

    @property
    def ids(self):
        return [event["report_id"] for event in self.events]

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self):
        async for event in self.trigger.run():
            self.events.append(event.payload)

    async def until(self, holds):
        deadline = asyncio.get_running_loop().time() + 10
        while not holds():
            assert not self._task.done(), self._task
            assert asyncio.get_running_loop().time() < deadline, f"announced: {self.ids}"
            await asyncio.sleep(0.02)

    async def polls(self, sandbox, count=3):
        """Wait for so many more reads of the listing."""
        seen = sandbox.count("getReports")
        await self.until(lambda: sandbox.count("getReports") >= seen + count)


def ago(**span):
    return datetime.now(timezone.utc) - timedelta(**span)
