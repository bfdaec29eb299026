"""Time windows for reports: of a run, and of a range for a backfill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, time, timedelta
from datetime import timezone as fixed_timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.exceptions import InvalidInputError, translated_errors

_MIN_STEP = timedelta(minutes=1)
# As long as any other time that a parameter may give.
_MAX_SPAN = timedelta(seconds=parameters.MAX_SECONDS)
_CALENDAR = ("day", "month")


def report_windows(
    start: datetime | str,
    end: datetime | str,
    *,
    every: timedelta | str = "day",
    timezone: str = "UTC",
    holdback: timedelta = timedelta(0),
    now: datetime | None = None,
) -> list[dict[str, str]]:
    """Split a time range into windows for reports, oldest first.

    There are no gaps: the end of one window is the start of the next. Each is a dict with ``data_start_time`` and
    ``data_end_time``, ISO 8601 strings with the offset of the time zone, for ``.expand_kwargs`` of
    :class:`.CreateReportOperator` and the requests of :class:`.ReportsToS3Operator`.

    :param start: start of the range, an aware datetime or an ISO 8601 string with an offset.
    :param end: end of the range, the same way, not before ``start``.
    :param every: ``"day"`` (the default) splits at each midnight in ``timezone``, ``"month"`` at that of the first
        of each month; a day has 23 or 25 hours when the clocks change. A timedelta from a minute to ten years
        splits in equal steps from ``start``. The first and the last window may be shorter.
    :param timezone: name of the time zone, such as ``"Europe/Berlin"``; by default ``"UTC"``.
    :param holdback: how late data may arrive, at most ten years; by default not at all. A window is left out until
        it has been over for that long, and a later run includes it whole.
    :param now: the current time, aware; by default the clock's.
    :raises InvalidInputError: a parameter is not allowed.
    """
    with translated_errors():
        first, last = parameters.time("start", start), parameters.time("end", end)
        present = datetime.now(fixed_timezone.utc) if now is None else parameters.time("now", now)
    if last < first:
        raise InvalidInputError(f"start {start!s} is after end {end!s}")
    if not isinstance(holdback, timedelta) or not timedelta(0) <= holdback <= _MAX_SPAN:
        raise InvalidInputError(
            f"holdback is {holdback!r}, but must be a timedelta of 0 or more and at most {_MAX_SPAN.days} days"
        )
    zone = _zone(timezone)
    before = _in_zone("start", first, zone)
    edges = _edges(before, last, every, zone)
    windows = []
    for edge in edges:
        if present - edge < holdback:
            break
        # The end may be in a later year than Python knows, but only where a window reaches it.
        after = _in_zone("end", edge, zone)
        windows.append({"data_start_time": before.isoformat(), "data_end_time": after.isoformat()})
        before = after
    return windows


def data_interval_of(
    context: Mapping[str, Any], *, fallback: timedelta | None = None
) -> tuple[datetime, datetime]:
    """Return start and end of the data interval of a task's run.

    On Airflow 3, a run that was triggered by an asset or by hand has none (its ``logical_date`` may be None). The
    interval of a plain cron schedule is empty; ``CronDataIntervalTimetable`` gives each run the time before it.

    :param context: the task's context.
    :param fallback: length of the interval for a run without one, at most ten years, which then ends when the run
        was due; by default None, so that such a run is an error.
    :raises InvalidInputError: the run has no interval, and no fallback is given; or the fallback is not allowed.
    """
    if fallback is not None and (not isinstance(fallback, timedelta) or not timedelta(0) < fallback <= _MAX_SPAN):
        raise InvalidInputError(
            f"fallback is {fallback!r}, but must be a timedelta above 0 and at most {_MAX_SPAN.days} days, or None"
        )
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is not None and end is not None and start < end:
        return start, end
    run: Any = context["dag_run"]
    if fallback is None:
        raise InvalidInputError(
            f"Run {run.run_id!r} has no data interval (logical_date is {context.get('logical_date')!s}): schedule "
            "the DAG with CronDataIntervalTimetable, or set fallback"
        )
    due: datetime = getattr(run, "run_after", None) or context["logical_date"]
    return due - fallback, due


def _edges(start: datetime, end: datetime, every: timedelta | str, zone: ZoneInfo) -> Iterator[datetime]:
    """Return the ends of the windows, in UTC, which has every hour exactly once."""
    if isinstance(every, timedelta):
        if not _MIN_STEP <= every <= _MAX_SPAN:
            raise InvalidInputError(
                f"every is {every!r}, but must be at least a minute and at most {_MAX_SPAN.days} days"
            )
        return _until(end, start, _steps(start.astimezone(fixed_timezone.utc), every))
    if every not in _CALENDAR:
        raise InvalidInputError(f"every is {every!r}, but must be a timedelta or one of {list(_CALENDAR)}")
    return _until(end, start, _midnights(start, zone, by_month=every == "month"))


def _until(end: datetime, start: datetime, edges: Iterator[datetime]) -> Iterator[datetime]:
    before, last = start, end.astimezone(fixed_timezone.utc)
    # Python knows no time after year 9999, and the range ends in it at the latest.
    with suppress(OverflowError):
        for edge in edges:
            if edge >= last:
                break
            # A zone that moved across the date line skipped a day.
            if edge > before:
                yield edge
                before = edge
    if last > start:
        yield last


def _steps(start: datetime, step: timedelta) -> Iterator[datetime]:
    while True:
        start += step
        yield start


def _midnights(start: datetime, zone: ZoneInfo, *, by_month: bool) -> Iterator[datetime]:
    day = start.date()
    while True:
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1) if by_month else day + timedelta(days=1)
        yield datetime.combine(day, time(), tzinfo=zone).astimezone(fixed_timezone.utc)


def _in_zone(name: str, value: datetime, zone: ZoneInfo) -> datetime:
    try:
        return value.astimezone(zone)
    except OverflowError:
        raise InvalidInputError(f"{name} is {value!s}, but must be from year 1 to year 9999 in {zone}") from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise InvalidInputError(
            f"timezone is {name!r}, but must be the name of a time zone, such as 'Europe/Berlin'"
        ) from None
