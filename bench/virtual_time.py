"""A clock that is put forward to whatever happens next, and processes that wait by it."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Generator
from typing import NamedTuple, TypeAlias


class Wait(NamedTuple):
    """What a process yields to wait for a signal, or for so many seconds if that is shorter."""

    signal: Signal
    seconds: float


# A process yields the seconds that it sleeps, or a Wait.
Process: TypeAlias = "Generator[float | Wait, None, None]"


class _Sleeper:
    """A process that waits; several events may wake it, and the first one does."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.is_awake = False


class Signal:
    """Wakes the processes that wait for it."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._sleepers: list[_Sleeper] = []

    def add(self, sleeper: _Sleeper) -> None:
        """Wake this one, too."""
        self._sleepers.append(sleeper)

    def set(self) -> None:
        """Wake all who wait now."""
        for sleeper in self._sleepers:
            if not sleeper.is_awake:
                self._time.wake(sleeper)
        self._sleepers = []


class VirtualTime:
    """Runs processes in the order of their times; of several at one moment, in the order in which they asked.

    :ivar now: seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, _Sleeper]] = []

    def monotonic(self) -> float:
        """Return the time, as the module ``time`` does."""
        return self.now

    def start(self, process: Process, delay: float = 0.0) -> None:
        """Start a process."""
        self.wake(_Sleeper(process), delay)

    def wake(self, sleeper: _Sleeper, delay: float = 0.0) -> None:
        """Let a process continue, unless something else does so before."""
        heapq.heappush(self._due, (self.now + delay, next(self._numbers), sleeper))

    def run(self, until: float) -> None:
        """Run all processes until a moment."""
        while self._due and self._due[0][0] <= until:
            self.now, _, sleeper = heapq.heappop(self._due)
            if not sleeper.is_awake:
                sleeper.is_awake = True
                self._continue(sleeper.process)
        self.now = until

    def _continue(self, process: Process) -> None:
        try:
            pause = next(process)
        except StopIteration:
            return
        sleeper = _Sleeper(process)
        if isinstance(pause, Wait):
            pause.signal.add(sleeper)
            pause = pause.seconds
        self.wake(sleeper, max(pause, 0.0))


class Slots:
    """Worker slots; who has waited longest gets the next one.

    :ivar held_seconds: for which slots were held, in all.
    :ivar waits: seconds that each holder has waited for its slot.
    :ivar most: how many were held at once, at most.
    """

    def __init__(self, time: VirtualTime, count: int) -> None:
        self._time = time
        self._count = count
        self._held = 0
        self._queue: deque[Signal] = deque()
        self.held_seconds = 0.0
        self.waits: list[float] = []
        self.most = 0

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def hold(self, work: Process) -> Process:
        """Wait for a slot, and hold it until some work has ended."""
        asked = self._time.now
        if self._held < self._count:
            self._held += 1
            self.most = max(self.most, self._held)
        else:
            mine = Signal(self._time)
            self._queue.append(mine)
            yield Wait(mine, float("inf"))
        began = self._time.now
        self.waits.append(began - asked)
        yield from work
        self.held_seconds += self._time.now - began
        if self._queue:
            # The slot is the next one's at once.
            self._queue.popleft().set()
        else:
            self._held -= 1
