"""What a team runs every day, for the soak: reports of several marketplaces, all invoices, and a watch."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, get_current_context, task

from airflow_provider_amzbiz.task_groups import report_to_s3
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger

SETTINGS: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "default_args": {"retries": 20, "retry_delay": timedelta(seconds=3)},
}

with DAG("soak_daily", schedule=None, params={"reports": Param([], type="array")}, **SETTINGS):

    @task
    def reports() -> Any:
        return get_current_context()["params"]["reports"]

    # Airflow takes every parameter for mapped that is not in partial().
    report_to_s3.partial(
        report_type="SANDBOX_ORDER_LINES",
        s3_bucket="e2e",
        amazon_business_conn_id="amazon_business_default",
        aws_conn_id="aws_default",
        on_cancelled="fail",
        timeout=timedelta(minutes=30),
        deferrable=True,
    ).expand_kwargs(reports())

with DAG(
    "soak_feed",
    schedule=None,
    params={"feed_start": Param("", type="string"), "feed_end": Param("", type="string")},
    **SETTINGS,
):
    InvoicesToS3Operator(
        task_id="feed",
        s3_bucket="e2e",
        s3_key="feed/invoices/{marketplace_id}/{year}/{month}/{document_type}/{document_number}/{name}",
        ledger="s3://e2e/feed/ledger/",
        tables="s3://e2e/feed/tables/",
        table_format="jsonl",
        feed_start="{{ params.feed_start }}",
        feed_end="{{ params.feed_end }}",
        document_types=["Invoice", "CreditMemo", "OrderSummary"],
        amazon_business_conn_id="amazon_business_feed",
        aws_conn_id="aws_default",
        poke_interval=2,
        timeout=timedelta(minutes=30),
        deferrable=True,
    )

done = Asset(
    name="soak_reports_done",
    watchers=[
        AssetWatcher(
            name="soak_reports",
            # An interval that no other watch has: equal triggers would share one instance, without a record.
            trigger=ReportsDoneTrigger(report_types=["SANDBOX_ORDER_LINES"], poll_interval=4),
        )
    ],
)

with DAG("soak_watch", schedule=[done], **SETTINGS):

    @task
    def announced() -> list[str]:
        events = get_current_context()["triggering_asset_events"][done]
        return [event.extra["payload"]["report_id"] for event in events]

    announced()
