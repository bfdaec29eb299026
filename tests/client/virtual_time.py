"""Processes of one account in virtual time: real code that sleeps, without sleeping."""

from __future__ import annotations

import heapq
import itertools
import threading

from airflow_provider_amzbiz.client.errors import ThrottledError


class VirtualTime:
    """Runs functions as if each were a process; only one of them runs at any moment.

    :ivar now: seconds; pass :meth:`monotonic` where a clock is asked for.
    """

    def __init__(self):
        self.now = 1000.0
        self._numbers = itertools.count()
        self._due = []
        self._turn = threading.Event()
        self._error = None

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        """Let the others run until the calling process is due again."""
        mine = threading.Event()
        heapq.heappush(self._due, (self.now + max(seconds, 0.0), next(self._numbers), mine))
        self._turn.set()
        mine.wait()

    def start(self, function, *arguments, delay=0.0):
        """Start a process after a delay."""
        mine = threading.Event()

        def run():
            mine.wait()
            try:
                function(*arguments)
            except BaseException as error:  # noqa: BLE001
                self._error = error
            self._turn.set()

        threading.Thread(target=run, daemon=True).start()
        heapq.heappush(self._due, (self.now + delay, next(self._numbers), mine))

    def run(self):
        """Run until all processes have ended; raise what one of them raised."""
        while self._due:
            at, _, process = heapq.heappop(self._due)
            self.now = max(self.now, at)
            self._turn.clear()
            process.set()
            self._turn.wait()
            if self._error is not None:
                raise self._error


class VirtualApi:
    """The API's bucket of one operation, in virtual time."""

    def __init__(self, time, limit):
        self.limit = limit
        self.calls = self.throttled = 0
        self._time = time
        self._tokens, self._filled = float(limit.burst), time.now

    def call(self):
        """Take a permit.

        :raises ThrottledError: there is none.
        """
        gained = (self._time.now - self._filled) * self.limit.rate
        self._tokens, self._filled = min(self._tokens + gained, self.limit.burst), self._time.now
        self.calls += 1
        if self._tokens < 1:
            self.throttled += 1
            raise ThrottledError("createReport was throttled", operation="createReport")
        self._tokens -= 1
