"""The limit of one operation as the API counts it, and who may call next."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping

from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit

# Maximum seconds for which a Retry-After, or a rate in a header, may stop an operation. A process lives for weeks,
# and one absurd header from a proxy must not stop its work.
MAX_PAUSE = 300.0
# A Retry-After counts for no longer than the whole bucket takes to fill, but always for so many seconds.
_MIN_BOUND = 10.0
# Permits that stay in the bucket, because a request takes its permit at the API a moment later than here: a full
# bucket there gains nothing in that moment, while the one here does.
_MARGIN = 0.5
# Factor of the rate after a 429, and the minimum as a share of the full rate.
_STEP = 0.75
_MIN_SHARE = 0.1
# Range of rates that a header may name: at the slowest, an empty bucket gives a permit within MAX_PAUSE; the
# fastest is 500 times the highest of the usage plan. Any other rate is an error of the server, and is ignored.
_PLAUSIBLE_RATES = ((1 + _MARGIN) / MAX_PAUSE, 1000.0)
# How many permits' times the rate takes to recover from zero to full.
_RECOVERY = 60
# Minimum seconds between two claims of a waiting ticket; a claim may find that the rate has risen.
_CLAIM_SECONDS = 1.0


class TokenBucket:
    """Permits to call one operation for one account: ``burst`` at once, ``rate`` a second, first come, first
    served.

    A caller takes a ticket with :meth:`join` and repeats :meth:`claim` until that returns 0. The bucket itself
    never sleeps and never calls anything, so threads and event loops can share it.

    :param limit: the initial rate and burst.
    :param fixed: whether this is the user's limit, which responses of the API do not change.
    :param clock: monotonic seconds.
    """

    def __init__(self, limit: Limit, *, fixed: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._plan = limit
        self._learned: float | None = None
        self._fixed = {"": limit} if fixed else {}
        self._orders: dict[str, int] = {}
        self._limit = limit
        self._rate = limit.rate
        self._tokens = float(limit.burst)
        self._filled = clock()
        # Until the first 429, others may have used the burst that is assumed here.
        self._is_guess = True
        self._stepped = float("-inf")
        self._paused_until = float("-inf")
        self._numbers = itertools.count(1)
        self._first: dict[int, int] = {}
        self._queue: dict[int, int] = {}

    @property
    def rate(self) -> float:
        """Permits per second at the moment."""
        with self._lock:
            self._refill()
            return self._rate

    @property
    def burst(self) -> int:
        """Maximum permits at once."""
        return self._limit.burst

    @property
    def limit(self) -> Limit:
        """The limit as known now, without the temporary step down after a 429."""
        return self._limit

    @property
    def waiting(self) -> int:
        """Tickets in the queue."""
        return len(self._first) + len(self._queue)

    def join(self, count: int = 1, *, first: bool = False) -> int:
        """Queue for permits that are given together, and return a ticket.

        :param count: 1 to the burst.
        :param first: go before the whole queue, except those that joined this way earlier: for a call that had its
            permits and was throttled all the same, so that it keeps its place.
        :raises ValueError: there are never so many permits at once.
        """
        if not 1 <= count <= self.burst:
            raise ValueError(f"count is {count!r}, but must be from 1 to the burst, {self.burst}")
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
            needed = min(count + _MARGIN, float(self.burst))
            paused = max(self._paused_until - self._filled, 0.0)
            if ahead == 0 and self._tokens >= needed and not paused:
                self._tokens -= count
                self._drop(ticket)
                return 0.0
            tokens = self._after_pause(paused)
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
            taken = 0 if busy else max(min(count, int(self._tokens - _MARGIN)), 0)
            self._tokens -= taken
            return taken

    def learn(self, rate: float) -> None:
        """Adopt the rate in a successful response (spec, ``x-amzn-RateLimit-Limit``), unless the user set one.

        An implausible rate, such as 1e-9 or 1e308, is ignored.
        """
        slowest, fastest = _PLAUSIBLE_RATES
        with self._lock:
            if slowest <= rate <= fastest:
                self._learned = rate
                self._apply()

    def fix(self, limit: Limit | None, source: str = "", order: int = 0) -> None:
        """Set the user's limit; if several sources set one, the slowest applies.

        :param limit: rate and burst. None removes the source's limit: without any, the usage plan applies again,
            or the rate learned since.
        :param source: who sets it, such as the id of a connection; replaces what the source set before.
        :param order: number of this setting; one with a lower number than the source's last one is outdated and
            ignored.
        """
        with self._lock:
            if order < self._orders.get(source, order):
                return
            self._orders[source] = order
            if limit is None:
                self._fixed.pop(source, None)
            else:
                self._fixed[source] = limit
            self._apply()

    def _apply(self) -> None:
        """Apply the user's limit, else the API's, else the usage plan's."""
        learned = Limit(self._learned or self._plan.rate, self._plan.burst)
        limit = min(self._fixed.values(), default=learned)
        if limit == self._limit:
            return
        self._refill()
        stepped_down = self._rate < self._limit.rate and not self._fixed
        self._limit = limit
        self._rate = min(self._rate, limit.rate) if stepped_down else limit.rate
        self._tokens = min(self._tokens, float(limit.burst))

    def emptied(self, seconds_ago: float = 0.0) -> None:
        """Record that there was no permit so many seconds ago, whichever process was throttled."""
        with self._lock:
            self._refill()
            self._is_guess = False
            self._tokens = min(self._tokens, seconds_ago * self._rate)

    def throttled(self, retry_after: float | None = None) -> None:
        """Record that a call with a permit was throttled (429): somebody else uses the same limit.

        :param retry_after: seconds that the response asked to wait, if it did; at most as long as the whole bucket
            takes to fill, or 10 seconds if that is longer, and never longer than :data:`MAX_PAUSE`.
        """
        with self._lock:
            self._refill()
            if not self._is_guess and self._filled - self._stepped >= 1 / self._rate:
                minimum = max(self._limit.rate * _MIN_SHARE, min(self._limit.rate, _PLAUSIBLE_RATES[0]))
                self._rate = max(self._rate * _STEP, minimum)
                self._stepped = self._filled
            self._is_guess = False
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
        """Return the permits after a pause: at most one is gained, because its end does not promise a burst."""
        return self._tokens if seconds <= 0 else min(self._tokens + seconds * self._rate, max(self._tokens, 1.0))


_known: dict[tuple[str, str, str], dict[str, TokenBucket]] = {}
_known_lock = threading.Lock()


def token_buckets(config: ClientConfig) -> Mapping[str, TokenBucket]:
    """Return the process's buckets of an account, by operation.

    The API counts per application and consenting customer, so two connections to one account share them; if they
    set different limits, the slowest applies. A limit that a connection no longer sets is removed when the
    connection is read again.
    """
    with _known_lock:
        buckets = _known.setdefault(config.identity, {})
        for operation, limit in USAGE_PLAN.items():
            if operation not in buckets:
                buckets[operation] = TokenBucket(limit)
            # An old client calls this again, too; for it the newest reading of its connection applies.
            buckets[operation].fix(config.rate_limits.get(operation), config.source, config.order)
        return buckets
