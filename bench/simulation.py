"""Many accounts on many machines, simulated: how fast they are, what they use, and what breaks first.

``python -m bench.simulation``: 100 accounts, 10 triggerers and 50 worker slots, with a limit store and without it.
Each account gets its requests in one batch an hour (``ReportsToS3Operator``, deferrable). The clock is virtual.
Real are the token buckets, the limit store's script, which runs on data in memory, and a batch's engine, which
counts calls to S3. The rest is a model; its times are constants of :mod:`bench.simulated_batch`.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from unittest.mock import patch

from airflow_provider_amzbiz.client import shared_bucket
from bench.batch_scale import RUNNING_STINTS
from bench.batch_scale import Batch as BatchInS3
from bench.figures import percentile, show
from bench.limits import RATE, ideal_queue
from bench.script_server import ScriptServer
from bench.simulated_account import Account, Triggerer
from bench.simulated_batch import Batch, Machines
from bench.virtual_time import Process, Slots, VirtualTime

HOUR = 3600.0
# Documents that each account requests in a day; which of them is within the limit of createReport; and how many
# accounts request as many for how many hours.
LOADS = (5_000, 8_000, 10_000, 20_000, 50_000)
WITHIN = 8_000
MORE_ACCOUNTS = ((500, 1), (700, 1), (1_000, 1))
# Writes a second that S3 promises for one prefix.
S3_WRITES = 3500.0
# Seconds of one core: of a triggerer for one poll (bench.waits accounts), of Redis for one run of the script.
TRIGGERER_CALL, REDIS_CALL = 0.001, 0.00008
# Unix time at which a simulation starts.
_EPOCH = 1_800_000_000.0


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    :ivar documents: that each account requests in a day.
    :ivar hours: how long.
    """

    accounts: int = 100
    documents: int = 10_000
    triggerers: int = 10
    slots: int = 50
    with_store: bool = True
    hours: int = 4
    seed: int = 17

    def requests(self, hour: int) -> int:
        """Return how many requests an account gets at the start of an hour."""
        return self.documents * (hour + 1) // 24 - self.documents * hour // 24


def run(scenario: Scenario) -> dict[str, float]:
    """Simulate, and return the figures."""
    time = VirtualTime()
    store = ScriptServer(lambda: _EPOCH + time.now) if scenario.with_store else None
    machines = Machines(
        time,
        Slots(time, scenario.slots),
        [Triggerer(time) for _ in range(scenario.triggerers)],
        random.Random(scenario.seed),
    )
    accounts = [Account(time, f"account{number}", store) for number in range(scenario.accounts)]
    for number, account in enumerate(accounts):
        time.start(_days_work(scenario, machines, account, number))
    time.start(_sample(machines))
    with patch.object(shared_bucket, "time", time):
        time.run(scenario.hours * HOUR)
    return {**_documents(scenario, machines), **_use(scenario, machines, accounts, store)}


def _days_work(scenario: Scenario, machines: Machines, account: Account, number: int) -> Process:
    for hour in range(scenario.hours):
        batch = Batch(machines, account, f"{number}-{hour}", scenario.requests(hour))
        machines.time.start(batch.run())
        yield HOUR


def _sample(machines: Machines) -> Process:
    while True:
        yield 60.0
        machines.rows.append(machines.triggers)


def _documents(scenario: Scenario, machines: Machines) -> dict[str, float]:
    """Return what has become of the documents, and what an ideal queue of each account would have made of them."""
    requested = [hour * HOUR for hour in range(scenario.hours) for _ in range(scenario.requests(hour))]
    possible = [
        at - since
        for since, at in zip(requested, ideal_queue(requested), strict=True)
        if at <= scenario.hours * HOUR
    ]
    figures: dict[str, float] = {
        "requested": len(requested) * scenario.accounts,
        "created": len(machines.created),
        "stored": len(machines.stored),
        "of possible %": len(machines.created) / (len(possible) * scenario.accounts) * 100,
    }
    waits = {
        "to create": [at - since for since, at in machines.created],
        "ideal": possible,
        "to store": [at - since for since, at in machines.stored],
        "DONE to known": machines.known_after,
    }
    for name, seconds in waits.items():
        seconds.sort()
        figures |= {f"{name} p{share} min": percentile(seconds, share / 100) / 60 for share in (50, 95)}
    return figures


def _use(
    scenario: Scenario, machines: Machines, accounts: Sequence[Account], store: ScriptServer | None
) -> dict[str, float]:
    """Return what was used of everything."""
    calls: Counter[str] = Counter()
    throttled: Counter[str] = Counter()
    for account in accounts:
        calls += account.api.calls
        throttled += account.api.throttled
    seconds, slots = scenario.hours * HOUR, machines.slots
    slots.waits.sort()
    polls = calls["getReport"] + calls["getReports"]
    return {
        "calls a document": calls.total() / len(machines.stored),
        "polls a document": polls / len(machines.stored),
        "429 %": throttled.total() / calls.total() * 100,
        "429 % of createReport": throttled["createReport"] / calls["createReport"] * 100,
        "worker s a document": slots.held_seconds / len(machines.stored),
        "slots held": slots.held_seconds / seconds,
        "slots held at most": slots.most,
        "wait for a slot p95 s": percentile(slots.waits, 0.95),
        "task starts a second": machines.stints / seconds,
        "trigger rows": statistics.mean(machines.rows),
        "trigger rows at most": max(machines.rows),
        "CPU of a triggerer %": polls / seconds / scenario.triggerers * TRIGGERER_CALL * 100,
        "Redis calls a document": store.calls / len(machines.stored) if store else 0.0,
        "CPU of Redis %": store.calls / seconds * REDIS_CALL * 100 if store else 0.0,
    }


def calls_to_s3(requests: int) -> float:
    """Return how many calls to S3 the engine of a batch makes for each request, with one for its document."""
    batch = BatchInS3(requests, RUNNING_STINTS)
    while not batch.stint.state.is_finished:
        batch.go_on()
    batch.stint.complete()
    return batch.bucket.calls / requests + 1


def first_to_break(scenario: Scenario, figures: Mapping[str, float]) -> list[tuple[float, str]]:
    """Return how many times the load each thing can take, the one that breaks first before the others."""
    a_second = scenario.accounts * scenario.documents / 86400
    capacity = {
        "the limit of createReport": RATE / (scenario.documents / 86400),
        "worker slots": scenario.slots / (figures["worker s a document"] * a_second),
        "a core of each triggerer": 100 / figures["CPU of a triggerer %"],
        "writes to one S3 prefix": S3_WRITES / (calls_to_s3(scenario.requests(0)) * a_second),
        "a core of Redis": 100 / figures["CPU of Redis %"],
    }
    return sorted((times, name) for name, times in capacity.items())


def main() -> None:
    """Simulate more and more documents, and then more and more accounts."""
    for documents in LOADS:
        for with_store in (True, False):
            scenario = Scenario(documents=documents, with_store=with_store)
            figures = run(scenario)
            show(f"{documents} documents a day, {'with' if with_store else 'without'} a store", figures)
            if documents == WITHIN and with_store:
                print("It can take, times:")
                for times, name in first_to_break(scenario, figures):
                    print(f"  {times:.3g} {name}", flush=True)
    for accounts, hours in MORE_ACCOUNTS:
        scenario = Scenario(accounts, WITHIN, hours=hours)
        show(f"{accounts} accounts, {WITHIN} documents a day", run(scenario))


if __name__ == "__main__":
    main()
