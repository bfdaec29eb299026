"""What waiting costs: one poller for all waits of an account, against one getReport loop for each wait.

``python -m bench.waits`` measures all of it, ``python -m bench.waits ended|joined|accounts [COUNT ...]`` a part:

- ``ended``: the reports end in random order within ten minutes of API time. Ours keeps to the account's limits.
  The plain design gets an API without limits, because under the limits it would not end.
- ``joined``: all waits join at once, as after a restart of the triggerer. Sensors know when their report was
  created; operators that created theirs know when they sent the request.
- ``accounts``: 20 waits for each of many accounts, with an API that takes 0.2 seconds, in real time.
"""

from __future__ import annotations

import json
import random
import secrets
import statistics
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict
from urllib.parse import parse_qs

from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from airflow_provider_amzbiz.sandbox.state import SandboxReport
from bench.figures import percentile, show
from bench.waiting_process import Result, WaitingProcess

TIME_SCALE = 10
# The reports end within this many seconds of the API's clock.
LONGEST = 600.0
# The limit of createReport.
BETWEEN_CREATES = timedelta(seconds=10)
DEFAULT = "amazon_business_default"

WAITS_OF_AN_ACCOUNT = 20
API_SECONDS = 0.2
# Real seconds: until all accounts have tokens and have been polled, then until the reports end.
WARM_UP, ENDING = 60.0, 120.0


def add_reports(sandbox: Sandbox, count: int, status: str = "DONE") -> list[SandboxReport]:
    """Add reports as an account creates them: as fast as its limit allows, the latest one now."""
    now = sandbox.clock.now()
    for number in range(count):
        sandbox.add_report(created=now - BETWEEN_CREATES * number, status=status)
    return list(sandbox.accounts[0].reports.values())


def end_at_random(reports: Sequence[SandboxReport], start: datetime, seconds: float) -> None:
    """Let reports end at random within some seconds of the API's clock after ``start``."""
    randomness = random.Random(len(reports))
    for report in reports:
        report.starts = start
        report.ends = start + timedelta(seconds=randomness.uniform(0, seconds))


def as_sensor(report: SandboxReport, conn_id: str = DEFAULT) -> dict[str, Any]:
    """Return the wait of a sensor, which knows the report's creation time from its first poll."""
    known = {"report_type": report.report_type, "created_time": report.created_time.isoformat()}
    return {"report_id": report.report_id, "conn_id": conn_id, **known}


def as_create(report: SandboxReport) -> dict[str, Any]:
    """Return the wait of an operator that created the report, and knows when it sent the request."""
    sent = report.created_time.timestamp()
    known = {"report_type": report.report_type, "created_between": [sent - 1, sent + 1]}
    return {"report_id": report.report_id, "conn_id": DEFAULT, **known}


def delays(result: Result, reports: Sequence[SandboxReport]) -> list[float]:
    """Return the seconds from the end of each report that was waited for to its event, shortest first."""
    ends = {each.report_id: each.ends for each in reports}
    return sorted((at - ends[report_id]).total_seconds() for report_id, at in result.ends.items())


def calls_of(sandbox: Sandbox) -> dict[str, float]:
    """Return the number of calls."""
    return {
        "getReports": sandbox.count("getReports"),
        "getReport": sandbox.count("getReport"),
        "throttled": sum(call.status == 429 for call in sandbox.calls),
    }


def ended(count: int, design: str) -> dict[str, float]:
    """Wait for reports that end in random order; return figures in the API's seconds."""
    with Sandbox(time_scale=TIME_SCALE, throttle=design == "ours") as sandbox:
        reports = add_reports(sandbox, count)
        end_at_random(reports, sandbox.clock.now() + timedelta(seconds=30), LONGEST)
        connection = sandbox.connection
        if design == "plain":
            limits = {"getReport": [100000, 100000]}
            connection["extra"]["rate_limits"] = json.dumps(limits)
        waits = [as_sensor(each) for each in reports]
        with WaitingProcess(sandbox, {DEFAULT: connection}, waits, design=design) as process:
            result = process.result()
        late = delays(result, reports)
        calls = sandbox.count("getReport") + sandbox.count("getReports")
        return {
            "waits": count,
            "calls": calls,
            **calls_of(sandbox),
            "calls a report": calls / count,
            "median delay s": statistics.median(late),
            "best possible s": best_possible(count),
            "p95 delay s": percentile(late, 0.95),
            "CPU s a minute": result.figures["cpu"] / (result.figures["wall"] * TIME_SCALE) * 60,
            "peak MB": result.figures["memory"] / 1e6,
        }


def best_possible(count: int) -> float:
    """Return the median delay of a reader that reads the listing without a pause, as fast as the limit allows.

    It reads the listing from the newest to the oldest awaited report, in pages of 100.
    """
    randomness = random.Random(count)
    ends = [30 + randomness.uniform(0, LONGEST) for _ in range(count)]
    limit = USAGE_PLAN["getReports"]
    seen: dict[int, float] = {}
    now = filled = 0.0
    permits = float(limit.burst)
    page = 0
    while len(seen) < count:
        oldest = max(number for number in range(count) if number not in seen)
        permits, filled = min(limit.burst, permits + (now - filled) * limit.rate), now
        if permits < 1:
            now += (1 - permits) / limit.rate + 1e-6
            continue
        permits -= 1
        ended = [number for number in range(oldest + 1) if ends[number] <= now]
        for number in ended[page * 100 : page * 100 + 100]:
            seen.setdefault(number, now)
        page = page + 1 if len(ended) > page * 100 + 100 else 0
    return statistics.median(seen[number] - ends[number] for number in range(count))


def joined(count: int, kind: str, *, ended: bool) -> dict[str, float]:
    """Let waits join at once; return the API's seconds until their events, or until their first polls.

    :param kind: ``sensor`` or ``create``.
    :param ended: True if all reports have ended, False if none ends.
    """
    wait_of = as_sensor if kind == "sensor" else as_create
    with Sandbox(time_scale=TIME_SCALE) as sandbox:
        reports = add_reports(sandbox, count, "DONE" if ended else "IN_QUEUE")
        first = FirstPolls(sandbox, reports)
        waits = [wait_of(each) for each in reports]
        until = None if ended else first.are_complete
        with WaitingProcess(sandbox, {DEFAULT: sandbox.connection}, waits) as process:
            result = process.result(until)
        moments = result.ends if ended else first.polls
        took = sorted((each - result.joined).total_seconds() for each in moments.values())
        return {
            "waits": count,
            "median s": statistics.median(took),
            "max s": took[-1],
            **calls_of(sandbox),
            "CPU s": result.figures["cpu"],
            "real s": result.figures["wall"],
        }


class FirstPolls:
    """When each of some reports that do not end was first polled, according to the sandbox's calls.

    A report is polled by getReport, or by a getReports that covers its creation time. The listing is filtered by
    final statuses, and no report has ended, so its first page is also its last.
    """

    def __init__(self, sandbox: Sandbox, reports: Collection[SandboxReport]) -> None:
        self.polls: dict[str, datetime] = {}
        self._sandbox = sandbox
        self._left = {report.report_id: report for report in reports}
        self._read = 0

    def are_complete(self) -> bool:
        """Return whether all have been polled."""
        calls = self._sandbox.calls
        # A call without a status is still in progress.
        while self._read < len(calls) and calls[self._read].status is not None:
            call = calls[self._read]
            self._read += 1
            if call.status == 200:
                for report_id in list(self._covered(call.operation, call.path, call.query)):
                    self.polls[report_id] = call.at
                    del self._left[report_id]
        return not self._left

    def _covered(self, operation: str, path: str, query: str) -> Iterator[str]:
        if operation == "getReport":
            report_id = path.rsplit("/", 1)[-1]
            yield from {report_id} & set(self._left)
        if operation == "getReports":
            filters = parse_qs(query)
            since = datetime.fromisoformat(filters["createdSince"][0])
            until = datetime.fromisoformat(filters["createdUntil"][0]) if "createdUntil" in filters else None
            for report_id, report in self._left.items():
                if since <= report.created_time and (until is None or report.created_time <= until):
                    yield report_id


class Credentials(TypedDict):
    """What an account logs in with."""

    client_id: str
    client_secret: str
    refresh_token: str


def long_credentials() -> Credentials:
    """Return random credentials as long as those of Login with Amazon, because Airflow's masker takes longer."""
    return {
        "client_id": f"amzn1.application-oa2-client.{secrets.token_hex(16)}",
        "client_secret": f"amzn1.oa2-cs.v1.{secrets.token_hex(32)}",
        "refresh_token": f"Atzr|{secrets.token_urlsafe(270)}",
    }


def of_accounts(count: int) -> dict[str, float]:
    """Wait for reports of many accounts, in real time."""
    with Sandbox() as sandbox:
        accounts = [sandbox.add_account(**long_credentials()) for _ in range(count)]
        reports = add_reports(sandbox, WAITS_OF_AN_ACCOUNT * count)
        sandbox.accounts[0].reports.clear()
        connections, waits = {}, []
        for number, account in enumerate(accounts):
            extra = {**sandbox.connection["extra"], "refresh_token": account.refresh_token}
            credentials = {"login": account.client_id, "password": account.client_secret, "extra": extra}
            conn_id = f"account_{number}"
            connections[conn_id] = {**sandbox.connection, **credentials}
            for report in reports[number::count]:
                account.add(report)
                waits.append(as_sensor(report, conn_id))
        sandbox.inject(Fault("*", "delay", seconds=API_SECONDS, times=None))
        end_at_random(reports, sandbox.clock.now() + timedelta(seconds=WARM_UP), ENDING)
        with WaitingProcess(sandbox, connections, waits, warm_up=WARM_UP) as process:
            result = process.result()
        late, figures = delays(result, reports), result.figures
        minutes = (sandbox.calls[-1].at - result.joined).total_seconds() / 60
        return {
            "accounts": count,
            "median delay s": statistics.median(late),
            "p95 delay s": percentile(late, 0.95),
            "max delay s": late[-1],
            "loop lag p50 ms": figures["lag_p50"] * 1e3,
            "loop lag p99 ms": figures["lag_p99"] * 1e3,
            "threads": figures["threads"],
            "peak MB": figures["memory"] / 1e6,
            "CPU %": figures["cpu"] / figures["wall"] * 100,
            "CPU s in all": figures["cpu_of_process"],
            "calls an account and minute": len(sandbox.calls) / count / minutes,
            "throttled": sum(call.status == 429 for call in sandbox.calls),
        }


def main() -> None:
    """Print a line for each row."""
    part, counts = (sys.argv[1:2] or ["all"])[0], [int(each) for each in sys.argv[2:]]
    if part in ("all", "ended"):
        for count in counts or [10, 100, 1000, 5000]:
            for design in ("ours", "plain") if count <= 1000 else ("ours",):
                show(design, ended(count, design))
    if part in ("all", "joined"):
        for count in counts or [100, 1000, 5000]:
            for kind in ("sensor", "create"):
                show(f"joined at once, by a {kind}, all ended", joined(count, kind, ended=True))
                show(f"joined at once, by a {kind}, none ended", joined(count, kind, ended=False))
    if part in ("all", "accounts"):
        for count in counts or [1, 10, 50, 100]:
            show("N accounts", of_accounts(count))


if __name__ == "__main__":
    main()
