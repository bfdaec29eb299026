"""Who may call an operation next, as all processes that share a limit store decide it together."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from dataclasses import dataclass

from airflow_provider_amzbiz.client.limit_state import is_plausible
from airflow_provider_amzbiz.client.limit_store import LimitStore, Reply, StoreUnavailableError, check_after
from airflow_provider_amzbiz.client.token_bucket import TokenBucket, check_count
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit

# Seconds by which a caller wakes later than it must, so that it does not come too early by a rounding.
_LATE = 0.002
# Place that asks for one before all others.
_FIRST = -1


@dataclass
class _Ticket:
    """A caller's place in the store's queue.

    :ivar is_given: whether its permits are given already.
    :ivar due: monotonic time at which they are expected.
    :ivar check_at: monotonic time before which the store is not asked.
    :ivar local: the ticket in the process's own queue, while the store is unavailable.
    """

    count: int
    first: bool
    name: str = ""
    place: int | None = None
    is_given: bool = False
    due: float = 0.0
    check_at: float = 0.0
    local: int | None = None

    def told(self, reply: Reply, pause: float) -> None:
        """Take over what the store has said, and when to ask it again."""
        now = time.monotonic()
        self.place, self.is_given, self.due = reply.place, reply.left == 0, now + reply.left
        # A millisecond earlier than the caller wakes, so that it never sleeps twice.
        self.check_at = now + pause - _LATE / 2


class StoredLimit:
    """The limit of one operation for one account in a store, without a queue.

    :param local: the process's own bucket, whose limit applies while the store is unavailable.
    :param store: the server.
    :param key: names the account and the operation, without secrets.
    """

    def __init__(self, local: TokenBucket, store: LimitStore, key: str) -> None:
        self._local = local
        self._store = store
        self._key = key
        self._plan = USAGE_PLAN[key.rpartition(":")[2]]
        self._lock = threading.Lock()
        self._last: Reply | None = None
        self._last_at = 0.0
        self._is_alone = False
        # Permits that the process has used while the store was unavailable.
        self._used = 0

    @property
    def unshared(self) -> TokenBucket | None:
        """The process's own bucket while the store is unavailable, else None."""
        return self._local if self._is_alone else None

    def expect_others(self) -> None:
        """Do nothing, because the store counts what others use; see :meth:`.TokenBucket.expect_others`."""

    @property
    def rate(self) -> float:
        """Permits per second, as of the last call of the store."""
        return self._last.rate if self._last and not self._is_alone else self._local.rate

    @property
    def burst(self) -> int:
        """Maximum permits at once, as of the last call of the store."""
        return self.limit.burst

    @property
    def limit(self) -> Limit:
        """The limit without the temporary step down after a 429, as of the last call of the store."""
        return Limit(self._last.full, self._last.burst) if self._last else self._local.limit

    @property
    def waiting(self) -> int:
        """Tickets in the queue of all processes, as of the last call of the store."""
        return self._last.waiting if self._last and not self._is_alone else self._local.waiting

    def learn(self, rate: float) -> None:
        """Adopt the rate in a successful response for all processes; see :meth:`.LimitState.learn`."""
        self._local.learn(rate)
        # The store's numbers have twelve digits.
        is_known = self._last is not None and abs(rate - self._last.full) <= 1e-9 * rate
        if is_plausible(rate) and not is_known and self._local.fixed is None:
            self._call("learn", value=rate)

    def throttled(self, retry_after: float | None = None) -> None:
        """Record that a call with a permit was throttled (429); everybody who waits is moved.

        :param retry_after: see :meth:`.LimitState.throttled`.
        """
        self._local.throttled(retry_after)
        self._call("throttled", value=retry_after)

    def _call(
        self, action: str, ticket: _Ticket | None = None, *, place: int = 0, value: float | None = None
    ) -> Reply | None:
        """Return the store's reply; None if it is unavailable."""
        rate, burst = self._local.fixed or (None, None)
        with self._lock:
            # Taken, not only read: of several threads, one reports them.
            used, self._used = self._used, 0
        idle = time.monotonic() - self._last_at if self._last else None
        name, count = (ticket.name, ticket.count) if ticket else ("", 1)
        arguments = [action, name, place, count, value, *self._plan, rate, burst, used, idle]
        try:
            reply = self._store.call(self._key, arguments)
        except StoreUnavailableError:
            with self._lock:
                self._used += used
                if not self._is_alone:
                    self._is_alone = True
                    # Others use the limit, too, and so has this process.
                    self._local.emptied()
            return None
        with self._lock:
            self._last, self._last_at, self._is_alone = reply, time.monotonic(), False
        return reply

    def _use(self, count: int) -> int:
        with self._lock:
            self._used += count
        return count


class SharedBucket(StoredLimit):
    """A :class:`.TokenBucket` that all processes share, as far as they use the same store.

    The script ``reserve_permits.lua``, which runs in the store, decides who is next.

    While the store is unavailable, callers queue in the process's own bucket. What was reserved before is due when
    the store has said, and keeps its place when the store is back.

    Most methods call a server, so an event loop runs them in a thread.

    The parameters are those of :class:`StoredLimit`.

    :cvar is_shared: True; see :class:`.TokenBucket`.
    """

    is_shared = True

    def __init__(self, local: TokenBucket, store: LimitStore, key: str) -> None:
        super().__init__(local, store, key)
        self._numbers = itertools.count(1)
        self._tickets: dict[int, _Ticket] = {}

    def join(self, count: int = 1, *, first: bool = False, name: str | None = None) -> int:
        """Queue for permits; see :meth:`.TokenBucket.join`.

        :raises ValueError: there are never so many permits at once.
        """
        check_count(count, self.burst)
        ticket = _Ticket(count, first, name or uuid.uuid4().hex)
        number = next(self._numbers)
        self._tickets[number] = ticket
        reply = self._call("join", ticket, place=_FIRST if first else 0)
        if reply:
            ticket.told(reply, self.pause(reply.left))
        else:
            ticket.local = self._local.join(min(count, self._local.burst), first=first)
        return number

    def claim(self, ticket: int) -> float:
        """Return 0 if the ticket's permits are given, which ends it; else the seconds until that is expected."""
        mine = self._tickets[ticket]
        now = time.monotonic()
        if mine.is_given:
            left = 0.0
        elif mine.local is None and now < mine.check_at:
            return mine.due - now
        elif mine.local is None or self._store.is_due:
            left = self._claim(mine)
        else:
            left = self._claim_alone(mine)
        if left == 0.0:
            del self._tickets[ticket]
        return left

    def _claim(self, mine: _Ticket) -> float:
        # A ticket that joined while the store was unavailable has no place there yet.
        action = "join" if mine.place is None else "claim"
        reply = self._call(action, mine, place=mine.place or (_FIRST if mine.first else 0))
        if reply:
            if mine.local is not None:
                self._local.leave(mine.local)
                mine.local = None
            mine.told(reply, self.pause(reply.left))
            return reply.left
        if mine.local is None:
            left = mine.due - time.monotonic()
            if left > 0:
                mine.check_at = mine.due
                return left
            mine.local = self._local.join(min(mine.count, self._local.burst), first=mine.first)
        return self._claim_alone(mine)

    def _claim_alone(self, mine: _Ticket) -> float:
        left = self._local.claim(mine.local or 0)
        if left == 0.0:
            self._use(mine.count)
        return left

    def pause(self, seconds: float) -> float:
        """Return how long to sleep before the next :meth:`claim` of a ticket that is due in so many seconds."""
        if self._is_alone:
            return self._local.pause(seconds)
        return check_after(seconds) + _LATE

    def leave(self, ticket: int) -> None:
        """Give up a ticket; those behind it move up."""
        mine = self._tickets.pop(ticket, None)
        if mine is None:
            return
        if mine.local is not None:
            self._local.leave(mine.local)
        # Without a place it may be in the queue all the same, if the reply was lost.
        self._call("leave", mine)

    def take_up_to(self, count: int) -> int:
        """Take up to so many permits that are there now, if nobody queues for them; return how many."""
        reply = self._call("take", _Ticket(count, first=False))
        return reply.taken if reply else self._use(self._local.take_up_to(count))
