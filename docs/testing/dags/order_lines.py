"""The order lines of each day, in S3."""

from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_amzbiz.task_groups import report_to_s3

START = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG("order_lines", schedule="@daily", start_date=START, catchup=False) as dag:
    report_to_s3(
        report_type="SANDBOX_ORDER_LINES",
        s3_bucket="my-bucket",
        s3_key="order_lines/{report_id}.tsv",
    )
