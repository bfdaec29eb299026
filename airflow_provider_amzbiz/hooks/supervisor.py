"""What the threads of one task ask of Airflow, one at a time.

A task's connections and secrets go over one channel to its supervisor. Before Airflow 3.2, which locks it, two
threads that use it at the same time take each other's responses, and one of them may wait forever (seen on 3.1.8).
A triggerer's channel allows many at a time, and there a secrets backend that is slow for one connection must not
hold up the others.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from airflow_provider_amzbiz.compat import mask_secret

# Reentrant, because a signal handler may cancel a report while its thread reads a connection.
_task_lock = threading.RLock()
_in_task = False


def serialize_threads() -> None:
    """Let the threads of this process take turns from now on, because it runs one task."""
    global _in_task
    _in_task = True


def mask(secret: str) -> None:
    """Have Airflow mask a secret in the logs."""
    with turn():
        mask_secret(secret)


def turn() -> AbstractContextManager[Any]:
    """Return a context in which no other thread of the task uses the channel."""
    return _task_lock if _in_task else nullcontext()
