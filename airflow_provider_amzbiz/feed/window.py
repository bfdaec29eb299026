"""The window of feed dates that a run reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError

log = logging.getLogger(__name__)

Time = datetime | str | None


@dataclass(frozen=True)
class Window:
    """From ``start`` to ``end``, both aware."""

    start: datetime
    end: datetime


def window_of(
    feed_start: Time,
    feed_end: Time,
    *,
    cursor: datetime | None,
    first_start: Time,
    begun: datetime | None = None,
    overlap: timedelta,
    clock: Callable[[], datetime],
) -> Window:
    """Return the window of a run.

    :param feed_start: where it begins; by default ``overlap`` before the cursor, or, without one, ``first_start``.
    :param feed_end: where it ends; by default now.
    :param first_start: where a feed's first run begins: the start of the data interval.
    :param begun: where runs began that have not succeeded: without a cursor, nothing after it may be skipped.
    :raises InvalidParameterError: it ends before it begins, or nothing says where to begin.
    """
    is_first = feed_start is None and cursor is None
    given = (first_start or begun) if is_first else feed_start
    if given is None and cursor is None:
        raise InvalidParameterError(
            "feed_start is None, but the feed has no cursor yet and the run has no data interval: set feed_start "
            "to the first feed date, such as 2026-10-01T00:00:00+00:00"
        )
    start = None if given is None else parameters.time("feed_start", given)
    if is_first and start is not None and begun is not None:
        start = min(start, begun)
    # After the checks, because the clock may be the API's, which takes a call.
    end = clock() if feed_end is None else parameters.time("feed_end", feed_end)
    if start is None:
        # Before a window that is wholly in the past, or a cursor that a wrong clock has set, the overlap counts.
        start = min(cursor or end, end) - overlap
    if start > end:
        raise InvalidParameterError(
            f"The feed would begin at {start.isoformat()} and end at {end.isoformat()}, but must begin before it "
            "ends: set feed_start and feed_end"
        )
    return Window(start, end)


def advanced(
    cursor: datetime | None, window: Window, latest: datetime, *, first_start: datetime | None = None
) -> datetime | None:
    """Return the cursor after a run.

    :param latest: the time up to which Amazon surely had its transactions: nothing is skipped that comes later.
    :param first_start: where the feed begins, if that is known.
    """
    read_until = first_start if cursor is None else cursor
    if read_until is not None and window.start > read_until:
        log.warning(
            "The window begins at %s, after the cursor %s: the cursor stays, so that the next run reads what is "
            "between",
            window.start.isoformat(),
            read_until.isoformat(),
        )
        return cursor
    end = min(window.end, latest)
    return end if cursor is None else max(cursor, end)


def parsed(time: str | None) -> datetime | None:
    """Read a time of the feed's state."""
    return None if time is None else datetime.fromisoformat(time)
