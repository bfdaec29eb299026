"""Which values of the API can be stored in Airflow's database: in XCom, in events of triggers and of assets."""

from __future__ import annotations

import math
from typing import Any

# Levels of objects and lists: whoever writes them as JSON again needs a call for each, and Airflow some more.
_MAX_DEPTH = 50


def unstorable_part(value: Any, *, allow_nul: bool = False) -> str | None:
    """Return what of a JSON value cannot be stored, for an error message; None if all of it can.

    :param value: as ``json.loads`` returns it, or with decimal numbers in place of floats.
    :param allow_nul: as in :func:`odd_string`.
    """
    here = [value]
    # The value itself is above the first level.
    for _ in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for each in here:
            if isinstance(each, dict):
                below += [*each, *each.values()]
            elif isinstance(each, list):
                below += each
            elif found := _odd_scalar(each, allow_nul):
                return found
        if not below:
            return None
        here = below
    return f"values nested more than {_MAX_DEPTH} levels deep"


def _odd_scalar(value: Any, allow_nul: bool) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        # Python reads and writes them; JSON and databases do not know them.
        return "a number that is not finite"
    return odd_string(value, allow_nul=allow_nul) if isinstance(value, str) else None


def odd_string(value: str, *, allow_nul: bool = False) -> str | None:
    """Return what makes a string one that no database stores, for an error message; None if nothing does.

    :param allow_nul: whether a NUL character is stored in a file, where it does no harm. Default False.
    """
    # JSON can hold half a character, which no log or URL accepts either.
    if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        return "a string that is not valid UTF-8"
    # Nor does PostgreSQL accept this one, even as an escape in JSON.
    return "a string with a NUL character" if "\0" in value and not allow_nul else None
