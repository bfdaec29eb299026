"""Processes that create reports under one account's limit, as workers and triggerers do, and measure themselves.

``python -m bench.limiting workers SLOTS TASKS SCALE``: so many worker slots, each of which runs its share of the
tasks one after the other, each task in a process of its own, which waits for its permit there.

``python -m bench.limiting triggerer TASKS SCALE``: tasks that wait for their permits in this process, with the
provider's trigger, and then make their call in a process of their own.

Both read the account from standard input as JSON, print ``ready``, begin with the next line of standard input, and
print one JSON line for each task. Times are Unix times.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.limited_call import CONN_ID, OPERATION, call_with_permit, create, nothing

# Seconds of the API's clock: how long a call may wait on its worker; how long Airflow takes from the event of a
# trigger to the task's call; the download and upload that follow a call.
MAX_WAIT, RESUME, WORK = 3600.0, (1.0, 8.0), 5.0
CALLERS = 6


def workers(slots: int, tasks: int, scale: float, account: Mapping[str, Any]) -> None:
    """Run the tasks in so many slots."""
    children = []
    for slot in range(slots):
        if child := os.fork():
            children.append(child)
            continue
        time.sleep(random.Random(slot).uniform(0, 3) / scale)
        for _ in range(slot, tasks, slots):
            if task := os.fork():
                os.waitpid(task, 0)
                continue
            # A task is a fresh process, which knows nothing of what was.
            random.seed()
            done = create(account, MAX_WAIT / scale, granted=False, is_mapped=True)
            time.sleep(WORK / scale)
            done["held"] += WORK / scale
            os.write(1, (json.dumps(done) + "\n").encode())
            os._exit(0)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)


async def triggerer(tasks: int, scale: float, account: Mapping[str, Any], callers: Any) -> None:
    """Let the tasks wait in this process."""
    from airflow_provider_amzbiz.triggers.connections import wait_for_hook
    from airflow_provider_amzbiz.triggers.permits import PermitTrigger

    async def task() -> None:
        arrived, held, throttled_at = time.time(), 0.0, None
        while True:
            trigger = PermitTrigger(
                operation=OPERATION,
                amazon_business_conn_id=CONN_ID,
                since=arrived,
                throttled_at=throttled_at,
                had_permit=throttled_at is not None,
            )
            await trigger.wait()
            granted = time.time()
            await asyncio.sleep(random.uniform(*RESUME) / scale)
            done = await asyncio.wrap_future(callers(account))
            held += done["held"]
            if done["worked"]:
                # The wait ends with the permit, as on a worker; what follows is Airflow's.
                done |= {"arrived": arrived, "ended": granted, "held": held + WORK / scale}
                print(json.dumps(done), flush=True)
                return
            throttled_at = time.time()

    # A triggerer runs for weeks, and has read the connection long ago.
    await wait_for_hook(CONN_ID)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(task() for _ in range(tasks)))


def main() -> None:
    """Run what the command line asks for."""
    logging.disable(logging.CRITICAL)
    kind, *numbers = sys.argv[1:]
    account = json.loads(sys.stdin.readline())
    if kind == "workers":
        # With a fast clock, the import in each task's process would take the API's minutes.
        importlib.import_module("redis.cluster")
        importlib.import_module("requests")
        print("ready", flush=True)
        sys.stdin.readline()
        workers(int(numbers[0]), int(numbers[1]), float(numbers[2]), account)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.limited_call", "redis.cluster", "requests"])
    with context.Pool(CALLERS, maxtasksperchild=1) as pool, ThreadPoolExecutor(64) as threads:
        pool.apply(nothing)

        def call(of: Mapping[str, Any]) -> Future[Any]:
            return threads.submit(pool.apply, call_with_permit, (of,))

        asyncio.run(triggerer(int(numbers[0]), float(numbers[1]), account, call))


if __name__ == "__main__":
    main()
