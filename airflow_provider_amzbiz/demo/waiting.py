"""Waiting for what a server does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(
    holds: Callable[[], Found | None],
    seconds: float,
    problem: Callable[[], str],
    *,
    ended: Callable[[], bool] = lambda: False,
    pause: float = 0.5,
) -> Found:
    """Wait until a condition holds, and return what it is then.

    :param holds: returns something false as long as it does not hold.
    :param seconds: for how long at most.
    :param problem: what to say if it does not hold by then.
    :param ended: tells whether waiting longer is no use.
    :param pause: seconds between two checks.
    :raises RuntimeError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if ended() or time.monotonic() > deadline:
            raise RuntimeError(problem())
        time.sleep(pause)
    return found
