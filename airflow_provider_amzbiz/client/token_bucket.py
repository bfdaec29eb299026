"""The limit of one operation as the API counts it, and who may call next."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping

from airflow_provider_amzbiz.client.account import Account
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit

# Left in the bucket, because a request takes its permit at the API a moment later than here: what a full bucket
# there could not gain in that moment was gained here.
_MARGIN = 0.5
# What is left of the rate after a refusal, and how far it may sink.
_STEP = 0.75
_LOWEST = 0.1
# Permits' times after which the full rate is reached again.
_RECOVERY = 60
# Seconds after which whoever waits looks again at least, should the rate have risen meanwhile.
_PATIENCE = 1.0


class TokenBucket:
    """Permits to call one operation for one account: ``burst`` at once, ``rate`` a second, in the order of asking.

    Whoever wants to call takes a ticket with :meth:`join` and asks :meth:`claim` until that gives 0. The bucket
    itself never sleeps and never calls anything, so that threads and event loops can share it.

    :param limit: the rate and burst to begin with.
    :param fixed: whether the rate is the user's word, from which answers of the API do not change it.
    :param clock: seconds that only grow.
    """

    def __init__(self, limit: Limit, *, fixed: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = limit
        self._fixed = fixed
        self._rate = limit.rate
        self._tokens = float(limit.burst)
        self._filled = clock()
        # Until the API first refuses, others may have used the burst that is assumed here.
        self._guessed = True
        self._stepped = float("-inf")
        self._numbers = itertools.count(1)
        self._queue: dict[int, int] = {}

    @property
    def rate(self) -> float:
        """Permits a second at the moment."""
        with self._lock:
            self._refill()
            return self._rate

    @property
    def burst(self) -> int:
        """Permits that can gather."""
        return self._limit.burst

    @property
    def limit(self) -> Limit:
        """The limit as known now, without what a refusal has taken from the rate for a while."""
        return self._limit

    @property
    def waiting(self) -> int:
        """Tickets in the queue."""
        return len(self._queue)

    def join(self, count: int = 1) -> int:
        """Queue for so many permits, which are given together, and return a ticket.

        :raises ValueError: there are never so many at once.
        """
        if not 1 <= count <= self.burst:
            raise ValueError(f"count is {count!r}, but has to be from 1 to the burst, {self.burst}")
        with self._lock:
            ticket = next(self._numbers)
            self._queue[ticket] = count
            return ticket

    def claim(self, ticket: int) -> float:
        """Return 0 when the ticket's permits are given, which ends it; else the seconds until that is expected.

        A rate that rises makes it sooner, and one that sinks later; see :meth:`pause`.
        """
        with self._lock:
            self._refill()
            ahead = 0
            for other, count in self._queue.items():
                if other == ticket:
                    break
                ahead += count
            count = self._queue[ticket]
            needed = min(count + _MARGIN, float(self.burst))
            if ahead == 0 and self._tokens >= needed:
                self._tokens -= count
                del self._queue[ticket]
                return 0.0
            return max((ahead + needed - self._tokens) / self._rate, 1e-3)

    def pause(self, seconds: float) -> float:
        """Return how long to sleep at most before the next :meth:`claim` of a ticket that is due in so long."""
        return min(seconds, max(1 / self._rate, _PATIENCE))

    def leave(self, ticket: int) -> None:
        """Give a ticket up; those behind it move on."""
        with self._lock:
            self._queue.pop(ticket, None)

    def take_up_to(self, count: int) -> int:
        """Take what is there at once, if nobody queues for it; return how many."""
        with self._lock:
            self._refill()
            given = 0 if self._queue else max(min(count, int(self._tokens - _MARGIN)), 0)
            self._tokens -= given
            return given

    def learn(self, rate: float) -> None:
        """Take the rate that a good answer tells (spec, ``x-amzn-RateLimit-Limit``), unless the user set one."""
        with self._lock:
            if self._fixed or not 0 < rate < math.inf or rate == self._limit.rate:
                return
            self._refill()
            stepped_down = self._rate < self._limit.rate
            self._limit = Limit(rate, self._limit.burst)
            self._rate = min(self._rate, rate) if stepped_down else rate

    def fix(self, limit: Limit) -> None:
        """Take the user's word for the limit."""
        with self._lock:
            if self._fixed and limit == self._limit:
                return
            self._refill()
            self._limit, self._fixed, self._rate = limit, True, limit.rate
            self._tokens = min(self._tokens, float(limit.burst))

    def emptied(self, seconds_ago: float = 0.0) -> None:
        """Take note that there was no permit so long ago, whoever found out."""
        with self._lock:
            self._refill()
            self._guessed = False
            self._tokens = min(self._tokens, seconds_ago * self._rate)

    def refused(self, retry_after: float | None = None) -> None:
        """Take note that a call with a permit was answered 429: somebody else uses the same limit.

        :param retry_after: seconds that the answer asked to wait, if it did.
        """
        with self._lock:
            self._refill()
            if not self._guessed and self._filled - self._stepped >= 1 / self._rate:
                self._rate = max(self._rate * _STEP, self._limit.rate * _LOWEST)
                self._stepped = self._filled
            self._guessed = False
            self._tokens = min(self._tokens, 0.0)
            if retry_after:
                self._tokens = min(self._tokens, 1 - retry_after * self._rate)

    def _refill(self) -> None:
        now = self._clock()
        elapsed = max(now - self._filled, 0.0)
        self._filled = now
        self._tokens = min(self._tokens + elapsed * self._rate, float(self.burst))
        full = self._limit.rate
        self._rate = min(self._rate + full * elapsed * full / _RECOVERY, full)


_known: dict[tuple[str, str, str], dict[str, TokenBucket]] = {}
_known_lock = threading.Lock()


def token_buckets(account: Account) -> Mapping[str, TokenBucket]:
    """Return the process's buckets of an account, by operation.

    The API counts per application and consenting customer, so two connections to one account share them.
    """
    with _known_lock:
        buckets = _known.setdefault(account.identity, {})
        for operation, limit in USAGE_PLAN.items():
            if operation not in buckets:
                buckets[operation] = TokenBucket(limit)
            if operation in account.rate_limits:
                buckets[operation].fix(account.rate_limits[operation])
        return buckets
