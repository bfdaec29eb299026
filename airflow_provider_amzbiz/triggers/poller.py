"""One poll for all waits of an account: how a triggerer waits for thousands of reports.

The limits allow about one getReports (a page of 100) in ten seconds, and two getReport a second. So a handful of
waits is polled one by one. Of many, those are found through the listing for which that takes less of the limits;
what the listing does not show, or not yet, is found by polling some of them one by one in turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, ReportNotFoundError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.base import of_running_loop, run_in_thread
from airflow_provider_amzbiz.triggers.connections import shared_hook, wait_for_hook
from airflow_provider_amzbiz.triggers.listing import Listing, stretches
from airflow_provider_amzbiz.triggers.permits import acquire_permits
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify, may_be_outdated
from airflow_provider_amzbiz.triggers.subscriptions import (
    LONGEST_PAUSE,
    PolledConnection,
    PollRound,
    Subscription,
    pause,
)

log = logging.getLogger(__name__)

# Waits up to which each is polled by itself.
FEW = 20
# Of the waits that are listed, the share that is polled by itself as well in each round, and its bounds.
_CHECKED_SHARE = 50
_CHECKED_MIN, _CHECKED_MAX = 2, 15
# Calls of getReport under way at once for an account: what its limit allows where each takes four seconds, and
# more for waits whose deadlines are reached.
_AT_ONCE = 8
_AT_ONCE_AT_DEADLINES = 16
# Seconds in which waits whose deadlines are reached are polled together.
_GATHER_SECONDS = 0.2
# Reports of which it is remembered when they were polled last.
_REMEMBERED = 50_000


class ReportPoller:
    """Polls all reports that are waited for with one account in one event loop.

    It begins with the first wait and ends with the last one. An error that may pass delays the next poll; one
    about a report ends the waits for that report; credentials that are refused end the waits of their connection,
    once it has been read again.
    """

    def __init__(self) -> None:
        self._connections: dict[str, PolledConnection] = {}
        self._task: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()
        self._listing = Listing()
        self._listing_task: asyncio.Task[None] | None = None
        self._listing_failures = 0
        self._listing_not_before = 0.0
        self._deadlines: dict[Subscription, asyncio.Future[None]] = {}
        self._gathering: list[Subscription] = []
        self._deadline_tasks: set[asyncio.Task[None]] = set()
        # By report and not by wait: the trigger of a batch makes new waits for the same reports every few minutes.
        self._polled: OrderedDict[str, float] = OrderedDict()

    @property
    def waits(self) -> int:
        """How many waits there are."""
        return sum(len(connection.waits) for connection in self._connections.values())

    def use(self, hook: AmazonBusinessHook) -> None:
        """Take what a connection says now."""
        self._connections.setdefault(hook.amazon_business_conn_id, PolledConnection()).hook = hook

    def join(self, wait: Subscription) -> None:
        """Add a wait; :meth:`use` was called with its connection."""
        wait.due = time.monotonic() + wait.poke_interval
        self._connections[wait.amazon_business_conn_id].waits.add(wait)
        self._joined.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="amazon-business-poller")

    def leave(self, wait: Subscription) -> None:
        """Take a wait out; with the last one everything stops."""
        self._connections[wait.amazon_business_conn_id].waits.discard(wait)
        self._deadlines.pop(wait, None)
        if not self.waits:
            for task in (self._task, self._listing_task, *self._deadline_tasks):
                if task:
                    task.cancel()
            self._task = self._listing_task = None
            self._deadline_tasks.clear()
            self._gathering.clear()

    async def poll_once_more(self, wait: Subscription) -> None:
        """Poll a wait whose deadline is reached, together with all others of the same moment."""
        polled = self._deadlines[wait] = asyncio.get_running_loop().create_future()
        self._gathering.append(wait)
        if len(self._gathering) == 1:
            task = asyncio.create_task(self._poll_deadlines())
            self._deadline_tasks.add(task)
            task.add_done_callback(self._deadline_tasks.discard)
        await polled

    async def _run(self) -> None:
        while True:
            self._joined.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._joined.wait(), self._seconds_to_next())
            try:
                await self._round()
            except Exception as error:
                # A fault of this code must end nobody's wait; it is polled again later.
                log.exception("Polling the reports failed")
                for connection in self._connections.values():
                    connection.failed(AmazonBusinessError(f"The poll failed: {type(error).__name__}: {error}"))

    def _seconds_to_next(self) -> float | None:
        """Return the seconds until the next poll, None while everybody is just about to leave."""
        times = [
            max(wait.due, connection.not_before)
            for connection in self._connections.values()
            for wait in connection.waits
            if not wait.finished
        ]
        return min(times) - time.monotonic() if times else None

    async def _round(self) -> None:
        now = time.monotonic()
        waiting = [
            wait
            for connection in self._connections.values()
            if connection.not_before <= now
            for wait in connection.waits
            if not wait.finished
        ]
        first = min((wait.due for wait in waiting), default=now + 1)
        if first > now:
            return
        metrics.poll_lag(now - first)
        # Those who are due soon come along, so that waits that began one by one are polled together.
        due = [wait for wait in waiting if wait.due <= now + wait.poke_interval / 2]
        await self._poll(due)
        later = time.monotonic()
        for wait in due:
            grown = wait.poke_interval * 2 ** min(wait.failures, 10)
            wait.due = later + min(grown, max(LONGEST_PAUSE, wait.poke_interval))

    async def _poll(self, due: list[Subscription]) -> None:
        outcome = PollRound()
        await self._read_connections(due, outcome)
        ready = [wait for wait in due if self._hook_of(wait)]
        if len(ready) <= FEW:
            await self._poll_each(ready, outcome)
        else:
            await self._poll_many(ready, outcome)
        outcome.settle()

    async def _read_connections(self, due: Iterable[Subscription], outcome: PollRound) -> None:
        for conn_id in {wait.amazon_business_conn_id for wait in due}:
            connection = self._connections[conn_id]
            if connection.hook is None:
                try:
                    connection.hook = await shared_hook(conn_id)
                except AmazonBusinessError as error:
                    outcome.failed(connection, error)

    def _hook_of(self, wait: Subscription) -> AmazonBusinessHook | None:
        return self._connections[wait.amazon_business_conn_id].hook

    async def _poll_many(self, ready: list[Subscription], outcome: PollRound) -> None:
        hook, listable = self._listable(ready)
        single, page = (1 / hook.token_bucket(operation).rate for operation in ("getReport", "getReports"))
        listed: list[Subscription] = []
        for stretch in stretches(listable):
            if len(stretch.waits) * single > self._listing.expected_pages(stretch) * page:
                listed += stretch.waits
        share = min(max(len(listed) // _CHECKED_SHARE, _CHECKED_MIN), _CHECKED_MAX)
        capacity = max(FEW, int(min(wait.poke_interval for wait in ready) / single))
        if listed and not self._list(hook, listed):
            # The listing is throttled or fails, and what getReport allows is all there is.
            share = capacity
        by_itself = set(ready) - set(listed)
        checked = self._longest_unpolled(listed)[:share] + self._longest_unpolled(by_itself)[:capacity]
        await self._poll_each(checked, outcome)

    def _listable(self, waits: list[Subscription]) -> tuple[AmazonBusinessHook, list[Subscription]]:
        """Return waits that one listing can show, and a hook to read it with."""
        hooks = {wait: hook for wait in waits if (hook := self._hook_of(wait))}
        hook = next(iter(hooks.values()))
        # A connection that was edited may belong to another account since.
        same = [wait for wait in hooks if hooks[wait].config.identity == hook.config.identity]
        return hook, [wait for wait in same if self._listing.can_list(wait)]

    def _list(self, hook: AmazonBusinessHook, waits: Sequence[Subscription]) -> bool:
        """Read the listing beside the polls, and tell whether it can be relied upon."""
        running = self._listing_task is not None and not self._listing_task.done()
        if not running and time.monotonic() >= self._listing_not_before:
            self._listing_task = asyncio.create_task(self._read_listing(hook, waits))
        return self._listing_failures == 0

    async def _read_listing(self, hook: AmazonBusinessHook, waits: Sequence[Subscription]) -> None:
        try:
            await self._listing.read(hook, waits)
        except Exception as error:
            self._listing_failures += 1
            shortest = min(wait.poke_interval for wait in waits)
            self._listing_not_before = time.monotonic() + pause(shortest, self._listing_failures)
            if not isinstance(error, AmazonBusinessError):
                log.exception("Reading the listing failed")
                return
            log.warning("The reports cannot be listed for the moment, so they are polled one by one: %s", error)
            if classify(error) is PollFailure.CREDENTIALS:
                self._connections[hook.amazon_business_conn_id].refuse(hook, error)
        else:
            self._listing_failures = 0

    async def _poll_each(
        self, waits: Iterable[Subscription], outcome: PollRound, *, at_once: int = _AT_ONCE
    ) -> None:
        """Poll some reports, the longest unpolled first; one that cannot be polled is nobody else's trouble."""
        limit = asyncio.Semaphore(at_once)

        async def one(wait: Subscription) -> None:
            async with limit:
                connection = self._connections[wait.amazon_business_conn_id]
                hook = connection.hook
                if (
                    hook is None
                    or wait.finished
                    or wait not in connection.waits
                    or outcome.is_finished(connection)
                ):
                    return
                news = await _get_report(hook, wait.report_id)
                self._remember(wait.report_id)
                if isinstance(news, Report):
                    outcome.worked(connection)
                    wait.failures, wait.missed = 0, False
                    wait.notify(news)
                else:
                    _failed(connection, hook, wait, news, outcome)
                self._polled_at_deadline(wait)

        await asyncio.gather(*[one(wait) for wait in self._longest_unpolled(waits)])

    def _remember(self, report_id: str) -> None:
        self._polled[report_id] = time.monotonic()
        self._polled.move_to_end(report_id)
        if len(self._polled) > _REMEMBERED:
            self._polled.popitem(last=False)

    async def _poll_deadlines(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        waits, self._gathering = self._gathering, []
        try:
            outcome = PollRound()
            await self._read_connections(waits, outcome)
            ready = [wait for wait in waits if wait in self._deadlines and self._hook_of(wait)]
            polls = [self._poll_each(ready, outcome, at_once=_AT_ONCE_AT_DEADLINES)]
            if len(ready) > FEW:
                polls.append(self._list_deadlines(ready))
            for failed in await asyncio.gather(*polls, return_exceptions=True):
                if isinstance(failed, Exception):
                    log.warning("Polling at the deadline failed: %s", failed)
            outcome.settle()
        finally:
            for wait in waits:
                self._polled_at_deadline(wait)

    async def _list_deadlines(self, ready: list[Subscription]) -> None:
        hook, listable = self._listable(ready)
        # Not by the listing that is being read: it may have passed a report before that ended.
        await Listing().read(hook, listable)
        for wait in listable:
            self._polled_at_deadline(wait)

    def _polled_at_deadline(self, wait: Subscription) -> None:
        polled = self._deadlines.pop(wait, None)
        if polled is not None and not polled.done():
            polled.set_result(None)

    def _longest_unpolled(self, waits: Iterable[Subscription]) -> list[Subscription]:
        return sorted(waits, key=lambda wait: self._polled.get(wait.report_id, 0.0))


async def _get_report(hook: AmazonBusinessHook, report_id: str) -> Report | AmazonBusinessError:
    await acquire_permits(hook, "getReport")
    try:
        return await run_in_thread(hook.get_report, report_id)
    except AmazonBusinessError as error:
        return error
    except Exception as error:
        log.exception("Polling report %s failed", report_id)
        return AmazonBusinessError(f"Polling report {report_id} failed: {type(error).__name__}")


def _failed(
    connection: PolledConnection,
    hook: AmazonBusinessHook,
    wait: Subscription,
    error: AmazonBusinessError,
    outcome: PollRound,
) -> None:
    """Sort a failed poll of one report."""
    failure = classify(error)
    if failure is PollFailure.CREDENTIALS:
        outcome.refused(connection, hook, error)
        return
    if may_be_outdated(error):
        outcome.outdated(connection, hook)
    if failure is PollFailure.TRANSIENT:
        outcome.failed(connection, error, wait)
        return
    if isinstance(error, ReportNotFoundError) and time.time() < wait.not_found_grace_until:
        outcome.worked(connection)
    elif (failure is PollFailure.DENIED or isinstance(error, ReportNotFoundError)) and not wait.missed:
        # As with refused credentials: only what is refused again after the connection was read again is final.
        wait.missed = True
        wait.notify(AmazonBusinessError(str(error)))
    else:
        outcome.worked(connection)
        wait.notify(error, last=True)


class _Pollers:
    """The pollers of one event loop, by account."""

    def __init__(self) -> None:
        self._by_account: dict[tuple[str, str, str], ReportPoller] = {}

    async def get(self, amazon_business_conn_id: str, until: float) -> ReportPoller:
        hook = await wait_for_hook(amazon_business_conn_id, until)
        poller = self._by_account.setdefault(hook.config.identity, ReportPoller())
        poller.use(hook)
        return poller


_pollers: dict[asyncio.AbstractEventLoop, _Pollers] = {}


async def poller(amazon_business_conn_id: str, until: float) -> ReportPoller:
    """Return the running loop's one poller of the connection's account.

    :param until: Unix time up to which a connection that cannot be read is waited for.
    """
    return await of_running_loop(_pollers, _Pollers).get(amazon_business_conn_id, until)
