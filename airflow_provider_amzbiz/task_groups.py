"""From a request to an object in S3, as one building block of a DAG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_provider_amzbiz.compat import XComArg, task_group
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator


# A group that returns what its last task returns, which Airflow's own annotation does not foresee.
@task_group(tooltip="Create a report, wait for it, and store its document in S3")  # type: ignore[type-var]
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
    on_cancelled: Literal["fail", "skip", "succeed"] = "fail",
    timeout: timedelta | float = timedelta(days=1),
    deferrable: bool = True,
) -> XComArg:
    """Create a report, wait for it, and store its document in S3: the tasks ``create``, ``wait`` and ``move``.

    .. seealso:: :doc:`/quickstart`, and :doc:`/transfer` for ``s3_key``

    :param report_type: such as ``GET_AB_INVOICE_PDF``. (templated)
    :param s3_bucket: the bucket. (templated)
    :param s3_key: the key; besides ``{report_id}``, ``{report_document_id}`` and ``{name}``, the names of
        ``report_options`` are placeholders, such as ``{invoiceId}``. (templated)
    :param marketplace_ids: 1 to 25 marketplace ids, or one comma-separated string; by default those of the
        connection. (templated)
    :param data_start_time: start of the data, an aware datetime or an ISO 8601 string with an offset; by default
        none. (templated)
    :param data_end_time: end of the data, in the same form; by default none. (templated)
    :param report_options: options of the type: names to strings; by default none. (templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param aws_conn_id: the AWS connection; by default ``aws_default``; None uses boto3's own credential chain.
        (templated)
    :param on_cancelled: what CANCELLED means for ``wait``: ``"fail"`` (the default), ``"skip"`` or ``"succeed"``.
        (not templated)
    :param timeout: how long ``wait`` waits, a timedelta or seconds; by default a day. (not templated)
    :param deferrable: wait in the triggerer; by default True, whatever Airflow's ``[operators]
        default_deferrable`` is. (not templated)
    :return: what ``move`` returns: a list with one dict per object in S3.
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
