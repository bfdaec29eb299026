"""The limit of one operation as the API counts it: its rate, its burst, and the permits that there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from airflow_provider_amzbiz.client.usage_plan import Limit

# Maximum seconds for which a Retry-After, or a rate in a header, may stop an operation. A process lives for weeks,
# and one absurd header from a proxy must not stop its work.
MAX_PAUSE = 300.0
# A Retry-After counts for no longer than the whole bucket takes to fill, but always for so many seconds.
MIN_BOUND = 10.0
# Permits that stay in the bucket, because a request takes its permit at the API a moment later than here: a full
# bucket there gains nothing in that moment, while the one here does.
MARGIN = 0.5
# Factor of the rate after a 429, and the minimum as a share of the full rate.
STEP = 0.75
MIN_SHARE = 0.1
# Range of rates that a header may name: at the slowest, an empty bucket gives a permit within MAX_PAUSE; the
# fastest is 500 times the highest of the usage plan. Any other rate is an error of the server, and is ignored.
PLAUSIBLE_RATES = ((1 + MARGIN) / MAX_PAUSE, 1000.0)
# How many permits' times the rate takes to recover from zero to full.
RECOVERY = 60
# Seconds after a 429 for which others are expected to use the limit, too.
CROWDED_SECONDS = 1800.0


class LimitState:
    """The permits of one operation for one account, without a queue; threads can share it.

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
        self._crowded_until = float("-inf")

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
    def fixed(self) -> Limit | None:
        """The user's limit, the slowest if several are set; None without one."""
        with self._lock:
            return min(self._fixed.values(), default=None)

    def learn(self, rate: float) -> None:
        """Adopt the rate in a successful response (spec, ``x-amzn-RateLimit-Limit``), unless the user set one.

        An implausible rate, such as 1e-9 or 1e308, is ignored.
        """
        with self._lock:
            if is_plausible(rate):
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
                minimum = max(self._limit.rate * MIN_SHARE, min(self._limit.rate, PLAUSIBLE_RATES[0]))
                self._rate = max(self._rate * STEP, minimum)
                self._stepped = self._filled
            self._is_guess = False
            self._crowded_until = max(self._crowded_until, self._filled + CROWDED_SECONDS)
            self._tokens = min(self._tokens, 0.0)
            if retry_after is not None and retry_after > 0:
                bound = min(max(self._limit.burst / self._limit.rate, MIN_BOUND), MAX_PAUSE)
                pause = min(retry_after, bound)
                self._paused_until = max(self._paused_until, self._filled + pause)

    def _refill(self) -> None:
        now = self._clock()
        elapsed = max(now - self._filled, 0.0)
        paused = min(max(self._paused_until - self._filled, 0.0), elapsed)
        self._filled = now
        gained = after_pause(self._tokens, paused, self._rate) + (elapsed - paused) * self._rate
        self._tokens = min(gained, float(self.burst))
        full = self._limit.rate
        self._rate = min(self._rate + full * elapsed * full / RECOVERY, full)


def is_plausible(rate: float) -> bool:
    """Return whether a header's rate can be meant."""
    slowest, fastest = PLAUSIBLE_RATES
    return slowest <= rate <= fastest


def after_pause(tokens: float, seconds: float, rate: float) -> float:
    """Return the permits after a pause: at most one is gained, because its end does not promise a burst."""
    return tokens if seconds <= 0 else min(tokens + seconds * rate, max(tokens, 1.0))
