"""Reading the listing in the background, while reports are polled one by one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.listing import Listing
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify
from airflow_provider_amzbiz.triggers.polled_connections import pause

if TYPE_CHECKING:
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.triggers.polled_connections import PolledConnections
    from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)


class BackgroundListing:
    """Reads the listing of an account, one reading at a time, less often while readings fail."""

    def __init__(self, connections: PolledConnections) -> None:
        self.listing = Listing()
        self._connections = connections
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._not_before = 0.0

    def listable(self, subscriptions: Sequence[Subscription]) -> tuple[AmazonBusinessHook, list[Subscription]]:
        """Return the subscriptions whose reports one listing can show, and a hook to read it with."""
        hooks = {each: hook for each in subscriptions if (hook := self._connections.hook_of(each))}
        hook = next(iter(hooks.values()))
        # A connection that was edited may belong to another account now.
        same = [each for each in hooks if hooks[each].config.identity == hook.config.identity]
        return hook, [each for each in same if self.listing.can_list(each)]

    def read(self, hook: AmazonBusinessHook, subscriptions: Sequence[Subscription]) -> bool:
        """Start to read the listing, unless it is being read; return whether its last reading worked."""
        running = self._task is not None and not self._task.done()
        if not running and time.monotonic() >= self._not_before:
            self._task = asyncio.create_task(self._read(hook, subscriptions))
        return self._failures == 0

    def stop(self) -> None:
        """Stop reading."""
        if self._task:
            self._task.cancel()
        self._task = None

    async def _read(self, hook: AmazonBusinessHook, subscriptions: Sequence[Subscription]) -> None:
        try:
            await self.listing.read(hook, subscriptions)
        except Exception as error:
            self._failures += 1
            shortest = min(each.poke_interval for each in subscriptions)
            self._not_before = time.monotonic() + pause(shortest, self._failures)
            if not isinstance(error, AmazonBusinessError):
                log.exception("Reading the listing failed")
                return
            log.warning("The reports cannot be listed for the moment, so they are polled one by one: %s", error)
            if classify(error) is PollFailure.CREDENTIALS:
                self._connections.by_hook(hook).reject(hook, error)
        else:
            self._failures = 0
