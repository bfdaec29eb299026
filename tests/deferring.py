"""Runs tasks through their deferrals, as a worker and a triggerer do together."""

from __future__ import annotations

import asyncio
import importlib
import json
from functools import partial
from types import SimpleNamespace

from tests.airflow_names import TaskDeferred


class Store(dict):
    """A task state store, as Airflow 3.3 has one in the context."""

    def get(self, key, default=None):
        return super().get(key, default)

    def set(self, key, value, *, retention=None):
        self[key] = json.loads(json.dumps(value))

    def delete(self, key):
        self.pop(key, None)


class TaskInstance:
    def __init__(self, map_index=-1, try_number=1, max_tries=1):
        self.map_index = map_index
        self.try_number = try_number
        self.max_tries = max_tries
        self.dag_id, self.task_id, self.run_id = "dag", "task", "run"


def context(store=None, map_index=-1, try_number=1, *, max_tries=1, clear_number=0):
    task_instance = TaskInstance(map_index, try_number, max_tries)
    found = {"ti": task_instance, "dag_run": SimpleNamespace(clear_number=clear_number)}
    return found if store is None else {**found, "task_state_store": store}


def cleared(store, try_number=2):
    """The context of a task that a user has cleared: Airflow allows it its tries again."""
    return context(store, try_number=try_number, max_tries=try_number, clear_number=1)


def rebuilt(deferred):
    """The deferral's trigger as a triggerer makes it, from what the database holds."""
    path, arguments = deferred.trigger.serialize()
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))


async def events_of(trigger):
    return [json.loads(json.dumps(event.payload)) async for event in trigger.run()]


def run(make, ctx, *, deferrals=None, begin=None):
    """Run a task to its end; ``make`` creates the operator again for each process.

    :param deferrals: a list that gets each event.
    """
    task = make()
    step = begin or (lambda: task.execute(ctx))
    while True:
        try:
            return step()
        except TaskDeferred as deferred:
            (event,) = asyncio.run(events_of(rebuilt(deferred)))
            if deferrals is not None:
                deferrals.append(event)
            task = make()
            step = partial(getattr(task, deferred.method_name), ctx, event)
