"""All invoices and credit memos of the company to S3 every morning, and their lines as tables for the warehouse.

Needs the connections ``amazon_business_default`` and ``aws_default``, and the bucket.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator

FEED_START = Param(
    "",
    type="string",
    title="Feed start",
    description="Where the window begins, such as 2026-01-01T00:00+00:00; if blank, the last run's end",
)
SETTINGS: dict[str, Any] = {
    "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "params": {"feed_start": FEED_START},
    "tags": ["amazon-business"],
    "doc_md": __doc__,
}

# [START all_invoices]
with DAG("example_all_invoices", schedule="@daily", catchup=False, **SETTINGS):
    InvoicesToS3Operator(
        task_id="all_invoices",
        s3_bucket="amazon-business",
        s3_key="documents/{marketplace_id}/{year}/{month}/{document_type}/{document_number}/{name}",
        ledger="s3://amazon-business/ledger/",
        tables="s3://amazon-business/tables/",
        feed_start="{{ params.feed_start }}",
        deferrable=True,
    )
# [END all_invoices]
