"""The connections through which an account is polled, and when each may be polled next."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.connections import forget, shared_hook

if TYPE_CHECKING:
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.triggers.poll_round import PollRound
    from airflow_provider_amzbiz.triggers.subscriptions import Subscription

# Maximum seconds between polls while they fail, unless the poke_interval is longer.
LONGEST_PAUSE = 300.0


@dataclass(eq=False)
class PolledConnection:
    """A connection of the account, and the subscriptions of the triggers that use it.

    :ivar hook: None if the connection must be read again.
    :ivar rejected: the hook whose credentials were rejected, if no poll has worked since.
    :ivar failures: rounds that failed since the last poll that worked.
    :ivar not_before: when the next poll may come, in monotonic seconds.
    """

    hook: AmazonBusinessHook | None = None
    rejected: AmazonBusinessHook | None = None
    failures: int = 0
    not_before: float = 0.0
    subscriptions: set[Subscription] = field(default_factory=set)

    def notify(self, error: AmazonBusinessError, *, last: bool = False) -> None:
        """Pass an error on to all subscriptions; see :meth:`.Subscription.notify`."""
        for subscription in list(self.subscriptions):
            subscription.notify(error, last=last)

    def read_again(self) -> None:
        """Let the next poll read the connection, which may have been corrected since it was read."""
        if self.hook is not None:
            forget(self.hook)
            self.hook = None

    def failed(self, error: AmazonBusinessError) -> None:
        """Delay the next poll, longer after each failure."""
        self.failures += 1
        shortest = min((each.poke_interval for each in self.subscriptions), default=0.0)
        self.not_before = time.monotonic() + pause(shortest, self.failures)
        if self.failures == 1 or self.failures % 10 == 0:
            self.notify(AmazonBusinessError(str(error)))

    def reject(self, hook: AmazonBusinessHook, error: AmazonBusinessError) -> None:
        """Handle rejected credentials: they end the waits only if the connection was read again meanwhile."""
        if self.rejected is not None and self.rejected is not hook:
            self.notify(error, last=True)
        self.rejected = hook
        self.read_again()
        self.failed(error)

    def worked(self) -> None:
        """Reset the counters after a response."""
        self.failures, self.rejected, self.not_before = 0, None, 0.0


class PolledConnections:
    """The connections of one account, by their ids."""

    def __init__(self) -> None:
        self._by_id: dict[str, PolledConnection] = {}

    def __iter__(self) -> Iterator[PolledConnection]:
        return iter(self._by_id.values())

    def of(self, subscription: Subscription) -> PolledConnection:
        """Return the connection of a subscription; :meth:`use` was called with it."""
        return self._by_id[subscription.amazon_business_conn_id]

    def hook_of(self, subscription: Subscription) -> AmazonBusinessHook | None:
        """Return the hook of a subscription's connection, None if the connection must be read again."""
        return self.of(subscription).hook

    def by_hook(self, hook: AmazonBusinessHook) -> PolledConnection:
        """Return the connection that a hook was made from."""
        return self._by_id[hook.amazon_business_conn_id]

    def use(self, hook: AmazonBusinessHook) -> None:
        """Poll through this hook, whose connection was just read."""
        self._by_id.setdefault(hook.amazon_business_conn_id, PolledConnection()).hook = hook

    async def read(self, subscriptions: Iterable[Subscription], outcome: PollRound) -> None:
        """Read the connections that must be read again."""
        for conn_id in {each.amazon_business_conn_id for each in subscriptions}:
            connection = self._by_id[conn_id]
            if connection.hook is None:
                try:
                    connection.hook = await shared_hook(conn_id)
                except AmazonBusinessError as error:
                    outcome.failed(connection, error)


def pause(shortest: float, failures: int) -> float:
    """Return the seconds until the next poll after this many failures in a row."""
    grown = min(shortest * 2.0 ** min(failures, 10), max(LONGEST_PAUSE, shortest))
    # Triggerers that were throttled together should not retry together.
    return grown * random.uniform(0.5, 1.0)  # noqa: S311
