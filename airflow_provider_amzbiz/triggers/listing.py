"""Finding finished reports in the listing: which parts of it to read, and what it tells about which wait.

A page of getReports has 100 reports and costs one of about 0.1 calls a second. So only those stretches of time are
listed in which waits' reports were created, and old waits do not make the listing of new ones longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_amzbiz.client.models import TERMINAL
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.base import run_in_thread
from airflow_provider_amzbiz.triggers.permits import acquire_permits
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.models import Report
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)

# Reports on one page (spec, getReports).
_PAGE_SIZE = 100
# Types that one listing can be asked for (spec, getReports).
_MAX_TYPES = 10
# Waits whose reports were created further apart than this are listed apart: a call costs as much as the page of
# 100 reports that the limit of createReport lets one account create in this time.
_GAP = timedelta(minutes=15)
# Listings may cut fractions of seconds.
_SLACK = timedelta(seconds=1)
# How far this machine's clock and the API's may differ.
CLOCKS_APART = timedelta(minutes=15)
# Seconds after which a type whose listing was refused is listed again.
_UNLISTED_SECONDS = 900.0


class Created(NamedTuple):
    """When a report was created, by the API's clock: at or after ``since``, at or before ``until``."""

    since: datetime
    until: datetime

    @classmethod
    def at(cls, moment: datetime) -> Created:
        """Of a report whose creation time is known."""
        return cls(moment, moment)

    @classmethod
    def around(cls, since: float, until: float) -> Created:
        """Of a report that was asked for between two Unix times of this machine's clock."""
        earliest, latest = (datetime.fromtimestamp(each, timezone.utc) for each in (since, until))
        return cls(earliest - CLOCKS_APART, latest + CLOCKS_APART)


@dataclass
class Stretch:
    """A stretch of time to list, and the waits whose reports were created in it."""

    created: Created
    waits: list[Subscription]

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.created.until - self.created.since).total_seconds()


def stretches(waits: Iterable[Subscription]) -> list[Stretch]:
    """Group waits whose creation time is known by that time, newest first."""
    known = [(wait.created, wait) for wait in waits if wait.created]
    found: list[Stretch] = []
    for created, wait in sorted(known, key=lambda pair: pair[0]):
        if found and created.since - found[-1].created.until <= _GAP:
            last = found[-1]
            last.created = Created(last.created.since, max(last.created.until, created.until))
            last.waits.append(wait)
        else:
            found.append(Stretch(created, [wait]))
    return found[::-1]


class Listing:
    """Reads the listing for the waits of one account, and remembers what it has learned about it."""

    def __init__(self) -> None:
        # Types that cannot be listed, and until when that is believed.
        self._unlisted: dict[str, float] = {}
        # Finished reports a second, whoever created them.
        self._density = 0.0
        # Creation time up to which an interrupted listing was read, from the newest on.
        self._read_down_to: datetime | None = None

    def can_list(self, wait: Subscription) -> bool:
        """Tell whether a wait's report can be found in the listing."""
        if wait.created is None or wait.report_type is None:
            return False
        return self._unlisted.get(wait.report_type, 0.0) <= time.monotonic()

    def expected_pages(self, stretch: Stretch) -> float:
        """Return how many pages a stretch has, by what was seen last."""
        reports = max(len(stretch.waits), stretch.seconds * self._density)
        return max(reports / _PAGE_SIZE, 1.0)

    async def read(self, hook: AmazonBusinessHook, waits: Sequence[Subscription]) -> None:
        """Notify the waits whose reports are listed with a terminal status.

        :raises AmazonBusinessError: a page could not be read; the reports on those before it were notified.
        """
        # An interrupted listing continues where it was: from the newest on again, it might never reach the oldest.
        mark, self._read_down_to = self._read_down_to, None
        older = {wait for wait in waits if mark and wait.created and wait.created.since <= mark}
        for stretch in stretches(older):
            if mark:
                stretch.created = stretch.created._replace(until=min(stretch.created.until, mark))
            await self._read_stretch(hook, stretch)
        for stretch in stretches(wait for wait in waits if wait not in older):
            await self._read_stretch(hook, stretch)
        self._read_down_to = None

    async def _read_stretch(self, hook: AmazonBusinessHook, stretch: Stretch) -> None:
        types = sorted({wait.report_type or "" for wait in stretch.waits})
        for start in range(0, len(types), _MAX_TYPES):
            await self._read_types(hook, types[start : start + _MAX_TYPES], stretch)
        self._read_down_to = stretch.created.since

    async def _read_types(self, hook: AmazonBusinessHook, types: list[str], stretch: Stretch) -> None:
        try:
            await self._read_pages(hook, types, stretch)
        except _FirstPageRefused as refused:
            if len(types) > 1:
                # One of them is to blame, and the others can be listed.
                for each in types:
                    await self._read_types(hook, [each], stretch)
                return
            log.warning("Reports of type %s cannot be listed: %s", types[0], refused.error)
            self._unlisted[types[0]] = time.monotonic() + _UNLISTED_SECONDS

    async def _read_pages(self, hook: AmazonBusinessHook, types: list[str], stretch: Stretch) -> None:
        by_id: dict[str, list[Subscription]] = {}
        for wait in stretch.waits:
            if not wait.finished and wait.report_type in types:
                by_id.setdefault(wait.report_id, []).append(wait)
        arguments, first, seen = _filters(types, stretch), True, 0
        while by_id:
            try:
                reports, next_token = await _page(hook, arguments)
            except AmazonBusinessError as error:
                if first and error.status == HTTPStatus.BAD_REQUEST and classify(error) is PollFailure.REQUEST:
                    raise _FirstPageRefused(error) from None
                raise
            first, seen = False, seen + len(reports)
            for report in reports:
                for wait in by_id.pop(report.report_id, ()):
                    wait.notify(report)
            if reports:
                oldest = reports[-1].created_time
                self._density = seen / max((stretch.created.until - oldest).total_seconds(), 1.0)
                self._read_down_to = oldest
            if next_token is None:
                break
            arguments = {"next_token": next_token}


class _FirstPageRefused(Exception):  # noqa: N818
    """The listing's filters are refused, so that one of the types cannot be listed."""

    def __init__(self, error: AmazonBusinessError) -> None:
        super().__init__()
        self.error = error


def _filters(types: list[str], stretch: Stretch) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "report_types": types,
        "processing_statuses": sorted(TERMINAL),
        "page_size": _PAGE_SIZE,
        "created_since": stretch.created.since - _SLACK,
    }
    if stretch.created.until + CLOCKS_APART < datetime.now(timezone.utc):
        filters["created_until"] = stretch.created.until + _SLACK
    return filters


async def _page(hook: AmazonBusinessHook, arguments: dict[str, Any]) -> tuple[list[Report], str | None]:
    await acquire_permits(hook, "getReports")
    return await run_in_thread(partial(hook.get_reports_page, **arguments))
