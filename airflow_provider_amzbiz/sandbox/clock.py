"""The sandbox's own time, which may run faster than the world's and can be put forward."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

# Both have been recorded: the first from production, the second from Amazon's static sandbox.
TIME_FORMATS = ("+00:00", ".sssZ")


class Clock:
    """Tells the time of the sandbox, and writes times as the API does.

    :param scale: sandbox seconds per real second.
    :param time_format: ``+00:00`` or ``.sssZ``.
    """

    def __init__(self, scale: float, time_format: str = TIME_FORMATS[0]) -> None:
        self.scale = scale
        self._time_format = time_format
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

    def wire(self, time: datetime) -> str:
        """Return an aware time as it stands in responses."""
        in_utc = time.astimezone(timezone.utc)
        if self._time_format == ".sssZ":
            return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return in_utc.isoformat(timespec="seconds")
