"""How close to the limit a batch comes: 1,000 reports through the batch operator's own loop.

``python -m bench.quota [COUNT [TIME_SCALE]]``. The API's clock runs faster, the worker's does not: the worker's
seconds are real ones, and the API's time is divided by the scale.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from airflow_provider_amzbiz.demo.airflow_server import airflow_settings
from airflow_provider_amzbiz.demo.s3_server import S3Server
from airflow_provider_amzbiz.sandbox import Sandbox

BATCH = """
import asyncio, importlib, json, sys, time
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers import base
count, scale = int(sys.argv[1]), float(sys.argv[2])
base.MIN_DEFER_SECONDS /= scale

class TaskInstance:
    dag_id, task_id, run_id, map_index, try_number = "bench", "batch", "run", -1, 1

def batch():
    return ReportsToS3Operator(
        task_id="batch", deferrable=True, s3_bucket="bench", s3_key="{invoiceId}.pdf", poke_interval=15 / scale,
        requests=[
            {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": str(n)}} for n in range(count)
        ],
    )

async def event_of(deferred):
    path, arguments = deferred.trigger.serialize()
    module, name = path.rsplit(".", 1)
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
    return [event.payload async for event in trigger.run()][0]

context, held, stints = {"ti": TaskInstance()}, 0.0, 0
start = time.monotonic()
step = lambda: batch().execute(context)
while True:
    began = time.monotonic()
    try:
        result = step()
    except TaskDeferred as deferred:
        held, stints = held + time.monotonic() - began, stints + 1
        event = asyncio.run(event_of(deferred))
        step = lambda: batch().execute_complete(context, event)
    else:
        held, stints = held + time.monotonic() - began, stints + 1
        break
print(json.dumps({"wall": time.monotonic() - start, "held": held, "stints": stints, **result}))
"""


def main() -> None:
    """Run a batch and print its figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    scale = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    with Sandbox(time_scale=scale) as sandbox, S3Server() as s3, tempfile.TemporaryDirectory() as home:
        s3.make_bucket("bench")
        environment = {
            **os.environ,
            **airflow_settings(Path(home), Path(home)),
            "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT": json.dumps(sandbox.connection),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(s3.airflow_connection),
        }
        done = subprocess.run(
            [sys.executable, "-c", BATCH, str(count), str(scale)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
        result = json.loads(done.stdout.splitlines()[-1])
        calls = Counter(call.operation for call in sandbox.calls)
        throttled = sum(call.status == 429 for call in sandbox.calls)
    minimum = (count - 15) / 0.1
    took = result["wall"] * scale
    print(f"{count} reports, {result['landed']} stored, in {took / 60:.1f} minutes of the API's time")
    print(f"minimum under the limit {minimum / 60:.1f} minutes: {minimum / took:.1%} of the possible throughput")
    print("calls:", ", ".join(f"{operation} {number}" for operation, number in sorted(calls.items())))
    print(f"throttled (429): {throttled}, {throttled / sum(calls.values()):.2%} of all calls")
    print(
        f"on a worker: {result['held']:.1f} s in {result['stints']} stints, "
        f"{result['held'] / result['wall']:.2%} of the wall time at this clock, "
        f"{result['held'] / took:.2%} of the API's time"
    )


if __name__ == "__main__":
    main()
