"""The waits of a triggerer, the connections they use, and what the polls of a round mean for them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, ThrottledError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.connections import forget
from airflow_provider_amzbiz.triggers.listing import Created

# Seconds that the pause between polls grows to while they fail.
LONGEST_PAUSE = 300.0
# Seconds between two polls at least: a poll that fails without a call would otherwise keep the event loop busy.
_SHORTEST_PAUSE = 0.05
# Polls of a round that fail before any has worked, after which the API is taken to be at fault, and not a report.
_MISSES = 3


@dataclass(eq=False)
class Subscription:
    """One trigger's interest in one report.

    :ivar not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    :ivar created: when the report was created, and ``report_type``, where they are known; without them the report
        is polled by itself.
    :ivar missed: whether the report was denied, or not found, at its last poll.
    :ivar on_update: called with the report at each change of its status, or with an error, which ends the wait
        where :attr:`finished` is set.
    """

    report_id: str
    amazon_business_conn_id: str
    poke_interval: float
    not_found_grace_until: float
    report_type: str | None = None
    created: Created | None = None
    on_update: Callable[[Report | AmazonBusinessError], None] = lambda _: None
    status: str | None = None
    due: float = 0.0
    failures: int = 0
    missed: bool = False
    finished: bool = False

    def __post_init__(self) -> None:
        self.poke_interval = max(self.poke_interval, _SHORTEST_PAUSE)

    def notify(self, news: Report | AmazonBusinessError, *, last: bool = False) -> None:
        """Hand news over, if it is any: what ends the wait once, and nothing after it.

        :param last: whether an error ends the wait; a terminal status always does.
        """
        if self.finished:
            return
        if isinstance(news, Report):
            self.report_type, self.created = news.report_type, Created.at(news.created_time)
            if news.processing_status == self.status:
                return
            self.status = news.processing_status
        self.finished = last or (isinstance(news, Report) and news.is_terminal)
        self.on_update(news)

    def failed(self, error: AmazonBusinessError) -> None:
        """Take note of a poll that failed for this report alone."""
        self.failures += 1
        if self.failures == 1:
            self.notify(AmazonBusinessError(str(error)))


@dataclass(eq=False)
class PolledConnection:
    """A connection of the account, for the waits that were given it.

    :ivar hook: None where the connection must be read again.
    :ivar refused: the hook whose credentials were refused, where none has worked since.
    """

    hook: AmazonBusinessHook | None = None
    refused: AmazonBusinessHook | None = None
    failures: int = 0
    not_before: float = 0.0
    waits: set[Subscription] = field(default_factory=set)

    def notify(self, error: AmazonBusinessError, *, last: bool = False) -> None:
        """Tell all waits of an error; see :meth:`Subscription.notify`."""
        for wait in list(self.waits):
            wait.notify(error, last=last)

    def read_again(self) -> None:
        """Have the next poll read the connection, which may have been corrected since it was read."""
        if self.hook is not None:
            forget(self.hook)
            self.hook = None

    def failed(self, error: AmazonBusinessError) -> None:
        """Put the next poll off, by longer each time."""
        self.failures += 1
        shortest = min((wait.poke_interval for wait in self.waits), default=0.0)
        self.not_before = time.monotonic() + pause(shortest, self.failures)
        if self.failures == 1 or self.failures % 10 == 0:
            self.notify(AmazonBusinessError(str(error)))

    def refuse(self, hook: AmazonBusinessHook, error: AmazonBusinessError) -> None:
        """Take note of refused credentials: of what was read again since the first refusal, they end the waits."""
        if self.refused is not None and self.refused is not hook:
            self.notify(error, last=True)
        self.refused = hook
        self.read_again()
        self.failed(error)

    def worked(self) -> None:
        """Take note of a response."""
        self.failures, self.refused, self.not_before = 0, None, 0.0


class PollRound:
    """What the polls of one round have come to, by connection: only what fails for all is the trouble of all."""

    def __init__(self) -> None:
        self._worked: set[PolledConnection] = set()
        self._failed: dict[PolledConnection, list[AmazonBusinessError]] = {}
        self._refused: dict[PolledConnection, tuple[AmazonBusinessHook, AmazonBusinessError]] = {}
        self._hurt: list[tuple[PolledConnection, Subscription, AmazonBusinessError]] = []
        self._outdated: dict[PolledConnection, AmazonBusinessHook] = {}

    def worked(self, connection: PolledConnection) -> None:
        self._worked.add(connection)

    def failed(
        self, connection: PolledConnection, error: AmazonBusinessError, wait: Subscription | None = None
    ) -> None:
        self._failed.setdefault(connection, []).append(error)
        if wait is not None:
            self._hurt.append((connection, wait, error))

    def refused(self, connection: PolledConnection, hook: AmazonBusinessHook, error: AmazonBusinessError) -> None:
        self._refused.setdefault(connection, (hook, error))

    def outdated(self, connection: PolledConnection, hook: AmazonBusinessHook) -> None:
        self._outdated[connection] = hook

    def is_finished(self, connection: PolledConnection) -> bool:
        """Tell whether a further poll with this connection is of no use in this round."""
        failed = self._failed.get(connection, [])
        if connection in self._refused or any(_concerns_all(error) for error in failed):
            return True
        return len(failed) >= _MISSES and connection not in self._worked

    def settle(self) -> None:
        """Draw the conclusions."""
        for connection, hook in self._outdated.items():
            # Not sooner: the other reports of this round are polled with the hook that there is.
            if connection.hook is hook:
                connection.read_again()
        for connection, (hook, error) in self._refused.items():
            connection.refuse(hook, error)
        for connection in self._worked - set(self._refused):
            connection.worked()
        for connection, errors in self._failed.items():
            if connection not in self._worked and connection not in self._refused:
                connection.failed(errors[-1])
        for connection, wait, error in self._hurt:
            if connection in self._worked and not isinstance(error, ThrottledError):
                wait.failed(error)


def _concerns_all(error: AmazonBusinessError) -> bool:
    return isinstance(error, ThrottledError) or error.operation == "token"


def pause(shortest: float, failures: int) -> float:
    """Return the seconds until the next poll after so many that failed in a row."""
    grown = min(shortest * 2.0 ** min(failures, 10), max(LONGEST_PAUSE, shortest))
    # Several triggerers that were throttled together should not come back together.
    return grown * random.uniform(0.5, 1.0)  # noqa: S311
