"""Finding finished reports in the listing: which parts of it to read, and which subscriptions to notify.

A page of getReports has 100 reports and uses one of about 0.1 permits per second. So only those spans of time are
listed in which the awaited reports were created: old subscriptions do not make the listing of new ones longer.
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

from airflow_provider_amzbiz.client.clock import CLOCK_PRECISION, MAX_CLOCK_DIFFERENCE
from airflow_provider_amzbiz.client.models import TERMINAL
from airflow_provider_amzbiz.client.page_tokens import PageTokens
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, translated_errors
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
# Maximum types per getReports call (spec, getReports).
_MAX_TYPES = 10
# Reports that were created further apart than this are listed with calls of their own: in this time the limit of
# createReport lets an account create 100 reports, a whole page.
_GAP = timedelta(minutes=15)
# Seconds after which a type whose listing was rejected is listed again.
_UNLISTED_SECONDS = 900.0


class Created(NamedTuple):
    """When a report was created, by the API's clock: at or after ``since``, at or before ``until``."""

    since: datetime
    until: datetime

    @classmethod
    def at(cls, moment: datetime) -> Created:
        """Return the span of a report whose creation time is known."""
        return cls(moment, moment)

    @classmethod
    def around(cls, since: float, until: float) -> Created:
        """Return the span of a report that was requested between two Unix times of this machine's clock."""
        earliest, latest = (datetime.fromtimestamp(each, timezone.utc) for each in (since, until))
        return cls(earliest - MAX_CLOCK_DIFFERENCE, latest + MAX_CLOCK_DIFFERENCE)


@dataclass
class Span:
    """A span of time to list, and the subscriptions whose reports were created in it."""

    created: Created
    subscriptions: list[Subscription]

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.created.until - self.created.since).total_seconds()


def spans(subscriptions: Iterable[Subscription]) -> list[Span]:
    """Group subscriptions by the creation time of their reports, newest first; leave out unknown times."""
    known = [(each.created, each) for each in subscriptions if each.created]
    found: list[Span] = []
    for created, subscription in sorted(known, key=lambda pair: pair[0]):
        if found and created.since - found[-1].created.until <= _GAP:
            last = found[-1]
            last.created = Created(last.created.since, max(last.created.until, created.until))
            last.subscriptions.append(subscription)
        else:
            found.append(Span(created, [subscription]))
    return found[::-1]


class Listing:
    """Reads the listing for the subscriptions of one account."""

    def __init__(self) -> None:
        # Types that cannot be listed, and until when (monotonic seconds).
        self._unlisted: dict[str, float] = {}
        # Finished reports per second, whoever created them.
        self._density = 0.0
        # Creation time down to which an interrupted listing was read; it starts with the newest.
        self._read_down_to: datetime | None = None

    def can_list(self, subscription: Subscription) -> bool:
        """Return whether the report can be found in the listing."""
        if subscription.created is None or subscription.report_type is None:
            return False
        return self._unlisted.get(subscription.report_type, 0.0) <= time.monotonic()

    def expected_pages(self, span: Span) -> float:
        """Return how many pages a span probably has, by the listing that was read last."""
        reports = max(len(span.subscriptions), span.seconds * self._density)
        return max(reports / _PAGE_SIZE, 1.0)

    async def read(self, hook: AmazonBusinessHook, subscriptions: Sequence[Subscription]) -> None:
        """Notify the subscriptions whose reports are listed with a terminal status.

        :raises AmazonBusinessError: a page could not be read; the reports on the pages before it were notified.
        """
        # An interrupted listing continues where it stopped; from the start, it might never reach the oldest ones.
        mark, self._read_down_to = self._read_down_to, None
        older = {each for each in subscriptions if mark and each.created and each.created.since <= mark}
        for span in spans(older):
            if mark:
                span.created = span.created._replace(until=min(span.created.until, mark))
            await self._read_span(hook, span)
        for span in spans(each for each in subscriptions if each not in older):
            await self._read_span(hook, span)
        self._read_down_to = None

    async def _read_span(self, hook: AmazonBusinessHook, span: Span) -> None:
        types = sorted({each.report_type or "" for each in span.subscriptions})
        for start in range(0, len(types), _MAX_TYPES):
            await self._read_types(hook, types[start : start + _MAX_TYPES], span)
        self._read_down_to = span.created.since

    async def _read_types(self, hook: AmazonBusinessHook, types: list[str], span: Span) -> None:
        try:
            await self._read_pages(hook, types, span)
        except _FirstPageRejected as rejected:
            if len(types) > 1:
                # One type caused it; the others can be listed.
                for each in types:
                    await self._read_types(hook, [each], span)
                return
            log.warning("Reports of type %s cannot be listed: %s", types[0], rejected.error)
            self._unlisted[types[0]] = time.monotonic() + _UNLISTED_SECONDS

    async def _read_pages(self, hook: AmazonBusinessHook, types: list[str], span: Span) -> None:
        by_id: dict[str, list[Subscription]] = {}
        for subscription in span.subscriptions:
            if not subscription.finished and subscription.report_type in types:
                by_id.setdefault(subscription.report_id, []).append(subscription)
        arguments, first, seen, tokens = _filters(types, span), True, 0, PageTokens()
        while by_id:
            try:
                reports, next_token = await _page(hook, arguments)
            except AmazonBusinessError as error:
                if first and error.status == HTTPStatus.BAD_REQUEST and classify(error) is PollFailure.REQUEST:
                    raise _FirstPageRejected(error) from None
                raise
            first, seen = False, seen + len(reports)
            for report in reports:
                for subscription in by_id.pop(report.report_id, ()):
                    subscription.notify(report)
            if reports:
                oldest = reports[-1].created_time
                self._density = seen / max((span.created.until - oldest).total_seconds(), 1.0)
                self._read_down_to = oldest
            if next_token is None:
                break
            with translated_errors():
                tokens.check(next_token)
            arguments = {"next_token": next_token}


class _FirstPageRejected(Exception):  # noqa: N818
    """The API rejected the listing's filters, so one of the types cannot be listed."""

    def __init__(self, error: AmazonBusinessError) -> None:
        super().__init__()
        self.error = error


def _filters(types: list[str], span: Span) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "report_types": types,
        "processing_statuses": sorted(TERMINAL),
        "page_size": _PAGE_SIZE,
        # Listings may cut fractions of seconds.
        "created_since": span.created.since - CLOCK_PRECISION,
    }
    if span.created.until + MAX_CLOCK_DIFFERENCE < datetime.now(timezone.utc):
        filters["created_until"] = span.created.until + CLOCK_PRECISION
    return filters


async def _page(hook: AmazonBusinessHook, arguments: dict[str, Any]) -> tuple[list[Report], str | None]:
    await acquire_permits(hook, "getReports")
    return await run_in_thread(partial(hook.get_reports_page, **arguments))
