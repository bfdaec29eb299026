"""Sizes and speeds as people read them in a log."""

from __future__ import annotations

_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
# Bytes below which, and seconds within which, neither time nor speed tells anything.
_SPEED_FROM = 10**6
_TIME_FROM = 1.0


def size(count: float) -> str:
    """Return a number of bytes with its unit, such as ``1.5 MB``."""
    for factor, unit in _UNITS:
        # 999,950 bytes would be 1000.0 KB.
        if count >= factor * 0.99995:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} byte{'s' * (count != 1)}"


def transferred(count: int, seconds: float) -> str:
    """Return how much was transferred, and, where that tells something, how long it took and how fast it was."""
    text = size(count) if count < 1000 else f"{size(count)} ({count} bytes)"
    if count >= _SPEED_FROM:
        return f"{text} in {seconds:.1f} s, {size(count / max(seconds, 1e-3))}/s"
    return f"{text} in {seconds:.1f} s" if seconds >= _TIME_FROM else text
