"""Tasks as a user's DAG has them. What an earlier version began with them is resumed with the same."""

from __future__ import annotations

import base64

from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

BUCKET = "tests"
FOLDER = "compatibility/"
LINES, INVOICE = "SANDBOX_ORDER_LINES", "GET_AB_INVOICE_PDF"
# Deadlines are on record as times. So far away, those of an old record do not end what is resumed.
YEARS = 3e8
INVOICES = [f"A-{number}" for number in range(10)]


def _created():
    return CreateReportOperator(
        task_id="task",
        report_type=LINES,
        wait_for_completion=True,
        deferrable=True,
        timeout=YEARS,
        poke_interval=0.1,
    )


def _queued_create():
    return CreateReportOperator(task_id="task", report_type=LINES, deferrable=True)


def _sensor(report_id="{{ params.report_id }}"):
    return ReportStatusSensor(
        task_id="task", report_id=report_id, deferrable=True, timeout=YEARS, poke_interval=0.1
    )


def _document(report_id="{{ params.report_id }}"):
    return ReportDocumentToS3Operator(
        task_id="task", report_id=report_id, s3_bucket=BUCKET, s3_key=f"{FOLDER}document.tsv", deferrable=True
    )


def _cancel(report_id="{{ params.report_id }}"):
    return CancelReportOperator(task_id="task", report_id=report_id, deferrable=True)


def _listing():
    return GetReportsOperator(task_id="task", report_types=LINES, page_size=1, deferrable=True)


LISTINGS = ["a listing in the queue", "a listing that has read a page"]
# Name of a wait to the operation that is throttled, after so many calls.
THROTTLED = {LISTINGS[1]: ("getReports", 1)}
# Name of a wait to the task, and whether it is mapped.
TASKS = {
    "a create that waits": (_created, False),
    "a create in the queue": (_queued_create, True),
    "a sensor": (_sensor, False),
    "a document in the queue": (_document, True),
    # Since 1.0.0.
    "a cancel in the queue": (_cancel, True),
    LISTINGS[0]: (_listing, True),
    LISTINGS[1]: (_listing, False),
}


def batch(invoices=INVOICES, **more):
    return ReportsToS3Operator(
        **{
            "task_id": "task",
            "requests": [{"report_type": INVOICE, "report_options": {"invoiceId": each}} for each in invoices],
            "s3_bucket": BUCKET,
            "s3_key": f"{FOLDER}batch/{{invoiceId}}/{{name}}",
            "ledger": f"s3://{BUCKET}/{FOLDER}ledger/",
            "max_failed": 1,
            "deferrable": True,
            "timeout": YEARS,
            "poke_interval": 0.1,
            **more,
        }
    )


def objects_of(s3):
    """Return what is in the bucket, as JSON can keep it."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=FOLDER)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {
        key: base64.b64encode(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).decode()
        for key in sorted(keys)
    }


def put_objects(s3, objects):
    """Put into the bucket what :func:`objects_of` returned, and nothing else."""
    clear(s3)
    for key, body in objects.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=base64.b64decode(body))


def clear(s3):
    for key in objects_of(s3):
        s3.delete_object(Bucket=BUCKET, Key=key)
