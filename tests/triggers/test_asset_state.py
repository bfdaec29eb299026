"""What a watch has announced survives the triggerer."""

from __future__ import annotations

import copy

import pytest

from airflow_provider_amzbiz.triggers import asset_state, connections, reports_done
from tests.triggers.watching import LINES, StateStore, Watching, watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for module, name in (
        (connections, "PAUSE"),
        (reports_done, "_PAGE_PAUSE"),
        (asset_state, "_RETRY_PAUSE"),
        (asset_state, "_EVENT_SECONDS"),
        (reports_done, "_RUN_CREATION_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.02)


async def test_a_kill_before_airflow_has_the_event_announces_it_again(sandbox, monkeypatch):
    store = StateStore()
    monkeypatch.setattr(asset_state, "_EVENT_SECONDS", 60.0)
    async with Watching(watch(store)) as before:
        await before.polls(sandbox)
        report_id = sandbox.add_report(LINES)
        await before.until(lambda: before.ids == [report_id])

    async with Watching(watch(store)) as after:
        await after.until(lambda: after.ids == [report_id])


async def test_a_store_that_fails_at_the_start_is_waited_for(sandbox):
    store = StateStore()
    async with Watching(watch(store)) as before:
        await before.polls(sandbox)
    report_id = sandbox.add_report(LINES)
    store.faults = 3

    async with Watching(watch(store)) as after:
        await after.until(lambda: after.ids == [report_id])


async def test_a_store_with_blocking_methods_only(sandbox):
    """As Airflow 3.3.0 and 3.3.1 have it."""

    class Blocking:
        def __init__(self):
            self.values = {}

        def get(self, key):
            return self.values.get(key)

        def set(self, key, value):
            self.values[key] = copy.deepcopy(value)

    store = Blocking()
    async with Watching(watch(store)) as before:
        await before.polls(sandbox)
        first = sandbox.add_report(LINES)
        await before.until(lambda: before.ids == [first])
        await before.polls(sandbox)
    second = sandbox.add_report(LINES)

    async with Watching(watch(store)) as after:
        await after.until(lambda: after.ids == [second])


async def test_a_store_that_several_assets_would_share_is_not_used(sandbox, caplog):
    class Shared:
        async def aget(self, key):
            raise ValueError("which asset?")

    async with Watching(watch(Shared())) as watching:
        await watching.polls(sandbox)
        report_id = sandbox.add_report(LINES)
        await watching.until(lambda: watching.ids == [report_id])
    assert "give each its own" in caplog.text
