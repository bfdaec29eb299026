"""The same report of several accounts and marketplaces: one connection for each account, one map index for each.

Needs a connection of type ``amazon_business`` for each account, ``aws_default`` and the bucket.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Param, get_current_context, task, task_group
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

# [START accounts]
# A refresh token is of one region, so each region needs its own connection, with marketplaces of that region.
ACCOUNTS = {
    "amazon_business_na": ["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"],
    "amazon_business_eu": ["A1PA6795UKMFR9"],
}
# [END accounts]

with DAG(
    dag_id="example_accounts",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "report_type": Param(
            "SANDBOX_ORDER_LINES",
            type="string",
            title="Report type",
            description="One of your account; the default exists in the sandbox only",
        ),
        "bucket": Param("amazon-business", type="string", title="S3 bucket", description="It must exist"),
    },
    tags=["amazon-business"],
    doc_md=__doc__,
):
    # [START group]
    @task
    def sources() -> list[dict[str, Any]]:
        """Return one report for each marketplace. Mapped values are not rendered, so the keys are built here."""
        day = get_current_context()["data_interval_start"].strftime("%Y-%m-%d")
        return [
            {"conn_id": conn_id, "marketplace": marketplace, "key": f"accounts/{conn_id}/{marketplace}/{day}.tsv"}
            for conn_id, marketplaces in ACCOUNTS.items()
            for marketplace in marketplaces
        ]

    @task_group
    def report_to_s3(conn_id: str, marketplace: str, key: str) -> None:
        create = CreateReportOperator(
            task_id="create",
            amazon_business_conn_id=conn_id,
            report_type="{{ params.report_type }}",
            marketplace_ids=marketplace,
            data_start_time="{{ data_interval_start }}",
            data_end_time="{{ data_interval_end }}",
            deferrable=True,
        )
        wait = ReportStatusSensor(
            task_id="wait",
            amazon_business_conn_id=conn_id,
            report_id=create.output,
            deferrable=True,
            on_cancelled="skip",
            timeout=timedelta(hours=12),
        )
        move = ReportDocumentToS3Operator(
            task_id="move",
            amazon_business_conn_id=conn_id,
            report_id=create.output,
            s3_bucket="{{ params.bucket }}",
            s3_key=key,
            deferrable=True,
            outlets=[Asset("s3://amazon-business/accounts/")],
        )
        create >> wait >> move

    report_to_s3.expand_kwargs(sources())
    # [END group]
