"""Batches for tests, and what is in S3 of them."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import io
import json
import os
import zipfile

import pytest

from airflow_provider_amzbiz.batch import attempt
from airflow_provider_amzbiz.batch.object_store import ObjectStore
from airflow_provider_amzbiz.batch.record import Record
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers import connections
from tests.airflow_names import TaskDeferred
from tests.conftest import connect
from tests.deferring import events_of, rebuilt

LINES = "SANDBOX_ORDER_LINES"
INVOICE = "GET_AB_INVOICE_PDF"
DAMAGED = RawDocument(b"\x1f\x8b\x08\x00 this is no gzip at all", content_type="application/octet-stream")


def invoices(*numbers):
    return [{"report_type": INVOICE, "report_options": {"invoiceId": str(number)}} for number in numbers]


def named(name, content):
    """A document as the API gives an invoice: a ZIP of one file, compressed again."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(name, content)
    return RawDocument(gzip.compress(file.getvalue()), content_type="application/octet-stream")


def lines(*days):
    return [{"report_type": LINES, "report_options": {"rows": day}} for day in days]


def batch(prefix, requests, **arguments):
    return ReportsToS3Operator(
        task_id="batch",
        **{
            "requests": requests,
            "s3_bucket": "tests",
            "s3_key": prefix + "{invoiceId}.pdf",
            "poke_interval": 0.1,
            "deferrable": True,
            **arguments,
        },
    )


def manifest(s3, prefix):
    body = s3.get_object(Bucket="tests", Key=f"{prefix}_manifests/dag/run/task.json")["Body"].read()
    return json.loads(body)["items"]


def record(s3, prefix):
    owner = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1}
    return Record(ObjectStore(s3, "tests"), f"{prefix}_manifests/dag/run/task.json", owner)


def on_record(s3, prefix):
    """The items that the next attempt would find."""
    return attempt._read(record(s3, prefix)).begun


def keys(s3, prefix):
    listed = s3.list_objects_v2(Bucket="tests", Prefix=prefix).get("Contents", [])
    return sorted(each["Key"].removeprefix(prefix) for each in listed if "_manifests" not in each["Key"])


class Killed(BaseException):
    """Stands for a SIGKILL: nothing after it runs."""


def waiting(make, ctx):
    """Run a task until it waits for reports that it has created; return its trigger."""
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(ctx)
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with pytest.raises(TaskDeferred) as deferred:
        make().execute_complete(ctx, event)
    return deferred.value


def use(monkeypatch, sandbox, **changed):
    """Change the connection, as a user does while tasks wait."""
    connections._connections.clear()
    connect(monkeypatch, sandbox)
    name = "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"
    monkeypatch.setenv(name, json.dumps({**json.loads(os.environ[name]), **changed}))


def beside(task, context):
    """Execute a task in another thread; Airflow 2's guard of `execute` knows the main one alone."""
    return inspect.unwrap(type(task).execute)(task, context)
