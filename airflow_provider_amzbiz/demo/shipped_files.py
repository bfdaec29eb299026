"""The files that the demo shows, and that have their home elsewhere in the repository."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parent.parent


def shipped_file(path: str) -> Path:
    """Return a file or folder by its path in the repository; the wheel has a copy beside this module."""
    copy = _HERE / path
    return copy if copy.exists() else _CHECKOUT / path
