"""How late several triggerers notice that one account's reports have ended, because each of them polls for itself.

``python -m bench.triggerers [WAITS ...]``: Airflow has spread the account's waits over 1, 2 or 4 triggerers, which
share the limits through a real Redis, or do not. The reports end in random order within ten minutes. The API's
clock runs faster; times are in its seconds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from airflow_provider_amzbiz.sandbox import Sandbox
from bench.figures import percentile, show
from bench.waiting_process import WaitingProcess
from bench.waits import DEFAULT, LONGEST, add_reports, as_sensor, calls_of, delays, end_at_random
from dev.redis_server import RedisServer

TIME_SCALE = 10
TRIGGERERS = (1, 2, 4)
WAITS = (400,)
_STORE = "bench_redis"


def waits_of(triggerers: int, waits: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Spread waits as Airflow does: each triggerer takes what it sees first."""
    shuffled = list(waits)
    random.Random(len(waits)).shuffle(shuffled)
    return [shuffled[number::triggerers] for number in range(triggerers)]


def run(triggerers: int, count: int, *, with_store: bool) -> dict[str, float]:
    """Wait for so many reports in so many processes; return figures in the API's seconds."""
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(time_scale=TIME_SCALE))
        connections = {DEFAULT: sandbox.connection}
        if with_store:
            redis = stack.enter_context(RedisServer())
            connections[_STORE] = {"conn_type": "redis", "host": "127.0.0.1", "port": redis.port}
            connections[DEFAULT]["extra"]["rate_limit_store"] = _STORE
        reports = add_reports(sandbox, count)
        # Not while the processes start, which takes a minute of this clock.
        end_at_random(reports, sandbox.clock.now() + timedelta(seconds=120), LONGEST)
        processes = [
            stack.enter_context(WaitingProcess(sandbox, connections, waits))
            for waits in waits_of(triggerers, [as_sensor(each) for each in reports])
        ]
        results = [each.result() for each in processes]
        late = sorted(delay for result in results for delay in delays(result, reports))
        calls = calls_of(sandbox)
        return {
            "median delay s": percentile(late, 0.5),
            "p95 delay s": percentile(late, 0.95),
            "max delay s": late[-1],
            **calls,
            "429 %": calls["throttled"] / (calls["getReports"] + calls["getReport"]) * 100,
        }


def main() -> None:
    """Print a line for each row."""
    for count in [int(each) for each in sys.argv[1:]] or WAITS:
        for triggerers in TRIGGERERS:
            for with_store in (True, False) if triggerers > 1 else (False,):
                store = "with" if with_store else "without"
                name = f"{count} waits, {triggerers} triggerer{'s' if triggerers > 1 else ''}, {store} a store"
                show(name, run(triggerers, count, with_store=with_store))


if __name__ == "__main__":
    main()
