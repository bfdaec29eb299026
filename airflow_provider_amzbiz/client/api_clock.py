"""How far the API's clock is ahead of this machine's, as its responses tell it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

# Seconds by which the two may differ: a machine that was suspended, or has no time server, may be days behind. A
# Date that is further off is a fault of the server or of a proxy, and must not decide where a report is searched
# for.
MAX_CLOCK_OFFSET = 7 * 86400.0


def clock_offset_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds by which a response's clock is ahead; None where it has no plausible Date."""
    with suppress(ValueError, TypeError, OverflowError, OSError):
        offset = parsedate_to_datetime(headers.get("Date", "")).timestamp() - time.time()
        if abs(offset) <= MAX_CLOCK_OFFSET:
            return offset
    return None
