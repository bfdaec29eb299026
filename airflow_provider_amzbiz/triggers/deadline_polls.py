"""The last poll of a wait whose deadline is reached."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.triggers.listing import Listing
from airflow_provider_amzbiz.triggers.poll_round import PollRound

if TYPE_CHECKING:
    from airflow_provider_amzbiz.triggers.background_listing import BackgroundListing
    from airflow_provider_amzbiz.triggers.polled_connections import PolledConnections
    from airflow_provider_amzbiz.triggers.single_polls import SinglePolls
    from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)

# Subscriptions up to which each report is polled by itself.
FEW = 20
# Concurrent getReport calls at a deadline, more than otherwise: the tasks have no time left.
_MAX_CONCURRENT = 16
# Seconds in which reports whose deadlines are reached are gathered and polled together.
_GATHER_SECONDS = 0.2


class DeadlinePolls:
    """Polls once more, together, the reports whose deadlines are reached at about the same time."""

    def __init__(self, connections: PolledConnections, listing: BackgroundListing) -> None:
        self._connections = connections
        self._listing = listing
        self._pending: dict[Subscription, asyncio.Future[None]] = {}
        self._gathered: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def poll(self, subscription: Subscription, single_polls: SinglePolls) -> None:
        """Return when the report was polled once more."""
        polled = self._pending[subscription] = asyncio.get_running_loop().create_future()
        self._gathered.append(subscription)
        if len(self._gathered) == 1:
            task = asyncio.create_task(self._poll_gathered(single_polls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await polled

    def polled(self, subscription: Subscription) -> None:
        """Let :meth:`poll` return for this subscription, if it waits."""
        polled = self._pending.pop(subscription, None)
        if polled is not None and not polled.done():
            polled.set_result(None)

    def discard(self, subscription: Subscription) -> None:
        """Do not poll for a subscription that has left."""
        self._pending.pop(subscription, None)

    def stop(self) -> None:
        """Stop polling."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._gathered.clear()

    async def _poll_gathered(self, single_polls: SinglePolls) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        subscriptions, self._gathered = self._gathered, []
        try:
            outcome = PollRound()
            await self._connections.read(subscriptions, outcome)
            ready = [each for each in subscriptions if each in self._pending and self._connections.hook_of(each)]
            polls = [single_polls.poll(ready, outcome, concurrent=_MAX_CONCURRENT)]
            if len(ready) > FEW:
                polls.append(self._list(ready))
            for failed in await asyncio.gather(*polls, return_exceptions=True):
                if isinstance(failed, Exception):
                    log.warning("Polling at the deadline failed: %s", failed)
            outcome.apply()
        finally:
            for subscription in subscriptions:
                self.polled(subscription)

    async def _list(self, ready: list[Subscription]) -> None:
        hook, listable = self._listing.listable(ready)
        # Not with the listing that is being read: it may have passed a report before the report ended.
        await Listing().read(hook, listable)
        for subscription in listable:
            self.polled(subscription)
