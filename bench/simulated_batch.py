"""A batch in a simulation: its task on a worker, and its trigger."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from airflow_provider_amzbiz.client.token_bucket import AnyBucket
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.triggers import batch as trigger
from airflow_provider_amzbiz.triggers.base import MIN_DEFER_SECONDS
from bench.simulated_account import Account, Report, Triggerer, acquire
from bench.virtual_time import Process, Signal, Slots, VirtualTime, Wait

# Seconds from the event of a trigger until a slot is asked for, and from a deferral to the start of the trigger.
RESUME, PICK_UP = (1.0, 8.0), (0.5, 2.0)
# Seconds on a worker: Airflow's process until the task's code runs, and the record in S3; a call of createReport;
# a document with its getReportDocument. So many of these run at a time.
START, BOOKKEEPING, CREATE, STORE, THREADS = 3.0, 0.6, 0.4, 1.0, 4
# Seconds from the create of a report to its end.
REPORT = (120.0, 600.0)


@dataclass
class Machines:
    """What all batches share.

    :ivar triggers: rows of triggers that there are now.
    :ivar stints: how often a task ran.
    :ivar created: for each report, when it was requested and created.
    :ivar stored: for each document, when it was requested and stored.
    :ivar known_after: for each report, the seconds from its end to the poll that has shown it.
    :ivar rows: ``triggers``, once a minute.
    """

    time: VirtualTime
    slots: Slots
    triggerers: list[Triggerer]
    randomness: random.Random
    triggers: int = 0
    stints: int = 0
    created: list[tuple[float, float]] = field(default_factory=list)
    stored: list[tuple[float, float]] = field(default_factory=list)
    known_after: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


class Batch:
    """A batch of an account.

    :param name: of the batch, which no other one has.
    :param count: requests.
    """

    def __init__(self, machines: Machines, account: Account, name: str, count: int) -> None:
        self._machines = machines
        self._time = machines.time
        self._account = account
        self._name = name
        self._left = self._to_create = count
        self._requested = machines.time.now
        self._running: dict[Report, None] = {}
        self._to_store: list[Report] = []
        self._ready_since = 0.0
        self._news = Signal(machines.time)
        self._throttled: set[str] = set()

    def run(self) -> Process:
        """Do the batch."""
        machines = self._machines
        yield from machines.slots.hold(self._begin())
        stint = 0
        while self._left:
            stint += 1
            machines.triggers += 1
            yield machines.randomness.uniform(*PICK_UP)
            started = self._time.now
            permits: dict[str, int] = {}
            yield from self._wait(
                machines.randomness.choice(machines.triggerers), f"{self._name}-{stint}", permits
            )
            yield started + MIN_DEFER_SECONDS - self._time.now
            machines.triggers -= 1
            yield machines.randomness.uniform(*RESUME)
            yield from machines.slots.hold(self._stint(permits))

    def _begin(self) -> Process:
        self._machines.stints += 1
        yield START + BOOKKEEPING

    def _wait(self, triggerer: Triggerer, name: str, permits: dict[str, int]) -> Process:
        """Wait as the trigger does, and fill in the permits that its event has."""
        buckets, poller = triggerer.of(self._account)
        for operation in sorted(self._throttled):
            if not buckets[operation].is_shared:
                buckets[operation].throttled()
        self._ready_since = self._time.now
        waiting = list(self._running)
        for report in waiting:
            report.told = self._told
            poller.join(report)
        creating, storing = buckets["createReport"], buckets["getReportDocument"]
        if creates := min(self._to_create, trigger._handful(creating)):
            yield from acquire(creating, creates, name)
        while not creates and not self._should_fire(storing):
            yield Wait(self._news, max(self._ready_since + trigger.HOLD - self._time.now, 1.0))
        stores = min(len(self._to_store), trigger._handful(storing))
        if stores and creates:
            stores = storing.take_up_to(stores)
        elif stores:
            yield from acquire(storing, stores)
        for report in waiting:
            poller.leave(report)
        permits |= {"createReport": creates, "getReportDocument": stores}

    def _should_fire(self, storing: AnyBucket) -> bool:
        ready = len(self._to_store)
        held = self._time.now - self._ready_since
        return not self._running or ready >= trigger._handful(storing) or (ready > 0 and held >= trigger.HOLD)

    def _told(self, report: Report) -> None:
        del self._running[report]
        self._machines.known_after.append(self._time.now - report.ends)
        if not self._to_store:
            self._ready_since = self._time.now
        self._to_store.append(report)
        self._news.set()

    def _stint(self, permits: Mapping[str, int]) -> Process:
        """Use the permits, in a process of its own."""
        self._machines.stints += 1
        buckets = self._account.buckets()
        self._throttled = set()
        yield START + BOOKKEEPING
        self._to_create -= permits["createReport"]
        yield from self._calls(buckets, "createReport", CREATE, [self._create] * permits["createReport"])
        due = self._to_store[: permits["getReportDocument"]]
        del self._to_store[: len(due)]
        stores = [partial(self._store, report) for report in due]
        yield from self._calls(buckets, "getReportDocument", STORE, stores)

    def _calls(
        self,
        buckets: Mapping[str, AnyBucket],
        operation: str,
        seconds: float,
        then: Sequence[Callable[[bool], None]],
    ) -> Process:
        """Call an operation some times, and tell each caller whether that worked."""
        for start in range(0, len(then), THREADS):
            given = [self._account.api.call(operation) for _ in then[start : start + THREADS]]
            yield seconds
            for one, is_given in zip(then[start : start + THREADS], given, strict=True):
                if is_given:
                    buckets[operation].learn(USAGE_PLAN[operation].rate)
                else:
                    buckets[operation].throttled()
                    self._throttled.add(operation)
                one(is_given)

    def _create(self, is_given: bool) -> None:
        if not is_given:
            self._to_create += 1
            return
        now = self._time.now
        report = Report(now, now + self._machines.randomness.uniform(*REPORT), self._told)
        self._running[report] = None
        self._account.reports.append(report)
        self._machines.created.append((self._requested, now))

    def _store(self, report: Report, is_given: bool) -> None:
        if not is_given:
            self._to_store.append(report)
            return
        self._left -= 1
        self._machines.stored.append((self._requested, self._time.now))
