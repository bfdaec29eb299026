"""Sizes, speeds and times for the log."""

from __future__ import annotations

from datetime import datetime, timezone

_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
# For fewer bytes, or a shorter time, neither speed nor time is worth logging.
_MIN_BYTES_FOR_SPEED = 10**6
_MIN_SECONDS = 1.0


def size(count: float) -> str:
    """Return a number of bytes with its unit, such as ``1.5 MB``."""
    for factor, unit in _UNITS:
        # 999,950 bytes would otherwise be 1000.0 KB.
        if count >= factor * 0.99995:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} byte{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Return a duration with the unit that fits it, such as ``14 minutes``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"


def utc(moment: float) -> str:
    """Return a Unix time as a date and a time of UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def transferred(count: int, seconds: float) -> str:
    """Return how much was transferred, and, unless that is negligible, how long it took and how fast it was."""
    amount = size(count) if count < 1000 else f"{size(count)} ({count} bytes)"
    if count >= _MIN_BYTES_FOR_SPEED:
        return f"{amount} in {seconds:.1f} s, {size(count / max(seconds, 1e-3))}/s"
    return f"{amount} in {seconds:.1f} s" if seconds >= _MIN_SECONDS else amount
