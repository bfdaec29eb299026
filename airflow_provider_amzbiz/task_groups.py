"""From a request to an object in S3, as one building block of a DAG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import XComArg, task_group

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator


# A group that returns what its last task returns, which Airflow's own annotation does not foresee.
@task_group  # type: ignore[type-var]
def report_to_s3(
    report_type: str,
    s3_bucket: str,
    s3_key: str,
    marketplace_ids: str | Sequence[str] | None = None,
    data_start_time: datetime | str | None = None,
    data_end_time: datetime | str | None = None,
    report_options: Mapping[str, Any] | str | None = None,
    amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
    aws_conn_id: str | None = "aws_default",
    on_cancelled: str = "fail",
    timeout: timedelta = timedelta(days=1),
    deferrable: bool = True,
) -> XComArg:
    """Create a report, wait for it, and move its document to S3: the tasks `create`, `wait` and `move`.

    ``s3_key`` may use the names of ``report_options`` as placeholders, too, such as ``{invoiceId}``.

    Returns what `move` returns: a list with one dict per object in S3.
    """
    create = CreateReportOperator(
        task_id="create",
        report_type=report_type,
        marketplace_ids=marketplace_ids,
        data_start_time=data_start_time,
        data_end_time=data_end_time,
        report_options=report_options,
        amazon_business_conn_id=amazon_business_conn_id,
        deferrable=deferrable,
    )
    report_id: Any = create.output
    wait = ReportStatusSensor(
        task_id="wait",
        report_id=report_id,
        on_cancelled=on_cancelled,
        timeout=timeout,
        amazon_business_conn_id=amazon_business_conn_id,
        deferrable=deferrable,
    )
    move = ReportDocumentToS3Operator(
        task_id="move",
        report_id=report_id,
        s3_bucket=s3_bucket,
        s3_key=s3_key,
        key_values=report_options,
        aws_conn_id=aws_conn_id,
        amazon_business_conn_id=amazon_business_conn_id,
        deferrable=deferrable,
    )
    wait >> move
    output: XComArg = move.output
    return output
