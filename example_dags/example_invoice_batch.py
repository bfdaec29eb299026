"""Load a list of invoices to S3 in one task, and record what an auditor asks about each of them in a table.

Needs the connections ``amazon_business_default`` and ``aws_default``, the bucket, and the extra ``parquet``. The
table is in DuckDB here (``pip install duckdb``); any database works.
"""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, Param, get_current_context, task

from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator


# [START requests]
@task
def requests() -> list[dict[str, Any]]:
    """Return one request for each invoice; yours may come from a query."""
    return [
        {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": each, "documentType": "Invoice"}}
        for each in get_current_context()["params"]["invoice_ids"]
    ]


# [END requests]


# [START audit]
@task
def audit(summary: dict[str, Any], database: str) -> None:
    """Load the batch's table: a row for each document, and for each invoice without one."""
    import duckdb
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    bucket, key = S3Hook.parse_s3_url(summary["audit"])
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(database) as warehouse:
        file = S3Hook("aws_default").download_file(key, bucket, local_path=folder)
        warehouse.read_parquet(file).create_view("batch")
        warehouse.execute("CREATE TABLE IF NOT EXISTS invoice_audit AS FROM batch LIMIT 0")
        warehouse.begin()
        # What was delivered before keeps its row, which has the report that it came of. It has none yet if another
        # task delivered it, or a run whose table was not loaded, because too many of its requests failed.
        warehouse.execute(
            "DELETE FROM invoice_audit WHERE identity IN (SELECT identity FROM batch) AND (uri IS NULL "
            "OR identity IN (SELECT identity FROM batch WHERE status <> 'already_delivered'))"
        )
        warehouse.execute(
            "INSERT INTO invoice_audit FROM batch WHERE identity NOT IN (SELECT identity FROM invoice_audit)"
        )
        warehouse.commit()
        warehouse.execute("DROP VIEW batch")


# [END audit]

with DAG(
    dag_id="example_invoice_batch",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # DuckDB has one writer at a time.
    max_active_runs=1,
    params={
        "invoice_ids": Param(
            ["1111-2222-3333", "1111-2222-4444", "1111-2222-5555"],
            type="array",
            title="Invoice numbers",
            description="One in each line; the defaults exist in the sandbox only",
        ),
        "bucket": Param("amazon-business", type="string", title="S3 bucket", description="It must exist"),
        "database": Param(
            f"{tempfile.gettempdir()}/invoices.duckdb",
            type="string",
            title="DuckDB file",
            description="It is created if it does not exist",
        ),
    },
    tags=["amazon-business"],
    doc_md=__doc__,
):
    # [START batch]
    batch = ReportsToS3Operator(
        task_id="batch",
        requests=requests(),
        s3_bucket="{{ params.bucket }}",
        s3_key="archive/{invoiceId}/{name}",
        # Remembers what any run has delivered, so that no invoice is requested twice.
        ledger="s3://{{ params.bucket }}/ledger/",
        # One row for each document; the task below loads it.
        audit_key="audit/{{ run_id }}.parquet",
        skip_if_empty=True,
        # Up to a tenth may fail; the table has the reasons.
        max_failed=0.1,
        # No such invoice yet, requested again too soon, or cancelled by a user: the API gives all the same status.
        on_cancelled="skip",
        timeout=timedelta(hours=12),
        deferrable=True,
        outlets=[Asset("s3://amazon-business/archive/")],
    )
    audit(batch.output, "{{ params.database }}")
    # [END batch]
