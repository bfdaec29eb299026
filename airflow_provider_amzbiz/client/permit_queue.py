"""How a call gets its permit: it was granted one, or it queues in the account's token bucket."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.errors import ThrottledError
from airflow_provider_amzbiz.client.limit_state import MAX_PAUSE
from airflow_provider_amzbiz.client.token_bucket import AnyBucket, TokenBucket

log = logging.getLogger(__name__)

# Seconds between two log lines about a wait for a permit.
_LOG_SECONDS = 120.0
# Seconds of a wait from which it is worth a worker slot to defer.
_LONG_SECONDS = 60.0
# Range of the random factor of a pause after a 429: calls that were throttled at the same moment must not all come
# back at the same moment.
_JITTER = (0.5, 1.2)
# Factor from one pause to the next.
_GROWTH = 4.0
# A pause takes about this share of the time that the call has left at most: the oldest calls come most often.
_SHARE_OF_TIME_LEFT = 0.5


class PermitQueue:
    """Gives one client's calls their permits.

    :param buckets: the account's token buckets, by operation.
    :param max_wait: seconds that one call may wait for its permits.
    :param sleep: sleeps for an operation; may raise to end the wait.
    :param listener: receives the time that each permit took.
    """

    def __init__(
        self,
        buckets: Mapping[str, AnyBucket],
        *,
        max_wait: float,
        sleep: Callable[[str, float], None],
        listener: CallListener,
    ) -> None:
        self.buckets = buckets
        self.max_wait = max_wait
        self.sleep = sleep
        self.listener = listener
        self._granted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def grant(self, operation: str, permits: int) -> None:
        """Take over permits that were acquired elsewhere: as many calls do not queue again."""
        with self._lock:
            self._granted[operation] += permits

    def take_granted(self, operation: str) -> bool:
        """Take one of the granted permits; False if none is left."""
        with self._lock:
            is_granted = self._granted[operation] > 0
            self._granted[operation] -= is_granted
        return is_granted


class _Place(NamedTuple):
    """A call's place in the queue: its ticket, and the monotonic time before which it must not call."""

    ticket: int
    earliest: float


class PermitWait:
    """One call's waits for permits, over all its attempts.

    Use it as a context manager around each attempt, which leaves the queue however that ends.

    :ivar seconds: how long the call has waited for permits in total.
    """

    def __init__(self, queue: PermitQueue, operation: str) -> None:
        self.seconds = 0.0
        self._queue = queue
        self._operation = operation
        self._bucket = queue.buckets[operation]
        self._until = time.monotonic() + queue.max_wait
        self._throttled = 0
        self._place: _Place | None = None

    def __enter__(self) -> PermitWait:
        self._throttled = 0
        return self

    def __exit__(self, *_: object) -> None:
        if self._place is not None:
            self._bucket.leave(self._place.ticket)
            self._place = None

    def acquire(self) -> None:
        """Take a permit, or wait for it: at the end of the queue, or at the call's place after a 429.

        :raises ThrottledError: that would take too long; nothing was sent.
        """
        place, self._place = self._place, None
        if self._queue.take_granted(self._operation):
            if place is not None:
                self._bucket.leave(place.ticket)
            return
        start = time.monotonic()
        ticket, earliest = place or _Place(self._bucket.join(), start)
        try:
            self._wait(ticket, earliest)
        finally:
            self._bucket.leave(ticket)
        waited = time.monotonic() - start
        self.seconds += waited
        self._queue.listener.on_permit_wait(self._operation, waited)

    def rejoin(self, error: ThrottledError) -> None:
        """Queue again after a 429, before all calls that came later.

        :raises ThrottledError: the call may not wait so long.
        """
        self._throttled += 1
        now = time.monotonic()
        # One queue for all processes keeps them apart.
        own = self._bucket.unshared
        pause = _back_off(own, self._throttled, self._until - now) if own else 0.0
        self._bucket.throttled(error.retry_after)
        if not self._bucket.is_shared:
            _log_remedy(self._operation)
        if now >= self._until:
            raise error
        log.warning("%s; queueing again", error)
        self._place = _Place(self._bucket.join(first=True), now + pause)

    def _wait(self, ticket: int, earliest: float) -> None:
        log_at = time.monotonic()
        while left := max(earliest - time.monotonic(), 0.0) or self._bucket.claim(ticket):
            now = time.monotonic()
            # The rate may have stepped down, and may recover. A 429 shows only that there was no whole permit, but
            # there may have been most of one.
            full = self._bucket.limit.rate
            soonest = left * min(self._bucket.rate / full, 1.0) - (2 / full if self._throttled else 0.0)
            if now >= self._until or now + soonest > self._until:
                raise ThrottledError(
                    f"{self._operation} may be called again in {left:.0f} s: the account's limit is used up",
                    operation=self._operation,
                )
            if left >= 1 and now >= log_at:
                log_at = now + _LOG_SECONDS
                log.info(
                    "%s waits about %.0f s for its permit: the account's limit is used up", self._operation, left
                )
                if left >= _LONG_SECONDS:
                    _log_slot(self._operation)
            self._queue.sleep(self._operation, min(self._bucket.pause(left), self._until - now))


def _back_off(bucket: TokenBucket, throttled: int, left: float) -> float:
    """Return the seconds before a throttled call queues for its next attempt, if the processes share no store.

    It grows with the number of 429s, because that shows how many others there are.

    :param throttled: how often the call was throttled.
    :param left: seconds until its deadline.
    """
    rate, burst = bucket.limit
    # Without other signs, somebody may have used the burst once; else there are enough to use it up all the time.
    permits = burst if throttled > 1 or bucket.is_crowded else 2
    pause = min(permits / rate, MAX_PAUSE) * _GROWTH ** min(throttled - 1, 10)
    return min(pause, left * _SHARE_OF_TIME_LEFT) * random.uniform(*_JITTER)  # noqa: S311


@cache
def _log_slot(operation: str) -> None:
    """Log once how a long wait costs no worker slot."""
    log.info("A task that waits here for %s holds its worker slot; deferrable=True avoids that", operation)


@cache
def _log_remedy(operation: str) -> None:
    """Log once what a user can do."""
    log.warning(
        "Other processes use the account's limit of %s as well, and each can only guess what the others do. Let "
        "the tasks wait in the triggerer (deferrable=True), or name a Redis connection in the field "
        "rate_limit_store of the connection, so that all processes share one queue",
        operation,
    )
