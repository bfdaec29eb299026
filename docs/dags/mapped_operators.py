"""A report for each marketplace, and two documents under keys of their own."""

from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

START = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG("mapped_operators", schedule=None, start_date=START) as dag:
    # expand: one parameter, a value for each task.
    create = CreateReportOperator.partial(
        task_id="create",
        report_type="SANDBOX_ORDER_LINES",
        deferrable=True,
    ).expand(marketplace_ids=["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"])

    wait = ReportStatusSensor.partial(task_id="wait", deferrable=True).expand(report_id=create.output)

    # expand_kwargs: several parameters, a dict for each task.
    move = ReportDocumentToS3Operator.partial(
        task_id="move",
        s3_bucket="my-bucket",
        deferrable=True,
    ).expand_kwargs(
        wait.output.map(
            lambda report: {
                "report_document_id": report["report_document_id"],
                "s3_key": f"marketplaces/{report['marketplace_ids'][0]}.tsv",
            }
        )
    )
