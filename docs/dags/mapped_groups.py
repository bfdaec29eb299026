"""Two invoices, and the order lines of three days."""

from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG, task_group

from airflow_provider_amzbiz.task_groups import report_to_s3
from airflow_provider_amzbiz.windows import report_windows

START = datetime(2026, 1, 1, tzinfo=timezone.utc)

with DAG("mapped_groups", schedule=None, start_date=START) as dag:
    # expand: one parameter, a value for each group.
    report_to_s3.override(group_id="invoices").partial(
        report_type="GET_AB_INVOICE_PDF",
        s3_bucket="my-bucket",
        s3_key="invoices/{invoiceId}.pdf",
    ).expand(
        report_options=[
            {"invoiceId": "1111-2222-3333", "documentType": "Invoice"},
            {"invoiceId": "4444-5555-6666", "documentType": "Invoice"},
        ]
    )

    # expand_kwargs: several parameters, a dict for each group. Airflow maps all parameters of a group that
    # are not in partial, also those that the dicts leave out. So the group to map is one of your own, which
    # has the parameters of the dicts and no others.
    @task_group
    def day_to_s3(data_start_time, data_end_time):
        report_to_s3(
            report_type="SANDBOX_ORDER_LINES",
            data_start_time=data_start_time,
            data_end_time=data_end_time,
            s3_bucket="my-bucket",
            s3_key="days/{report_id}.tsv",
        )

    day_to_s3.expand_kwargs(report_windows("2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"))
