"""Sleeping where the caller may be asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds between two checks whether to stop, wherever a thread waits.
CHECK_SECONDS = 0.5


def interruptible_sleep(seconds: float, check: Callable[[], None]) -> None:
    """Sleep.

    :param check: called at first, and then twice a second; raises where the caller is to stop.
    """
    end = time.monotonic() + seconds
    check()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, CHECK_SECONDS))
        check()
