"""The sandbox's own time, which may run faster than real time and can be advanced."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

# Both were recorded: the first from production, the second from Amazon's static sandbox.
TIME_FORMATS = ("+00:00", ".sssZ")


class Clock:
    """The time of the sandbox, and its form in responses.

    :param scale: sandbox seconds per real second, above 0.
    :param time_format: ``+00:00`` or ``.sssZ``.
    :raises ValueError: one of them is not allowed.
    """

    def __init__(self, scale: float, time_format: str = TIME_FORMATS[0]) -> None:
        if scale <= 0:
            raise ValueError(f"time_scale is {scale!r}, but must be above 0")
        if time_format not in TIME_FORMATS:
            raise ValueError(f"time_format is {time_format!r}, but must be one of {list(TIME_FORMATS)}")
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
        """Advance the clock by so many sandbox seconds, or put it back if they are negative."""
        self._advanced += seconds

    def wire(self, time: datetime) -> str:
        """Return an aware time in the form of responses."""
        in_utc = time.astimezone(timezone.utc)
        if self._time_format == ".sssZ":
            return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return in_utc.isoformat(timespec="seconds")
