"""One poll for all waits of an account: how a triggerer waits for thousands of reports.

The limits allow about one getReports (a page of 100) every ten seconds, and two getReport per second. So a handful
of reports is polled one by one. Of many, those are found through the listing for which that uses fewer permits.
Reports that the listing does not show, or not yet, are found by polling a few of them one by one in each round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.background_listing import BackgroundListing
from airflow_provider_amzbiz.triggers.base import of_running_loop
from airflow_provider_amzbiz.triggers.connections import wait_for_hook
from airflow_provider_amzbiz.triggers.deadline_polls import FEW, DeadlinePolls
from airflow_provider_amzbiz.triggers.listing import spans
from airflow_provider_amzbiz.triggers.poll_round import PollRound
from airflow_provider_amzbiz.triggers.polled_connections import LONGEST_PAUSE, PolledConnections
from airflow_provider_amzbiz.triggers.single_polls import SinglePolls
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

if TYPE_CHECKING:
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

log = logging.getLogger(__name__)

# One in so many listed reports is polled by itself as well in each round, within these bounds.
_CHECKED_SHARE = 50
_CHECKED_MIN, _CHECKED_MAX = 2, 15


class ReportPoller:
    """Polls all reports that triggers wait for, for one account in one event loop.

    It starts with the first subscription and stops with the last one. A transient error delays the next poll. An
    error about a report ends the waits for that report. Rejected credentials end the waits of their connection,
    after the connection was read again.
    """

    def __init__(self) -> None:
        self._connections = PolledConnections()
        self._listing = BackgroundListing(self._connections)
        self._deadlines = DeadlinePolls(self._connections, self._listing)
        self._single_polls = SinglePolls(self._connections, on_polled=self._deadlines.polled)
        self._task: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()

    @property
    def waits(self) -> int:
        """How many subscriptions there are."""
        return sum(len(connection.subscriptions) for connection in self._connections)

    def use(self, hook: AmazonBusinessHook) -> None:
        """Poll through this hook, whose connection was just read."""
        self._connections.use(hook)

    def join(self, subscription: Subscription) -> None:
        """Add a subscription; :meth:`use` was called with its connection."""
        first = subscription.poke_interval if subscription.first_poll is None else subscription.first_poll
        subscription.due = time.monotonic() + first
        self._connections.of(subscription).subscriptions.add(subscription)
        self._joined.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="amazon-business-poller")

    def leave(self, subscription: Subscription) -> None:
        """Remove a subscription; with the last one everything stops."""
        self._connections.of(subscription).subscriptions.discard(subscription)
        self._deadlines.discard(subscription)
        if not self.waits:
            if self._task:
                self._task.cancel()
            self._task = None
            self._listing.stop()
            self._deadlines.stop()

    async def poll_once_more(self, subscription: Subscription) -> None:
        """Poll a report whose deadline is reached, together with all others of the same moment."""
        await self._deadlines.poll(subscription, self._single_polls)

    async def _run(self) -> None:
        while True:
            self._joined.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._joined.wait(), self._seconds_to_next())
            try:
                await self._round()
            except Exception as error:
                # A bug here must not end anybody's wait; the reports are polled again later.
                log.exception("Polling the reports failed")
                for connection in self._connections:
                    connection.failed(AmazonBusinessError(f"The poll failed: {type(error).__name__}: {error}"))

    def _seconds_to_next(self) -> float | None:
        """Return the seconds until the next poll, None while all subscriptions are about to leave."""
        times = [
            max(subscription.due, connection.not_before)
            for connection in self._connections
            for subscription in connection.subscriptions
            if not subscription.finished
        ]
        return min(times) - time.monotonic() if times else None

    async def _round(self) -> None:
        now = time.monotonic()
        waiting = [
            subscription
            for connection in self._connections
            if connection.not_before <= now
            for subscription in connection.subscriptions
            if not subscription.finished
        ]
        first = min((each.due for each in waiting), default=now + 1)
        if first > now:
            return
        metrics.poll_lag(now - first)
        # Those that are due soon come along, so that waits that began one by one are polled together.
        due = [each for each in waiting if each.due <= now + each.poke_interval / 2]
        await self._poll(due)
        later = time.monotonic()
        for subscription in due:
            grown = subscription.poke_interval * 2 ** min(subscription.failures, 10)
            subscription.due = later + min(grown, max(LONGEST_PAUSE, subscription.poke_interval))

    async def _poll(self, due: list[Subscription]) -> None:
        outcome = PollRound()
        await self._connections.read(due, outcome)
        ready = [each for each in due if self._connections.hook_of(each)]
        await self._single_polls.poll(ready if len(ready) <= FEW else self._list(ready), outcome)
        outcome.apply()

    def _list(self, ready: list[Subscription]) -> list[Subscription]:
        """Find what the listing shows in the background; return what must be polled by itself meanwhile."""
        hook, listable = self._listing.listable(ready)
        single, page = (1 / hook.token_bucket(each).rate for each in ("getReport", "getReports"))
        listed: list[Subscription] = []
        for span in spans(listable):
            if len(span.subscriptions) * single > self._listing.listing.expected_pages(span) * page:
                listed += span.subscriptions
        share = min(max(len(listed) // _CHECKED_SHARE, _CHECKED_MIN), _CHECKED_MAX)
        capacity = max(FEW, int(min(each.poke_interval for each in ready) / single))
        if listed and not self._listing.read(hook, listed):
            # The listing is throttled or fails, so the reports are polled as fast as getReport allows.
            share = capacity
        longest_unpolled = self._single_polls.longest_unpolled
        return longest_unpolled(listed)[:share] + longest_unpolled(set(ready) - set(listed))[:capacity]


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

    :param until: Unix time until which to wait for a connection that cannot be read.
    """
    return await of_running_loop(_pollers, _Pollers).get(amazon_business_conn_id, until)
