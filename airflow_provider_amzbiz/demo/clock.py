"""Prints progress with the seconds since the start."""

from __future__ import annotations

import time


class Clock:
    """Counts from its creation."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def log(self, text: str) -> None:
        """Print a line."""
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)
