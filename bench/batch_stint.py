"""One stint of a batch, as a worker does it: rendering, the operator, and the row of its trigger.

``python -m bench.batch_stint COUNT EVENT``: where there is no file EVENT, the batch begins, and its first stint
that creates follows. :mod:`bench.batch_scale` starts it, with connections in the environment.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

BUCKET = "bench"
KEY = "invoices/{invoiceId}.pdf"
OWNER = {"dag_id": "bench", "run_id": "run", "task_id": "batch", "map_index": -1}
MANIFEST_KEY = "invoices/_manifests/bench/run/batch.json"


def requests_of(count: int) -> list[dict[str, Any]]:
    """Return the list of requests, as a DAG has it."""
    return [
        {
            "report_type": "GET_AB_INVOICE_PDF",
            "marketplace_ids": ["ATVPDKIKX0DER"],
            "report_options": {"invoiceId": f"DE-INV-2026-{number:08d}", "documentType": "Invoice"},
        }
        for number in range(count)
    ]


class _Counted:
    """What goes to S3 for the record, counted where HTTP is sent; and when the first report was created."""

    def __init__(self) -> None:
        self.calls = self.written = self.read = 0
        self.first_create: float | None = None

    def begin(self) -> None:
        from botocore.httpsession import URLLib3Session
        from requests.adapters import HTTPAdapter

        send, send_to_api = URLLib3Session.send, HTTPAdapter.send

        def counted(session: Any, request: Any) -> Any:
            response = send(session, request)
            if "_manifests" in request.url:
                self.calls += 1
                if request.method == "PUT":
                    self.written += int(request.headers["Content-Length"])
                else:
                    self.read += int(response.headers.get("Content-Length", 0))
            return response

        def noted(adapter: Any, request: Any, **arguments: Any) -> Any:
            if request.method == "POST" and request.url.endswith("/reports") and self.first_create is None:
                self.first_create = time.monotonic()
            return send_to_api(adapter, request, **arguments)

        setattr(URLLib3Session, "send", counted)  # noqa: B010 - typed as a method
        setattr(HTTPAdapter, "send", noted)  # noqa: B010


class _TaskInstance:
    dag_id, task_id, run_id, map_index, try_number = "bench", "batch", "run", -1, 1
    next_method: str | None = None


def _event_of(deferred: Any) -> dict[str, Any]:
    path, arguments = deferred.trigger.serialize()
    module, name = path.rsplit(".", 1)
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))

    async def events() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(events())[0]


class _Task:
    """The task, and what its processes have used."""

    def __init__(self, count: int) -> None:
        self._requests = requests_of(count)
        self.cpu = self.wall = self.rendering = 0.0
        self.row = 0

    def run(self, event: dict[str, Any] | None) -> Any:
        """Run one process of it, and return its deferral, None where the task is done."""
        from airflow.models.trigger import Trigger
        from airflow.providers.common.compat.sdk import DAG, TaskDeferred

        from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

        with DAG("bench", schedule=None):
            task = ReportsToS3Operator(
                task_id="batch",
                requests=self._requests,
                s3_bucket=BUCKET,
                s3_key=KEY,
                deferrable=True,
                timeout=29 * 86_400,
            )
        instance = _TaskInstance()
        instance.next_method = None if event is None else "execute_complete"
        context: Any = {"ti": instance}
        deferral = None
        began, cpu = time.monotonic(), time.process_time()
        task.render_template_fields(context)
        self.rendering += time.process_time() - cpu
        try:
            if event is None:
                task.execute(context)
            else:
                task.execute_complete(context, event)
        except TaskDeferred as deferred:
            deferral = deferred
            self.row = len(Trigger(*deferred.trigger.serialize()).encrypted_kwargs)
        self.cpu += time.process_time() - cpu
        self.wall += time.monotonic() - began
        return deferral


def _start() -> float:
    """Load what a process of any batch loads, connect to S3 and to the API, and return the CPU that it took."""
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.transfers import batch_actions, batch_run, reports_to_s3

    began = time.process_time()
    for module in (batch_actions, batch_run):
        assert module
    operator = reports_to_s3.ReportsToS3Operator(task_id="start", requests=[], s3_bucket=BUCKET, s3_key=KEY)
    operator.s3_client().head_bucket(Bucket=BUCKET)
    AmazonBusinessHook().test_connection()
    return time.process_time() - began


def main() -> None:
    """Do the stint, and print its figures as JSON."""
    count, file = int(sys.argv[1]), Path(sys.argv[2])
    from airflow.models.trigger import Trigger

    # A worker has loaded Airflow long before, and a scheduler that encrypts rows is another process.
    Trigger("none", {})
    # As the workers of Celery and of the local executor do before they fork a task.
    gc.freeze()
    start = _start()
    counted, task = _Counted(), _Task(count)
    counted.begin()
    event = json.loads(file.read_text()) if file.exists() else None
    deferred = task.run(event)
    figures = {
        "start": start,
        "cpu": task.cpu,
        "wall": task.wall,
        "rendering": task.rendering,
        "row": task.row,
        "calls": counted.calls,
        "written": counted.written,
        "read": counted.read,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "first_create": None,
    }
    if event is None:
        event = _event_of(deferred)
        began = time.monotonic()
        task.run(event)
        figures["first_create"] = task.wall + (counted.first_create or 0.0) - began
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
