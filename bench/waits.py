"""What waiting costs: one poller for all waits of an account, and a getReport loop for each.

``python -m bench.waits [COUNT ...]``. The reports end in random order within ten minutes of API time. Ours keeps
to the account's limits. The plain design could not: it is given an API without limits, or it would not end.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_server import airflow_settings

TIME_SCALE = 10
# Of the API's seconds.
POKE_INTERVAL = 15.0
LONGEST = 600.0

WAITING = """
import asyncio, json, sys, time
from airflow_provider_amzbiz.triggers import running
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger
from bench.waits import memory, plain_wait
design, scale, waits = sys.argv[1], float(sys.argv[2]), json.load(sys.stdin)
running.SETTLE /= scale

async def ours(report_id, report_type, created_time):
    trigger = ReportStatusTrigger(
        report_id=report_id, report_type=report_type, created_time=created_time, poke_interval=15 / scale,
        amazon_business_conn_id="amazon_business_default", deadline=time.time() + 7200, young_until=0,
    )
    events = [event.payload async for event in trigger.run()]
    assert [event["status"] for event in events] == ["ended"], events
    return report_id, time.time()

async def main():
    one = ours if design == "ours" else plain_wait
    return await asyncio.gather(*[one(*each) for each in waits])

idle, cpu, start = memory(), time.process_time(), time.monotonic()
ends = asyncio.run(main())
wall = time.monotonic() - start
print(json.dumps({
    "ends": dict(ends), "wall": wall, "cpu": time.process_time() - cpu,
    "memory": memory("VmHWM"), "above_idle": memory("VmHWM") - idle,
}))
"""


def memory(name: str = "VmRSS") -> int:
    """Return the process's memory in bytes."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


async def plain_wait(report_id: str, *_: str) -> tuple[str, float]:
    """Wait as a trigger does that knows of no other."""
    import asyncio

    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

    hook = AmazonBusinessHook(max_throttle_wait=7200)
    while True:
        await asyncio.sleep(POKE_INTERVAL / TIME_SCALE * random.uniform(0.9, 1.1))
        if (await asyncio.to_thread(hook.get_report, report_id)).is_terminal:
            return report_id, time.time()


def measure(count: int, design: str) -> dict[str, float]:
    """Run so many waits in a process of their own; return figures in the API's seconds."""
    randomness = random.Random(count)
    with Sandbox(time_scale=TIME_SCALE, throttle=design == "ours") as sandbox:
        ids = [sandbox.add_report() for _ in range(count)]
        start = sandbox.clock.now()
        for number, report_id in enumerate(ids):
            report = sandbox.accounts[0].reports[report_id]
            # As the limit of createReport lets them be created, one in ten seconds.
            report.created_time = start - timedelta(seconds=10 * number)
            report.starts = start
            report.ends = start + timedelta(seconds=30 + randomness.uniform(0, LONGEST))
        reports = sandbox.accounts[0].reports
        connection = {**sandbox.connection}
        if design == "plain":
            limits = {"getReport": [100000, 100000]}
            connection["extra"] = {**connection["extra"], "rate_limits": json.dumps(limits)}
        with tempfile.TemporaryDirectory() as home:
            environment = {
                **os.environ,
                **airflow_settings(Path(home), Path(home)),
                "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT": json.dumps(connection),
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            }
            waits = [[each, reports[each].report_type, reports[each].created_time.isoformat()] for each in ids]
            # The ends are told in real time, the reports' in the API's.
            real, api = time.time(), sandbox.clock.now()
            done = subprocess.run(
                [sys.executable, "-c", WAITING, design, str(TIME_SCALE)],
                input=json.dumps(waits),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(done.stderr[-3000:])
        result = json.loads(done.stdout.splitlines()[-1])
        delays = sorted(
            (ended - real) * TIME_SCALE - (reports[each].ends - api).total_seconds()
            for each, ended in result["ends"].items()
        )
        calls = sandbox.count("getReport") + sandbox.count("getReports")
        return {
            "waits": count,
            "calls": calls,
            "getReports": sandbox.count("getReports"),
            "getReport": sandbox.count("getReport"),
            "refused": sum(call.status == 429 for call in sandbox.calls),
            "calls a report": calls / count,
            "median delay s": statistics.median(delays),
            "best possible s": best_possible(count),
            "p95 delay s": delays[int(len(delays) * 0.95)],
            "CPU s a minute": result["cpu"] / (result["wall"] * TIME_SCALE) * 60,
            "peak MB": result["memory"] / 1e6,
        }


def best_possible(count: int) -> float:
    """Return the median delay of one who reads the listing without a pause, as fast as its limit lets him.

    The listing is read from the newest to the oldest report that is waited for, in pages of 100.
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


def main() -> None:
    """Print a line for each count and design."""
    counts = [int(each) for each in sys.argv[1:]] or [10, 100, 1000, 5000]
    for count in counts:
        for design in ("ours", "plain") if count <= 1000 else ("ours",):
            figures = measure(count, design)
            print(design.ljust(6), ", ".join(f"{name} {value:.6g}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
