"""One look at the API for all waits of an account: how a triggerer waits for thousands of reports.

The limits allow about one getReports (a page of 100) in ten seconds, and two getReport a second. So a handful of
waits is looked at one by one. Many are looked at through the listing, filtered by their types, by the time since
the oldest of them and by the statuses that end a wait; what the listing may not show, or not yet, is found by
looking at some of them one by one in turn.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.client.models import TERMINAL, Report
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    ConnectionNotFoundError,
    ReportNotFoundError,
    ThrottledError,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.permits import permits, readable_hook
from airflow_provider_amzbiz.triggers.running import in_thread

log = logging.getLogger(__name__)

# Waits up to which each is looked at by itself.
FEW = 20
# Of many waits, the share that is looked at by itself in each round, and its bounds.
_CHECKED_SHARE = 50
_CHECKED_LEAST, _CHECKED_MOST = 2, 15
# Types that one listing can be asked for (spec, getReports).
_TYPES = 10
# Before the creation time of the oldest wait, for a listing that cuts fractions of seconds.
_SLACK = timedelta(seconds=1)
# Looks that fail one after the other, after which the fault is taken for the API's, and not for that of a report.
_MISSES = 3
# Seconds that the pause between looks grows to while they fail.
LONGEST_PAUSE = 300.0
# HTTP statuses by which the API refuses whoever asks.
_REFUSALS = (401, 403)
# Seconds for which what a connection said is relied upon.
_CONNECTION_SECONDS = 60.0


@dataclass(eq=False)
class Wait:
    """One trigger's interest in one report.

    :ivar report_type: and ``created_time``, where they are known; without them the report is looked at by itself.
    :ivar young_until: Unix time until which "no such report" may mean "not yet".
    :ivar told: called with the report at each change of its status that is seen, or with an error, which ends the
        wait where :attr:`over` says so.
    """

    report_id: str
    poke_interval: float
    young_until: float
    report_type: str | None = None
    created_time: datetime | None = None
    told: Callable[[Report | AmazonBusinessError], None] = lambda _: None
    status: str | None = None
    due: float = 0.0
    checked: float = 0.0
    failures: int = 0
    over: bool = False

    def tell(self, news: Report | AmazonBusinessError, *, last: bool = False) -> None:
        """Hand news over, if it is any: what ends the wait once, and nothing after it.

        :param last: whether an error ends the wait; a terminal status always does.
        """
        if self.over:
            return
        if isinstance(news, Report):
            self.report_type, self.created_time = news.report_type, news.created_time
            if news.processing_status == self.status:
                return
            self.status = news.processing_status
        self.over = last or (isinstance(news, Report) and news.is_terminal)
        self.told(news)


class ReportPoller:
    """Looks at all reports that are waited for with one account in one event loop.

    It begins with the first wait and ends with the last one. An error that may pass delays the next look; one that
    does not ends the waits it concerns.
    """

    def __init__(self, hook: AmazonBusinessHook) -> None:
        self._hook = hook
        self._waits: set[Wait] = set()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._joined = asyncio.Event()
        # Types that the listing refuses.
        self._unlisted: set[str] = set()
        # Listings in a row that failed.
        self._unread = 0

    @property
    def waits(self) -> int:
        """How many waits there are."""
        return len(self._waits)

    def join(self, wait: Wait) -> None:
        """Add a wait."""
        wait.due = time.monotonic() + wait.poke_interval
        self._waits.add(wait)
        self._joined.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="amazon-business-poller")

    def leave(self, wait: Wait) -> None:
        """Take a wait out; with the last one everything stops."""
        self._waits.discard(wait)
        if not self._waits and self._task:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        try:
            while True:
                self._joined.clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._joined.wait(), self._pause())
                await self._round()
        except Exception as error:
            # A fault of this code must not leave anybody waiting for ever.
            log.exception("The look at the reports failed")
            self._tell_all(AmazonBusinessError(f"The wait broke off: {type(error).__name__}: {error}"))

    def _pause(self) -> float | None:
        """Return the seconds until the next look, None while everybody is just about to leave."""
        times = [wait.due for wait in self._waits if not wait.over]
        return max(min(times), self._not_before) - time.monotonic() if times else None

    async def _round(self) -> None:
        now = time.monotonic()
        waiting = [wait for wait in self._waits if not wait.over]
        first = min((wait.due for wait in waiting), default=now + 1)
        if first > now or now < self._not_before:
            return
        metrics.poll_lag(now - first)
        # Those who are due soon come along, so that waits that began one by one are looked at together.
        due = [wait for wait in waiting if wait.due <= now + wait.poke_interval / 2]
        try:
            await self._look(due)
        except (AuthenticationError, AccessDeniedError) as error:
            self._read_anew()
            if self._failures:
                self._tell_all(error)
            else:
                self._failed(error)
        except ConnectionNotFoundError as error:
            # Airflow says so also while its database or secrets backend is out of reach.
            self._failed(error)
        except AmazonBusinessPermanentError as error:
            self._tell_all(error)
        except AmazonBusinessError as error:
            if error.status in _REFUSALS:
                self._read_anew()
            self._failed(error)
        else:
            self._failures = 0
        later = time.monotonic()
        for wait in due:
            grown = wait.poke_interval * 2 ** min(wait.failures, 10)
            wait.due = later + min(grown, max(LONGEST_PAUSE, wait.poke_interval))

    def _read_anew(self) -> None:
        """Have the next look read the connection, which may have been mended since it was read."""
        self._hook = AmazonBusinessHook(
            self._hook.amazon_business_conn_id, retry_for=0, max_throttle_wait=0, mask_access_tokens=False
        )

    async def _look(self, due: list[Wait]) -> None:
        if len(due) <= FEW:
            await self._look_at_each(sorted(due, key=_checked))
            return
        by_itself = [wait for wait in due if wait.created_time is None or wait.report_type in self._unlisted]
        listed = sorted(set(due) - set(by_itself), key=_created)
        # The oldest are not looked for in the listing, which one that takes for ever would make long.
        share = min(max(len(listed) // _CHECKED_SHARE, _CHECKED_LEAST), _CHECKED_MOST)
        oldest, others = listed[: share // 2], listed[share // 2 :]
        checked = sorted(others, key=_checked)[:share] + sorted(by_itself, key=_checked)[:FEW]
        await self._look_at_each(oldest + checked)
        types = sorted({wait.report_type or "" for wait in others})
        for start in range(0, len(types), _TYPES):
            some = types[start : start + _TYPES]
            await self._look_through(some, [wait for wait in others if wait.report_type in some])

    async def _look_through(self, types: list[str], waits: list[Wait]) -> None:
        """Look for ended reports in the listing, newest first, page by page."""
        by_id: dict[str, list[Wait]] = {}
        for wait in waits:
            if not wait.over:
                by_id.setdefault(wait.report_id, []).append(wait)
        if not by_id:
            return
        filters: dict[str, Any] = {
            "report_types": types,
            "processing_statuses": sorted(TERMINAL),
            "created_since": min(_created(wait) for each in by_id.values() for wait in each) - _SLACK,
        }
        next_token = None
        while True:
            try:
                reports, next_token = await self._page(next_token, filters)
            except (AuthenticationError, AccessDeniedError, ConnectionNotFoundError, ThrottledError):
                raise
            except AmazonBusinessError as error:
                self._unread += 1
                if not isinstance(error, AmazonBusinessPermanentError) and self._unread < _MISSES:
                    raise
                log.warning("These reports are looked at one by one, because they cannot be listed: %s", error)
                self._unlisted.update(types)
                return
            self._unread = 0
            for report in reports:
                for wait in by_id.pop(report.report_id, ()):
                    wait.tell(report)
            if next_token is None or not by_id:
                return

    async def _page(self, next_token: str | None, filters: dict[str, Any]) -> tuple[list[Report], str | None]:
        arguments = {"next_token": next_token} if next_token else filters
        await permits(self._hook, "getReports")

        def call() -> tuple[list[Report], str | None]:
            with translated_errors():
                return self._hook.client.get_reports_page(**arguments)

        return await in_thread(call)

    async def _look_at_each(self, waits: list[Wait]) -> None:
        """Look at some reports; one that cannot be looked at is put off, and is nobody else's trouble."""
        misses = 0
        for wait in waits:
            if wait.over or wait not in self._waits:
                continue
            try:
                await self._look_at(wait)
            except (AuthenticationError, AccessDeniedError, ConnectionNotFoundError, ThrottledError):
                raise
            except AmazonBusinessPermanentError as error:
                # The request for this one report is refused.
                wait.tell(error, last=True)
            except AmazonBusinessError as error:
                misses += 1
                wait.failures += 1
                if error.operation == "token" or misses == min(_MISSES, len(waits)):
                    raise
                if wait.failures == 1:
                    wait.tell(AmazonBusinessError(str(error)))
            else:
                misses = wait.failures = 0
            wait.checked = time.monotonic()

    async def _look_at(self, wait: Wait) -> None:
        await permits(self._hook, "getReport")
        try:
            wait.tell(await in_thread(self._hook.get_report, wait.report_id))
        except ReportNotFoundError as error:
            if time.time() >= wait.young_until:
                wait.tell(error, last=True)

    def _failed(self, error: AmazonBusinessError) -> None:
        self._failures += 1
        shortest = min((wait.poke_interval for wait in self._waits), default=0.0)
        grown = min(shortest * 2 ** min(self._failures, 10), max(LONGEST_PAUSE, shortest))
        # Several triggerers that were refused together should not come back together.
        self._not_before = time.monotonic() + grown * random.uniform(0.5, 1.0)  # noqa: S311
        if self._failures == 1 or self._failures % 10 == 0:
            for wait in self._waits:
                wait.tell(AmazonBusinessError(str(error)))

    def _tell_all(self, error: AmazonBusinessError) -> None:
        for wait in self._waits:
            wait.tell(error, last=True)


def _created(wait: Wait) -> datetime:
    return wait.created_time or datetime.now(timezone.utc)


def _checked(wait: Wait) -> float:
    return wait.checked


class _Pollers:
    """The pollers of one event loop, by account, and for a minute by connection, which saves reading that."""

    def __init__(self) -> None:
        self._by_account: dict[tuple[str, str, str], ReportPoller] = {}
        self._by_connection: dict[str, tuple[float, ReportPoller]] = {}

    async def get(self, amazon_business_conn_id: str, until: float) -> ReportPoller:
        read, found = self._by_connection.get(amazon_business_conn_id, (0.0, None))
        if found and found.waits and time.monotonic() < read + _CONNECTION_SECONDS:
            return found
        hook = await readable_hook(amazon_business_conn_id, until)
        identity = hook.client.account.identity
        known = self._by_account.get(identity)
        if known is None or not known.waits:
            known = self._by_account[identity] = ReportPoller(hook)
        self._by_connection[amazon_business_conn_id] = time.monotonic(), known
        return known


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pollers] = WeakKeyDictionary()


async def poller(amazon_business_conn_id: str, until: float) -> ReportPoller:
    """Return the running loop's one poller of the connection's account.

    :param until: Unix time up to which a connection that cannot be read is waited for.
    """
    return await _pollers.setdefault(asyncio.get_running_loop(), _Pollers()).get(amazon_business_conn_id, until)
