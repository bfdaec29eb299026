"""Load a list of invoices to S3 in one task, and record what an auditor asks about each of them in a table.

Needs the connections ``amazon_business_default`` and ``aws_default``, and the bucket. The table is in DuckDB here
(``pip install duckdb``); any database works.
"""

from __future__ import annotations

import json
import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, get_current_context, task

from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator


# [START requests]
@task
def requests() -> list[dict[str, Any]]:
    """Return one request for each invoice; yours may come from a query."""
    invoice_ids = get_current_context()["params"]["invoice_ids"]
    if not invoice_ids:
        raise AirflowSkipException("There is no invoice to request")
    return [
        {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": each, "documentType": "Invoice"}}
        for each in invoice_ids
    ]


# [END requests]


# [START audit]
@task
def audit(summary: dict[str, Any], database: str) -> None:
    """Write a row for each object, and for each invoice without one. Running it again replaces them."""
    import duckdb
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    bucket, key = S3Hook.parse_s3_url(summary["manifest"])
    manifest = json.loads(S3Hook("aws_default").read_key(key, bucket))
    rows = []
    for item in manifest["items"]:
        invoice_id = item["report_options"]["invoiceId"]
        for stored in item["objects"] or [{}]:
            described = [stored.get(name) for name in ("uri", "bytes", "sha256", "crc32")]
            rows.append([invoice_id, item["report_id"], item["status"], item["error"], *described])
    with duckdb.connect(database) as warehouse:
        warehouse.execute(
            "CREATE TABLE IF NOT EXISTS invoice_audit (invoice_id VARCHAR, report_id VARCHAR, status VARCHAR, "
            "error VARCHAR, uri VARCHAR, bytes BIGINT, sha256 VARCHAR, crc32 VARCHAR)"
        )
        warehouse.begin()
        warehouse.executemany("DELETE FROM invoice_audit WHERE invoice_id = ?", [row[:1] for row in rows])
        warehouse.executemany("INSERT INTO invoice_audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        warehouse.commit()


# [END audit]

with DAG(
    dag_id="example_invoice_batch",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # DuckDB has one writer at a time.
    max_active_runs=1,
    params={
        "invoice_ids": Param(["1111-2222-3333", "1111-2222-4444", "1111-2222-5555"], type="array"),
        "bucket": Param("amazon-business", type="string"),
        "database": Param(f"{tempfile.gettempdir()}/invoices.duckdb", type="string"),
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
        # Up to a tenth may fail; the table has the reasons.
        max_failed=0.1,
        # No such invoice yet, requested again too soon, or cancelled by a user: the API gives all the same status.
        on_cancelled="skip",
        timeout=timedelta(hours=12),
        deferrable=True,
    )
    audit(batch.output, "{{ params.database }}")
    # [END batch]
