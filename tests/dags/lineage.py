"""What the tests of lineage look at: one document, an archive, a small batch and a large one."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from airflow import DAG
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_amzbiz.compat import Asset, AssetAlias
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.transfers.transactions_to_s3 import TransactionsToS3Operator
from airflow_provider_amzbiz.triggers import base

# There is no scheduler here that would need the time.
base.MIN_DEFER_SECONDS = 0.0


def write_hook_lineage(context):
    collected = get_hook_lineage_collector().collected_assets
    found = {
        side: [
            each.asset.uri
            for each in getattr(collected, side)
            if type(each.context).__name__ == "AmazonBusinessHook"
        ]
        for side in ("inputs", "outputs")
    }
    Path(os.environ["HOOK_LINEAGE"]).write_text(json.dumps(found))


def invoices(first, count):
    return [
        {
            "report_type": "GET_AB_INVOICE_PDF",
            "report_options": {"invoiceId": str(number), "documentType": "Invoice"},
        }
        for number in range(first, first + count)
    ]


with DAG(dag_id="lineage", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False):
    # Its report is scripted to be the archive.
    create_archive = CreateReportOperator(task_id="create_archive", report_type="SANDBOX_ORDER_LINES")
    archive = ReportDocumentToS3Operator(
        task_id="archive",
        report_id=create_archive.output,
        s3_uri="s3://tests/lineage/{report_id}/{name}",
        outlets=[Asset("s3://tests/lineage-archives"), AssetAlias("lineage-archive")],
    )
    create = CreateReportOperator(task_id="create", report_type="SANDBOX_ORDER_LINES")
    wait = ReportStatusSensor(task_id="wait", report_id=create.output, deferrable=True, poke_interval=1)
    move = ReportDocumentToS3Operator(
        task_id="move",
        report_id=create.output,
        s3_bucket="tests",
        s3_key="lineage/lines/{report_id}.tsv",
        outlets=[Asset("s3://tests/lineage-lines"), AssetAlias("lineage-line")],
        on_success_callback=write_hook_lineage,
    )
    batch, many = (
        ReportsToS3Operator(
            task_id=name,
            requests=requests,
            s3_bucket="tests",
            s3_key=f"lineage/{name}/{{invoiceId}}/{{name}}",
            poke_interval=1,
            deferrable=True,
            outlets=[Asset(f"s3://tests/lineage-{name}"), AssetAlias(f"lineage-{name}")],
        )
        for name, requests in (("batch", invoices(1, 3)), ("many", invoices(100, 21)))
    )
    feed = InvoicesToS3Operator(
        task_id="feed",
        s3_bucket="tests",
        s3_key="lineage/feed/{document_number}/{name}",
        ledger="s3://tests/lineage-ledger/",
        tables="s3://tests/lineage-tables/",
        feed_start="2020-01-01T00:00:00+00:00",
        poke_interval=1,
        deferrable=True,
        amazon_business_conn_id="company",
        outlets=[Asset("s3://tests/lineage-feed")],
    )
    transactions = TransactionsToS3Operator(
        task_id="transactions",
        s3_bucket="tests",
        s3_key="lineage-transactions/{{ ds }}.jsonl",
        feed_start="2020-01-01T00:00:00+00:00",
        feed_end=datetime.now(timezone.utc).isoformat(),
        amazon_business_conn_id="company",
        outlets=[Asset("s3://tests/lineage-transactions"), AssetAlias("lineage-transaction")],
    )
    broken = ReportDocumentToS3Operator(
        task_id="broken",
        report_id=create.output,
        s3_uri="s3://no-such-bucket/lineage.tsv",
        outlets=[Asset("s3://tests/lineage-broken")],
    )
    create_archive >> archive >> create >> wait >> move >> batch >> many >> feed >> transactions >> broken
