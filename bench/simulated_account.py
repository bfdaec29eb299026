"""One account in a simulation: its limits at the API, its reports, and who polls them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airflow_provider_amzbiz.client.shared_bucket import SharedBucket
from airflow_provider_amzbiz.client.token_bucket import AnyBucket, TokenBucket
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.throttle import Buckets
from airflow_provider_amzbiz.triggers import listing, poller
from airflow_provider_amzbiz.triggers.deadline_polls import FEW
from bench.script_server import ScriptServer
from bench.virtual_time import Process, VirtualTime

OPERATIONS = ("createReport", "getReports", "getReport", "getReportDocument")
POKE_INTERVAL = 15.0
# Seconds after a throttled poll.
_PAUSE = 30.0


@dataclass(eq=False)
class Report:
    """A report, which ends DONE.

    :ivar told: called when a poll has shown that it has ended.
    """

    created: float
    ends: float
    told: Callable[[Report], None]


class _ApiClock(Clock):
    """The sandbox's clock, put forward by the simulation."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__(1.0)
        self._time = time

    def seconds(self) -> float:
        return self._time.now


class Api:
    """The API's own buckets of an account, which give a permit or a 429.

    :ivar calls: by operation, and ``throttled`` of them.
    """

    def __init__(self, time: VirtualTime) -> None:
        self._buckets = Buckets("2026", _ApiClock(time))
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()

    def call(self, operation: str) -> bool:
        """Make a call; return False for a 429."""
        is_given = self._buckets.take(operation)
        self.calls[operation] += 1
        self.throttled[operation] += not is_given
        return is_given


class Account:
    """An account.

    :param name: of the account in the store.
    :param store: the limit store, if the processes share one.
    :ivar reports: all its reports, in the order of their creation.
    """

    def __init__(self, time: VirtualTime, name: str, store: ScriptServer | None) -> None:
        self.api = Api(time)
        self.reports: list[Report] = []
        self._time = time
        self._name = name
        self._store = store

    def buckets(self) -> Mapping[str, AnyBucket]:
        """Return the buckets of one process."""
        local = {each: TokenBucket(USAGE_PLAN[each], clock=self._time.monotonic) for each in OPERATIONS}
        if self._store is None:
            return local
        return {each: SharedBucket(local[each], self._store, f"{self._name}:{each}") for each in OPERATIONS}

    def finished_since(self, created: float) -> list[Report]:
        """Return the reports that the listing has now, newest first."""
        found = []
        for report in reversed(self.reports):
            if report.created < created:
                break
            if report.ends <= self._time.now:
                found.append(report)
        return found


_names = itertools.count()


def acquire(bucket: AnyBucket, count: int = 1, name: str | None = None) -> Process:
    """Wait for permits as a trigger does."""
    # By default a bucket draws a random one, which takes long.
    ticket = bucket.join(count, name=name or f"wait{next(_names)}")
    while left := bucket.claim(ticket):
        yield bucket.pause(left)


class Poller:
    """Polls the reports of one account for all waits of one triggerer, as the provider's own poller does.

    A poll takes no time here, but its permit does.

    :param buckets: of the triggerer.
    """

    def __init__(self, time: VirtualTime, account: Account, buckets: Mapping[str, AnyBucket]) -> None:
        self._time = time
        self._account = account
        self._buckets = buckets
        self._due: dict[Report, float] = {}
        self._polled: dict[Report, float] = {}
        self._runs = self._reads = False

    @property
    def awaited(self) -> list[Report]:
        """The reports that are waited for."""
        return list(self._due)

    def join(self, report: Report) -> None:
        """Poll for a report."""
        self._due[report] = self._time.now + POKE_INTERVAL
        self._polled.setdefault(report, 0.0)
        if not self._runs:
            self._runs = True
            self._time.start(self._run())

    def leave(self, report: Report) -> None:
        """No longer poll for a report."""
        self._due.pop(report, None)

    def _run(self) -> Process:
        while self._due:
            first = min(self._due.values())
            if first > self._time.now:
                yield first - self._time.now
                continue
            # Those that are due soon come along.
            due = [each for each, at in self._due.items() if at <= self._time.now + POKE_INTERVAL / 2]
            pause = POKE_INTERVAL
            for report in self._choose(due):
                if report in self._due:
                    yield from acquire(self._buckets["getReport"])
                    if not self._polled_alone(report):
                        pause = _PAUSE
                        break
            for report in due:
                if report in self._due:
                    self._due[report] = self._time.now + pause
        self._runs = False

    def _choose(self, due: list[Report]) -> list[Report]:
        """Return the reports to poll one by one, and read the listing for the others."""
        due = self._longest_unpolled(due)
        if len(due) <= FEW:
            return due
        single, page = (1 / self._buckets[each].rate for each in ("getReport", "getReports"))
        if len(due) * single <= self._pages(due) * page:
            return due[: max(FEW, int(POKE_INTERVAL / single))]
        if not self._reads:
            self._start_to_read(due)
        return due[: checked(len(due))]

    def _longest_unpolled(self, due: list[Report]) -> list[Report]:
        return sorted(due, key=lambda each: self._polled[each])

    def _pages(self, due: list[Report]) -> int:
        oldest = min(each.created for each in due)
        return max(math.ceil(len(self._account.finished_since(oldest)) / listing._PAGE_SIZE), 1)

    def _polled_alone(self, report: Report) -> bool:
        if not self._account.api.call("getReport"):
            self._buckets["getReport"].throttled()
            return False
        self._polled[report] = self._time.now
        self._tell(report)
        return True

    def _start_to_read(self, awaited: list[Report]) -> None:
        self._reads = True
        self._time.start(self._read(awaited))

    def _has_read(self) -> None:
        self._reads = False

    def _read(self, awaited: list[Report]) -> Process:
        """Read the listing, from the newest report to the oldest one that is awaited."""
        oldest, page = min(each.created for each in awaited), 0
        left = dict.fromkeys(awaited)
        while left:
            yield from acquire(self._buckets["getReports"])
            if not self._account.api.call("getReports"):
                self._buckets["getReports"].throttled()
                yield _PAUSE
                break
            listed = self._account.finished_since(oldest)[page * listing._PAGE_SIZE :]
            for report in listed[: listing._PAGE_SIZE]:
                self._listed(report, is_awaited=report in left)
                left.pop(report, None)
            if len(listed) <= listing._PAGE_SIZE:
                break
            page += 1
        self._has_read()

    def _listed(self, report: Report, *, is_awaited: bool) -> None:
        if is_awaited:
            self._tell(report)

    def _tell(self, report: Report) -> None:
        if report.ends <= self._time.now and self._due.pop(report, None) is not None:
            del self._polled[report]
            report.told(report)


def checked(listed: int) -> int:
    """Return how many of the listed reports are polled by themselves as well."""
    return min(max(listed // poller._CHECKED_SHARE, poller._CHECKED_MIN), poller._CHECKED_MAX)


@dataclass
class Triggerer:
    """A triggerer: its buckets and its pollers, by account."""

    time: VirtualTime
    buckets: dict[Account, Mapping[str, AnyBucket]] = field(default_factory=dict)
    pollers: dict[Account, Poller] = field(default_factory=dict)

    def of(self, account: Account) -> tuple[Mapping[str, AnyBucket], Poller]:
        """Return the buckets and the poller of an account."""
        if account not in self.buckets:
            self.buckets[account] = account.buckets()
            self.pollers[account] = Poller(self.time, account, self.buckets[account])
        return self.buckets[account], self.pollers[account]
