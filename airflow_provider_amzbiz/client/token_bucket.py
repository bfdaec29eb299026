"""Who may call an operation next, as one process decides it; and the buckets that a process has."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.limit_state import MARGIN, LimitState, after_pause
from airflow_provider_amzbiz.client.store_address import StoreAddress
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.shared_bucket import SharedBucket

# Minimum seconds between two claims of a waiting ticket; a claim may find that the rate has risen.
_CLAIM_SECONDS = 1.0


class TokenBucket(LimitState):
    """Permits to call one operation for one account: ``burst`` at once, ``rate`` a second, first come, first
    served.

    A caller takes a ticket with :meth:`join` and repeats :meth:`claim` until that returns 0. The bucket itself
    never sleeps and never calls anything, so threads and event loops can share it.

    The parameters are those of :class:`.LimitState`.

    :cvar is_shared: whether other processes share the bucket; then most methods call a server, and must not run
        in an event loop.
    """

    is_shared = False

    def __init__(self, limit: Limit, *, fixed: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(limit, fixed=fixed, clock=clock)
        self._numbers = itertools.count(1)
        self._first: dict[int, int] = {}
        self._queue: dict[int, int] = {}

    @property
    def tokens(self) -> float:
        """The permits that are there now, which may be a fraction."""
        with self._lock:
            self._refill()
            return self._tokens

    @property
    def is_crowded(self) -> bool:
        """Whether there are signs that other processes use the limit, too."""
        return self._clock() < self._crowded_until

    @property
    def unshared(self) -> TokenBucket | None:
        """This bucket, which no other process shares."""
        return self

    def expect_others(self) -> None:
        """Believe in one permit at first and not in the whole burst, because other processes may have used it."""
        with self._lock:
            self._refill()
            if self._is_guess:
                self._is_guess = False
                self._tokens = min(self._tokens, 1 + MARGIN)
            self._crowded_until = float("inf")

    @property
    def waiting(self) -> int:
        """Tickets in the queue."""
        return len(self._first) + len(self._queue)

    def join(self, count: int = 1, *, first: bool = False, name: str | None = None) -> int:
        """Queue for permits that are given together, and return a ticket.

        :param count: 1 to the burst.
        :param first: go before the whole queue, except those that joined this way earlier: for a call that had its
            permits and was throttled all the same, so that it keeps its place.
        :param name: by which a limit store knows the caller, so that another process that takes over from this one
            gets the caller's place; a random one by default. Without a store it has no meaning.
        :raises ValueError: there are never so many permits at once.
        """
        check_count(count, self.burst)
        with self._lock:
            ticket = next(self._numbers)
            (self._first if first else self._queue)[ticket] = count
            return ticket

    def claim(self, ticket: int) -> float:
        """Return 0 if the ticket's permits are given, which ends it; else the seconds until that is expected.

        They change with the rate; see :meth:`pause`.
        """
        with self._lock:
            self._refill()
            ahead = count = 0
            for other, count in itertools.chain(self._first.items(), self._queue.items()):
                if other == ticket:
                    break
                ahead += count
            else:
                raise KeyError(ticket)
            # The burst may have become smaller since the ticket joined.
            needed = min(count + MARGIN, float(self.burst))
            paused = max(self._paused_until - self._filled, 0.0)
            if ahead == 0 and self._tokens >= needed and not paused:
                self._tokens -= count
                self._drop(ticket)
                return 0.0
            tokens = after_pause(self._tokens, paused, self._rate)
            return max(paused + (ahead + needed - tokens) / self._rate, 1e-3)

    def pause(self, seconds: float) -> float:
        """Return how long to sleep before the next :meth:`claim` of a ticket that is due in so many seconds."""
        return min(seconds, max(1 / self._rate, _CLAIM_SECONDS))

    def leave(self, ticket: int) -> None:
        """Give up a ticket; those behind it move up."""
        with self._lock:
            self._drop(ticket)

    def _drop(self, ticket: int) -> None:
        self._first.pop(ticket, None)
        self._queue.pop(ticket, None)

    def take_up_to(self, count: int) -> int:
        """Take up to so many permits that are there now, if nobody queues for them; return how many."""
        with self._lock:
            self._refill()
            busy = self._first or self._queue or self._paused_until > self._filled
            taken = 0 if busy else max(min(count, int(self._tokens - MARGIN)), 0)
            self._tokens -= taken
            return taken


AnyBucket: TypeAlias = "TokenBucket | SharedBucket"


def check_count(count: int, burst: int) -> None:
    """Check that so many permits can be there at once.

    :raises ValueError: they cannot.
    """
    if not 1 <= count <= burst:
        raise ValueError(f"count is {count!r}, but must be from 1 to the burst, {burst}")


class _Account:
    """One account's buckets in this process.

    :ivar stores: by source, what names the store of the shared limit, with the number of the setting.
    """

    def __init__(self) -> None:
        self.local = {operation: TokenBucket(limit) for operation, limit in USAGE_PLAN.items()}
        self.stores: dict[str, tuple[int, StoreAddress | None]] = {}
        self._shared: dict[StoreAddress, dict[str, SharedBucket]] = {}

    def shared(self, store: StoreAddress, config: ClientConfig) -> Mapping[str, AnyBucket]:
        from airflow_provider_amzbiz.client.limit_store import limit_store
        from airflow_provider_amzbiz.client.shared_bucket import SharedBucket

        if store not in self._shared:
            account = config.account_hash
            self._shared[store] = {
                operation: SharedBucket(bucket, limit_store(store), f"{account}:{operation}")
                for operation, bucket in self.local.items()
            }
        return self._shared[store]


_known: dict[tuple[str, str, str], _Account] = {}
_known_lock = threading.Lock()


def token_buckets(config: ClientConfig) -> Mapping[str, AnyBucket]:
    """Return the process's buckets of an account, by operation.

    The API counts per application and consenting customer, so two connections to one account share them; if they
    set different limits, the slowest applies. A limit that a connection no longer sets is removed when the
    connection is read again. If any of them names a store, all use it.
    """
    with _known_lock:
        account = _known.setdefault(config.identity, _Account())
        for operation, bucket in account.local.items():
            # An old client calls this again, too; for it the newest reading of its connection applies.
            bucket.fix(config.rate_limits.get(operation), config.source, config.order)
        if config.order >= account.stores.get(config.source, (config.order, None))[0]:
            account.stores[config.source] = (config.order, config.rate_limit_store)
        store = next((each for _, each in account.stores.values() if each), None)
        return account.shared(store, config) if store else account.local
