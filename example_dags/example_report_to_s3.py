"""Load one report a day to S3: create it, wait without a worker slot, transfer its document.

Needs the connections ``amazon_business_default`` and ``aws_default``, and the bucket. The report type is one of
the local sandbox; set yours in the parameters.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, Asset, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

with DAG(
    dag_id="example_report_to_s3",
    # A plain "@daily" has no data interval on Airflow 3; this timetable gives each run the previous day.
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
    create = CreateReportOperator(
        task_id="create",
        report_type="{{ params.report_type }}",
        marketplace_ids=["ATVPDKIKX0DER"],
        data_start_time="{{ data_interval_start }}",
        data_end_time="{{ data_interval_end }}",
    )
    wait = ReportStatusSensor(
        task_id="wait",
        report_id=create.output,
        deferrable=True,
        on_cancelled="skip",
        timeout=timedelta(hours=12),
    )
    move = ReportDocumentToS3Operator(
        task_id="move",
        report_id=create.output,
        s3_bucket="{{ params.bucket }}",
        s3_key="reports/{{ params.report_type }}/{{ data_interval_start | ds }}.tsv",
        # DAGs with this asset as their schedule start when the report is there.
        outlets=[Asset("s3://amazon-business/reports/")],
    )

    create >> wait >> move
