"""The sandbox's own time, which may run faster than the world's and can be put forward."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone


class Clock:
    """Tells the time of the sandbox.

    :param scale: sandbox seconds per real second.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self._start = datetime.now(timezone.utc)
        self._real_start = time.monotonic()
        self._advanced = 0.0

    def now(self) -> datetime:
        """Return the sandbox's time, aware, in UTC."""
        return self._start + timedelta(seconds=self.seconds())

    def seconds(self) -> float:
        """Return the sandbox seconds since its start."""
        return (time.monotonic() - self._real_start) * self.scale + self._advanced

    def advance(self, seconds: float) -> None:
        """Put the clock forward by so many sandbox seconds, or back where they are negative."""
        self._advanced += seconds
