"""A process that waits for reports as a triggerer does, and measures itself.

``python -m bench.waiting DESIGN SCALE WARM_UP`` reads a JSON list of waits from standard input: ``report_id``,
``conn_id``, and further parameters of :class:`.ReportStatusTrigger`. It prints the Unix time at which all waits
join. It prints its figures when all have ended, or on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers import base
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger

# Seconds of the API's clock.
POKE_INTERVAL = 15.0
# Seconds between two samples of the event loop's lag.
_SAMPLE_SECONDS = 0.05


def memory(name: str = "VmRSS") -> int:
    """Return the process's memory in bytes."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


async def _shared_wait(scale: float, report_id: str, conn_id: str, **known: Any) -> None:
    """Wait with the provider's trigger."""
    trigger = ReportStatusTrigger(
        report_id=report_id,
        amazon_business_conn_id=conn_id,
        poke_interval=POKE_INTERVAL / scale,
        deadline=time.time() + 7200,
        not_found_grace_until=0,
        **known,
    )
    events = [event.payload async for event in trigger.run()]
    if [event["status"] for event in events] != ["ended"]:
        raise RuntimeError(f"The wait for report {report_id} fired {events}")


async def _plain_wait(scale: float, report_id: str, conn_id: str, **_: Any) -> None:
    """Wait as a trigger does that shares nothing with others."""
    hook = AmazonBusinessHook(conn_id, max_throttle_wait=7200)
    ended = False
    while not ended:
        await asyncio.sleep(POKE_INTERVAL / scale * random.uniform(0.9, 1.1))
        ended = (await asyncio.to_thread(hook.get_report, report_id)).is_terminal


class _Figures:
    """What the process uses after its warm-up."""

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self._idle = memory()
        self._restart()

    def _restart(self) -> None:
        self._start, self._cpu, self._lags, self._threads = time.monotonic(), time.process_time(), [0.0], 0

    async def sample(self, warm_up: float) -> None:
        """Sample the loop's lag and the threads until cancelled."""
        warm_at: float | None = time.monotonic() + warm_up
        while True:
            if warm_at and time.monotonic() >= warm_at:
                warm_at = None
                self._restart()
            before = time.monotonic()
            await asyncio.sleep(_SAMPLE_SECONDS)
            self._lags.append(time.monotonic() - before - _SAMPLE_SECONDS)
            self._threads = max(self._threads, threading.active_count())

    def report(self) -> dict[str, Any]:
        lags = sorted(self._lags)
        return {
            "ends": self.ends,
            "wall": time.monotonic() - self._start,
            "cpu": time.process_time() - self._cpu,
            "cpu_of_process": time.process_time(),
            "memory": memory("VmHWM"),
            "above_idle": memory("VmHWM") - self._idle,
            "threads": self._threads,
            "lag_p50": lags[len(lags) // 2],
            "lag_p99": lags[int(len(lags) * 0.99)],
        }


async def _wait_for_all(design: str, scale: float, warm_up: float, waits: list[dict[str, Any]]) -> dict[str, Any]:
    figures = _Figures()
    wait = _shared_wait if design == "ours" else _plain_wait

    async def one(known: dict[str, Any]) -> None:
        await wait(scale, **known)
        figures.ends[known["report_id"]] = time.time()

    sampling = asyncio.create_task(figures.sample(warm_up))
    all_of_them = asyncio.gather(*[one(each) for each in waits])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, all_of_them.cancel)
    print(time.time(), flush=True)
    with suppress(asyncio.CancelledError):
        await all_of_them
    sampling.cancel()
    return figures.report()


def main() -> None:
    """Wait."""
    design, scale, warm_up = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    base.MIN_DEFER_SECONDS /= scale
    print(json.dumps(asyncio.run(_wait_for_all(design, scale, warm_up, json.load(sys.stdin)))), flush=True)


if __name__ == "__main__":
    main()
