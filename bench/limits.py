"""What several processes make of one account's limit, with and without a limit store.

``python -m bench.limits [SCALE [ROW ...]]``: fresh tasks create reports in all sorts of processes, under the limit
of createReport, against the sandbox and a real Redis. The API's clock runs faster, and so do the limits: times are
in the API's seconds. A wait is compared with that of an ideal queue, which serves the same tasks in the order in
which they came, and never lets a permit wait for a task that is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.demo.airflow_server import airflow_settings
from airflow_provider_amzbiz.sandbox import Sandbox
from bench.figures import percentile
from bench.limited_call import CONN_ID, OPERATION
from dev.redis_server import RedisServer

SCALE = 20.0
RATE, BURST = USAGE_PLAN[OPERATION]


@dataclass(frozen=True)
class Row:
    """Which processes there are.

    :ivar triggerers: with so many tasks each, deferrable.
    :ivar workers: groups of worker slots, which are not deferrable, with so many tasks in all.
    """

    name: str
    triggerers: Sequence[int] = ()
    workers: Sequence[tuple[int, int]] = ()


ROWS = {
    "1": Row("1 triggerer, deferrable", triggerers=[120]),
    "2": Row("2 triggerers, deferrable", triggerers=[60, 60]),
    "4": Row("4 triggerers, deferrable", triggerers=[30] * 4),
    "16": Row("16 worker slots", workers=[(16, 120)]),
    "64": Row("64 worker slots", workers=[(64, 128)]),
    "128": Row("128 worker slots", workers=[(128, 300)]),
    "two": Row("2 deployments: a triggerer, and 16 worker slots", triggerers=[60], workers=[(16, 60)]),
}


def run(row: Row, scale: float, *, with_store: bool) -> dict[str, Any]:
    """Run a row, and return its figures."""
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(time_scale=scale, queue_seconds=0, processing_seconds=0))
        redis = stack.enter_context(RedisServer()) if with_store else None
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        commands = [
            *(["triggerer", str(tasks)] for tasks in row.triggerers),
            *(["workers", str(slots), str(tasks)] for slots, tasks in row.workers),
        ]
        started = [_start(command, number, scale, sandbox, redis, home) for number, command in enumerate(commands)]
        for each in started:
            # Ends what is left if one fails.
            stack.callback(each.kill)
        for each in started:
            _expect(each, "ready\n")
        for each in started:
            assert each.stdin
            each.stdin.write("go\n")
            each.stdin.flush()
        output = [each.communicate()[0] for each in started]
        if any(each.returncode for each in started):
            raise RuntimeError("A process has failed; its error is above")
        done = [json.loads(line) for each in output for line in each.splitlines()]
        calls = sandbox.count(OPERATION)
        throttled = sandbox.count(OPERATION, status=429)
    return {"row": row.name, "store": with_store, **_figures(done, scale), **_calls(calls, throttled, len(done))}


def _start(
    command: list[str], number: int, scale: float, sandbox: Sandbox, redis: RedisServer | None, home: Path
) -> subprocess.Popen[str]:
    limit = [RATE * scale, BURST]
    connection = sandbox.connection
    connection["extra"]["rate_limits"] = {OPERATION: limit}
    environment = {
        **os.environ,
        **airflow_settings(home, home),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    if redis:
        connection["extra"]["rate_limit_store"] = "bench_redis"
        store = {"conn_type": "redis", "host": "127.0.0.1", "port": redis.port}
        environment["AIRFLOW_CONN_BENCH_REDIS"] = json.dumps(store)
    environment[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps(connection)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.limiting", *command, str(scale)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    account = {
        "credentials": [
            sandbox.client_id,
            sandbox.client_secret,
            sandbox.refresh_token,
            sandbox.url,
            sandbox.token_url,
        ],
        "limit": limit,
        "redis_port": redis and redis.port,
        "source": f"process {number}",
    }
    assert process.stdin
    process.stdin.write(json.dumps(account) + "\n")
    process.stdin.flush()
    return process


def _expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout
    found = process.stdout.readline()
    if found != line:
        raise RuntimeError(f"A process has written {found!r}")


def _figures(done: Sequence[dict[str, Any]], scale: float) -> dict[str, Any]:
    worked = sorted((each for each in done if each["worked"]), key=lambda each: each["arrived"])
    start = worked[0]["arrived"]
    arrivals = [(each["arrived"] - start) * scale for each in worked]
    ends = [(each["ended"] - start) * scale for each in worked]
    ideal = ideal_queue(arrivals)
    waits = sorted(end - arrival for end, arrival in zip(ends, arrivals, strict=True))
    ideal_waits = sorted(end - arrival for end, arrival in zip(ideal, arrivals, strict=True))
    return {
        "tasks": len(done),
        "failed": len(done) - len(worked),
        "limit used %": USAGE_PLAN[OPERATION].min_seconds(len(worked)) / max(ends) * 100,
        "wait p50 s": percentile(waits, 0.5),
        "ideal p50 s": percentile(ideal_waits, 0.5),
        "wait p95 s": percentile(waits, 0.95),
        "ideal p95 s": percentile(ideal_waits, 0.95),
        "store failures": sum(each["store_failures"] for each in done),
        "worker s a task": sum(each["held"] for each in done) * scale / len(done),
    }


def _calls(calls: int, throttled: int, tasks: int) -> dict[str, float]:
    return {"429 %": throttled / calls * 100, "429 a task": throttled / tasks}


def ideal_queue(arrivals: Sequence[float]) -> list[float]:
    """Return when an ideal queue serves tasks that come at these times, in their order.

    :param arrivals: seconds, earliest first.
    """
    tokens, now, served = float(BURST), arrivals[0], []
    for arrival in arrivals:
        later = max(arrival, now)
        tokens, now = min(tokens + (later - now) * RATE, BURST), later
        if tokens < 1:
            now += (1 - tokens) / RATE
            tokens = 1.0
        tokens -= 1
        served.append(now)
    return served


def main() -> None:
    """Run all rows, or those that are named, and print their figures."""
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else SCALE
    for name in sys.argv[2:] or ROWS:
        for with_store in (True, False):
            figures = run(ROWS[name], scale, with_store=with_store).items()
            shown = (
                f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures
            )
            print(", ".join(shown), flush=True)


if __name__ == "__main__":
    main()
