"""What a triggerer holds while it has nothing to do, and whether that grows."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import psutil

from airflow_provider_amzbiz.triggers.base import MAX_THREADS
from dev.airflow_cluster import AirflowCluster
from e2e.pipelines import wait_until

# Threads of pools, which make them one by one as calls come at the same time, and keep them: the pool of the
# provider's triggers, and the default executor of the event loop, whose maximum Python sets.
POOL, LOOP_POOL = "amazon-business", "asyncio"
LOOP_POOL_THREADS = min(32, (psutil.cpu_count() or 1) + 4)


def holdings(airflow: AirflowCluster, part: str) -> dict[str, int]:
    """Return the memory, handles and threads of a part's processes.

    ``uss`` is the unique set size in MiB; ``threads`` are those that are in no pool.
    """
    processes = airflow.processes(part)
    names = [name for each in processes for name in thread_names(airflow, each)]
    # A second pool would repeat the names of the first.
    ours = [each for each in names if each.startswith(f"{POOL}_")]
    assert len(set(ours)) == len(ours), sorted(names)
    of_loop = [each for each in names if each.startswith(f"{LOOP_POOL}_")]
    return {
        "uss": round(sum(each.memory_full_info().uss for each in processes) / 1024**2),
        "handles": sum(each.num_fds() for each in processes),
        "pool threads": len(ours),
        "loop pool threads": len(of_loop),
        "threads": sum(each.num_threads() for each in processes) - len(ours) - len(of_loop),
    }


def thread_names(airflow: AirflowCluster, process: Any) -> list[str]:
    """Return the names of a process's Python threads, as e2e/in_airflow/sitecustomize.py writes them."""
    path = airflow.home / f"threads-{process.pid}"
    path.unlink(missing_ok=True)
    process.send_signal(signal.SIGRTMIN)
    wait_until(path.exists, 30)
    return path.read_text().splitlines()


def assert_no_leak(samples: Sequence[dict[str, int]]) -> None:
    """Assert that the last sample holds what the first one does, give or take a little."""
    first, last = samples[0], samples[-1]
    assert 0 < last["pool threads"] <= MAX_THREADS
    assert last["loop pool threads"] <= LOOP_POOL_THREADS
    assert last["threads"] <= first["threads"] + 3
    assert last["handles"] <= first["handles"] + 10
    assert last["uss"] <= first["uss"] * 1.15 + 10
