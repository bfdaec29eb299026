"""When an invoice is ready, whoever requested it, load it to S3 (Airflow 3).

A watcher in the triggerer polls for reports that have become DONE and emits an asset event for each. One DAG run
may get several events, so the transfer is mapped over them. Needs the connections ``amazon_business_default`` and
``aws_default``, and the bucket.
"""

from __future__ import annotations

from datetime import datetime, timezone

import airflow
from airflow.providers.common.compat.sdk import DAG, Asset, Param, get_current_context, task

from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger

# Airflow 2 has no asset watchers.
if not airflow.__version__.startswith("2."):
    # [START watcher]
    from airflow.sdk import AssetWatcher

    invoice_done = Asset(
        name="amazon_business_invoice_done",
        watchers=[
            AssetWatcher(
                name="invoices",
                trigger=ReportsDoneTrigger(report_types=["GET_AB_INVOICE_PDF"], poll_interval=300),
            )
        ],
    )

    with DAG(
        dag_id="example_invoice_arrives",
        schedule=[invoice_done],
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        params={"bucket": Param("amazon-business", type="string", title="S3 bucket", description="It must exist")},
        tags=["amazon-business"],
        doc_md=__doc__,
    ):

        @task
        def report_ids() -> list[str]:
            events = get_current_context()["triggering_asset_events"][invoice_done]
            # An event may come twice after a crash of the triggerer.
            return sorted({event.extra["payload"]["report_id"] for event in events})

        ReportDocumentToS3Operator.partial(
            task_id="move",
            s3_bucket="{{ params.bucket }}",
            s3_key="invoices/{report_id}/{name}",
            deferrable=True,
            outlets=[Asset("s3://amazon-business/invoices/")],
        ).expand(report_id=report_ids())
    # [END watcher]
