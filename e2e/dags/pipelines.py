"""What users run, for the tests to break: one report from request to object, and a batch."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Param, get_current_context, task

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

SETTINGS: dict[str, Any] = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "default_args": {"retries": 8, "retry_delay": timedelta(seconds=3)},
}

with DAG("pipeline", params={"key": Param("", type="string")}, **SETTINGS):
    create = CreateReportOperator(
        task_id="create",
        report_type="SANDBOX_ORDER_LINES",
        marketplace_ids=["ATVPDKIKX0DER"],
        data_start_time="2026-01-01T00:00:00+00:00",
        data_end_time="2026-01-02T00:00:00+00:00",
        deferrable=True,
    )
    wait = ReportStatusSensor(
        task_id="wait", report_id=create.output, deferrable=True, poke_interval=2, timeout=1800
    )
    move = ReportDocumentToS3Operator(
        task_id="move",
        report_id=create.output,
        s3_uri="s3://e2e/{{ params.key }}",
        deferrable=True,
        outlets=[Asset("s3://e2e/pipeline")],
    )
    wait >> move

with DAG("created_and_waited", **SETTINGS):
    CreateReportOperator(
        task_id="create",
        report_type="SANDBOX_ORDER_LINES",
        marketplace_ids=["ATVPDKIKX0DER"],
        data_start_time="2026-01-01T00:00:00+00:00",
        data_end_time="2026-01-02T00:00:00+00:00",
        wait_for_completion=True,
        deferrable=True,
        poke_interval=2,
    )

with DAG("batch", params={"invoices": Param([], type="array"), "folder": Param("", type="string")}, **SETTINGS):

    @task
    def requests() -> list[dict[str, Any]]:
        return [
            {
                "report_type": "GET_AB_INVOICE_PDF",
                "marketplace_ids": ["ATVPDKIKX0DER"],
                "report_options": {"invoiceId": each, "documentType": "Invoice"},
            }
            for each in get_current_context()["params"]["invoices"]
        ]

    ReportsToS3Operator(
        task_id="batch",
        requests=requests(),
        s3_bucket="e2e",
        s3_key="{{ params.folder }}/{invoiceId}.pdf",
        deferrable=True,
        poke_interval=2,
        timeout=1800,
    )

with DAG(
    "batch_once",
    params={
        "first": Param(0, type="integer"),
        "count": Param(1, type="integer"),
        "folder": Param("", type="string"),
    },
    # Each lost worker takes one.
    **{**SETTINGS, "default_args": {"retries": 30, "retry_delay": timedelta(seconds=2)}},
):

    @task
    def requests_of_invoices() -> list[dict[str, Any]]:
        params = get_current_context()["params"]
        return [
            {
                "report_type": "GET_AB_INVOICE_PDF",
                "marketplace_ids": ["ATVPDKIKX0DER"],
                "report_options": {"invoiceId": f"INV-{number}"},
            }
            for number in range(params["first"], params["first"] + params["count"])
        ]

    ReportsToS3Operator(
        task_id="batch",
        requests=requests_of_invoices(),
        s3_bucket="e2e",
        s3_key="{{ params.folder }}/{invoiceId}.pdf",
        ledger="s3://e2e/ledger/",
        audit_key="{{ params.folder }}/audit/{{ run_id }}.jsonl",
        deferrable=True,
        poke_interval=2,
        timeout=3600,
    )
