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
