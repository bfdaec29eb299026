"""Whether triggerers that wait for one account's reports should share what the listing shows, in virtual time.

``python -m bench.shared_polls``: the waits are spread over 1, 2 or 4 triggerers, which share a limit store. Their
reports were created as fast as the limit allows, and end in random order within ten minutes. The pollers are those
of the simulation, whose delays :mod:`bench.triggerers` confirms with real processes.

- ``own``: each triggerer polls for itself, as it is.
- ``told``: whoever has read a page of the listing tells the others which reports have ended.
- ``one``: all know how many waits there are together, and if they are many, one reads the listing for all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from unittest.mock import patch

from airflow_provider_amzbiz.client import shared_bucket
from airflow_provider_amzbiz.triggers.deadline_polls import FEW
from bench.figures import percentile, show
from bench.script_server import ScriptServer
from bench.simulated_account import Account, Poller, Report, checked
from bench.virtual_time import VirtualTime

DESIGNS = ("own", "told", "one")
TRIGGERERS = (1, 2, 4)
WAITS = (80, 400, 1000)
_START, _LONGEST, _BETWEEN_CREATES = 100_000.0, 600.0, 10.0


@dataclass
class _Shared:
    """What the triggerers have in common.

    :ivar ended: reports that the listing has shown to one of them.
    """

    ended: set[Report] = field(default_factory=set)
    pollers: list[SharingPoller] = field(default_factory=list)
    is_read: bool = False


class SharingPoller(Poller):
    """A poller that knows those of the other triggerers."""

    def __init__(self, time: VirtualTime, account: Account, shared: _Shared, design: str) -> None:
        super().__init__(time, account, account.buckets())
        self._shared = shared
        self._is_one = design == "one"
        shared.pollers.append(self)

    def _choose(self, due: list[Report]) -> list[Report]:
        # What has ended is polled once more, because only the fact is shared.
        told = [each for each in due if each in self._shared.ended]
        others = [each for each in due if each not in self._shared.ended]
        awaited = [each for poller in self._shared.pollers for each in poller.awaited]
        if not self._is_one or len(awaited) <= FEW:
            return told + super()._choose(others)
        if not self._shared.is_read:
            self._shared.is_read = True
            self._start_to_read(awaited)
        return told + self._longest_unpolled(others)[: checked(len(others))]

    def _has_read(self) -> None:
        super()._has_read()
        self._shared.is_read = False

    def _listed(self, report: Report, *, is_awaited: bool) -> None:
        self._shared.ended.add(report)
        super()._listed(report, is_awaited=is_awaited)


def run(design: str, triggerers: int, count: int) -> dict[str, float]:
    """Wait for so many reports in so many triggerers; return the seconds from their ends to the events."""
    time, randomness, late = VirtualTime(), random.Random(count), list[float]()
    time.now = _START
    account = Account(time, "account", ScriptServer(lambda: 1.8e9 + time.now))

    def told(report: Report) -> None:
        late.append(time.now - report.ends)

    for number in range(count, 0, -1):
        ends = _START + 120 + randomness.uniform(0, _LONGEST)
        account.reports.append(Report(_START - number * _BETWEEN_CREATES, ends, told))
    shared = _Shared()
    pollers = [_poller(design, time, account, shared) for _ in range(triggerers)]
    with patch.object(shared_bucket, "time", time):
        for number, report in enumerate(randomness.sample(account.reports, count)):
            pollers[number % triggerers].join(report)
        time.run(_START + 7200)
    late.sort()
    if len(late) != count:
        raise RuntimeError(f"{count - len(late)} reports have ended, and no poll has shown it")
    calls = account.api.calls
    return {
        "median delay s": percentile(late, 0.5),
        "p95 delay s": percentile(late, 0.95),
        "max delay s": late[-1],
        "getReports": calls["getReports"],
        "getReport": calls["getReport"],
    }


def _poller(design: str, time: VirtualTime, account: Account, shared: _Shared) -> Poller:
    if design == "own":
        return Poller(time, account, account.buckets())
    return SharingPoller(time, account, shared, design)


def main() -> None:
    """Print a line for each row."""
    for count in WAITS:
        for triggerers in TRIGGERERS:
            for design in DESIGNS if triggerers > 1 else DESIGNS[:1]:
                show(f"{count} waits, {triggerers} triggerers, {design}", run(design, triggerers, count))


if __name__ == "__main__":
    main()
