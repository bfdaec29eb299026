"""The limit of one operation as the API counts it, and who may call next."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping

from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit

# Seconds for which a Retry-After, or a rate that a header names, may stop an operation at most. A process lives
# for weeks, and one absurd header of a proxy must not end its work.
MAX_PAUSE = 300.0
# Of a Retry-After, only as much counts as the whole bucket takes to fill, but always so many seconds.
_MIN_BOUND = 10.0
# Left in the bucket, because a request takes its permit at the API a moment later than here: what a full bucket
# there could not gain in that moment was gained here.
_MARGIN = 0.5
# What is left of the rate after a refusal, and how far it may sink.
_STEP = 0.75
_LOWEST = 0.1
# Rates that a header may name: at the slowest, an empty bucket gives a permit within MAX_PAUSE; the fastest is 500
# times the highest of the usage plan. Whatever is outside is not meant, and is ignored.
_BELIEVABLE = ((1 + _MARGIN) / MAX_PAUSE, 1000.0)
# Permits' times after which the full rate is reached again.
_RECOVERY = 60
# Seconds after which whoever waits looks again at least, should the rate have risen meanwhile.
_PATIENCE = 1.0


class TokenBucket:
    """Permits to call one operation for one account: ``burst`` at once, ``rate`` a second, in the order of asking.

    Whoever wants to call takes a ticket with :meth:`join` and asks :meth:`claim` until that gives 0. The bucket
    itself never sleeps and never calls anything, so that threads and event loops can share it.

    :param limit: the rate and burst to begin with.
    :param fixed: whether this limit is the user's, from which responses of the API do not change it.
    :param clock: seconds that only grow.
    """

    def __init__(self, limit: Limit, *, fixed: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._plan = limit
        self._learned: float | None = None
        self._words = {"": limit} if fixed else {}
        self._orders: dict[str, int] = {}
        self._limit = limit
        self._rate = limit.rate
        self._tokens = float(limit.burst)
        self._filled = clock()
        # Until the API first refuses, others may have used the burst that is assumed here.
        self._guessed = True
        self._stepped = float("-inf")
        self._paused_until = float("-inf")
        self._numbers = itertools.count(1)
        self._first: dict[int, int] = {}
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
        return len(self._first) + len(self._queue)

    def join(self, count: int = 1, *, first: bool = False) -> int:
        """Queue for so many permits, which are given together, and return a ticket.

        :param count: 1 to the burst.
        :param first: go before all that queue, except those that joined in this way before: for a call that had
            its permits and was throttled all the same, so that it keeps its place.
        :raises ValueError: there are never so many at once.
        """
        if not 1 <= count <= self.burst:
            raise ValueError(f"count is {count!r}, but must be from 1 to the burst, {self.burst}")
        with self._lock:
            ticket = next(self._numbers)
            (self._first if first else self._queue)[ticket] = count
            return ticket

    def claim(self, ticket: int) -> float:
        """Return 0 when the ticket's permits are given, which ends it; else the seconds until that is expected.

        A rate that rises makes it sooner, and one that sinks later; see :meth:`pause`.
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
            # The burst may have sunk since the ticket joined.
            needed = min(count + _MARGIN, float(self.burst))
            paused = max(self._paused_until - self._filled, 0.0)
            if ahead == 0 and self._tokens >= needed and not paused:
                self._tokens -= count
                self._drop(ticket)
                return 0.0
            tokens = self._after_pause(paused)
            return max(paused + (ahead + needed - tokens) / self._rate, 1e-3)

    def pause(self, seconds: float) -> float:
        """Return how long to sleep at most before the next :meth:`claim` of a ticket that is due in so long."""
        return min(seconds, max(1 / self._rate, _PATIENCE))

    def leave(self, ticket: int) -> None:
        """Give a ticket up; those behind it move on."""
        with self._lock:
            self._drop(ticket)

    def _drop(self, ticket: int) -> None:
        self._first.pop(ticket, None)
        self._queue.pop(ticket, None)

    def take_up_to(self, count: int) -> int:
        """Take what is there at once, if nobody queues for it; return how many."""
        with self._lock:
            self._refill()
            busy = self._first or self._queue or self._paused_until > self._filled
            given = 0 if busy else max(min(count, int(self._tokens - _MARGIN)), 0)
            self._tokens -= given
            return given

    def learn(self, rate: float) -> None:
        """Take the rate that a good response names (spec, ``x-amzn-RateLimit-Limit``), unless the user set one.

        A rate that cannot be meant, such as 1e-9 or 1e308, is ignored.
        """
        slowest, fastest = _BELIEVABLE
        with self._lock:
            if slowest <= rate <= fastest:
                self._learned = rate
                self._apply()

    def fix(self, limit: Limit | None, source: str = "", order: int = 0) -> None:
        """Take the user's word for the limit; of several words, the slowest counts.

        :param limit: rate and burst. None takes the source's word back: without any word, the usage plan counts
            again, or the rate learned since.
        :param source: who says so, such as the id of a connection; takes the place of what it said before.
        :param order: which word of a source is the newest: one with a lower number than before is ignored.
        """
        with self._lock:
            if order < self._orders.get(source, order):
                return
            self._orders[source] = order
            if limit is None:
                self._words.pop(source, None)
            else:
                self._words[source] = limit
            self._apply()

    def _apply(self) -> None:
        """Let the limit be what the user says, else what the API says, else the usage plan's."""
        learned = Limit(self._learned or self._plan.rate, self._plan.burst)
        limit = min(self._words.values(), default=learned)
        if limit == self._limit:
            return
        self._refill()
        stepped_down = self._rate < self._limit.rate and not self._words
        self._limit = limit
        self._rate = min(self._rate, limit.rate) if stepped_down else limit.rate
        self._tokens = min(self._tokens, float(limit.burst))

    def emptied(self, seconds_ago: float = 0.0) -> None:
        """Take note that there was no permit so long ago, whoever found out."""
        with self._lock:
            self._refill()
            self._guessed = False
            self._tokens = min(self._tokens, seconds_ago * self._rate)

    def refused(self, retry_after: float | None = None) -> None:
        """Take note that a call with a permit was answered 429: somebody else uses the same limit.

        :param retry_after: seconds that the response asked to wait, if it did; no more counts than the whole
            bucket takes to fill, or 10 seconds if that is longer, and never more than :data:`MAX_PAUSE`.
        """
        with self._lock:
            self._refill()
            if not self._guessed and self._filled - self._stepped >= 1 / self._rate:
                lowest = max(self._limit.rate * _LOWEST, min(self._limit.rate, _BELIEVABLE[0]))
                self._rate = max(self._rate * _STEP, lowest)
                self._stepped = self._filled
            self._guessed = False
            self._tokens = min(self._tokens, 0.0)
            if retry_after is not None and retry_after > 0:
                bound = min(max(self._limit.burst / self._limit.rate, _MIN_BOUND), MAX_PAUSE)
                pause = min(retry_after, bound)
                self._paused_until = max(self._paused_until, self._filled + pause)

    def _refill(self) -> None:
        now = self._clock()
        elapsed = max(now - self._filled, 0.0)
        paused = min(max(self._paused_until - self._filled, 0.0), elapsed)
        self._filled = now
        self._tokens = min(self._after_pause(paused) + (elapsed - paused) * self._rate, float(self.burst))
        full = self._limit.rate
        self._rate = min(self._rate + full * elapsed * full / _RECOVERY, full)

    def _after_pause(self, seconds: float) -> float:
        """Return the permits after a pause: one at most gathers, because its end says nothing of a burst."""
        return self._tokens if seconds <= 0 else min(self._tokens + seconds * self._rate, max(self._tokens, 1.0))


_known: dict[tuple[str, str, str], dict[str, TokenBucket]] = {}
_known_lock = threading.Lock()


def token_buckets(config: ClientConfig) -> Mapping[str, TokenBucket]:
    """Return the process's buckets of an account, by operation.

    The API counts per application and consenting customer, so two connections to one account share them: where
    they name different limits, the slowest counts. What a connection no longer names, when it is read again, no
    longer counts.
    """
    with _known_lock:
        buckets = _known.setdefault(config.identity, {})
        for operation, limit in USAGE_PLAN.items():
            if operation not in buckets:
                buckets[operation] = TokenBucket(limit)
            # A client that was made long ago asks again, too; what was read since counts for it.
            buckets[operation].fix(config.rate_limits.get(operation), config.source, config.order)
        return buckets
