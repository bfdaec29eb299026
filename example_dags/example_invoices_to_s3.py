"""Load a list of invoices to S3, each on its own: a mapped task group creates, waits and transfers.

Needs the connections ``amazon_business_default`` and ``aws_default``, and the bucket. An invoice comes as a ZIP,
so its key contains the name of the file in it. For hundreds of invoices, use ``ReportsToS3Operator``: it does the
same in one task.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, Asset, Param, get_current_context, task, task_group

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

with DAG(
    dag_id="example_invoices_to_s3",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "invoice_ids": Param(
            ["1111-2222-3333", "1111-2222-4444", "1111-2222-5555"],
            type="array",
            title="Invoice numbers",
            description="One in each line; the defaults exist in the sandbox only",
        ),
        "bucket": Param("amazon-business", type="string", title="S3 bucket", description="It must exist"),
    },
    tags=["amazon-business"],
    doc_md=__doc__,
):

    @task
    def invoice_ids() -> list[str]:
        return list(get_current_context()["params"]["invoice_ids"])

    @task_group
    def invoice_to_s3(invoice_id: str) -> None:
        create = CreateReportOperator(
            task_id="create",
            report_type="GET_AB_INVOICE_PDF",
            marketplace_ids=["ATVPDKIKX0DER"],
            report_options={"invoiceId": invoice_id, "documentType": "Invoice"},
            # The API allows 15 calls at once, then one every ten seconds; the triggerer waits for the permit.
            deferrable=True,
        )
        wait = ReportStatusSensor(
            task_id="wait",
            report_id=create.output,
            deferrable=True,
            timeout=timedelta(hours=12),
        )
        move = ReportDocumentToS3Operator(
            task_id="move",
            report_id=create.output,
            s3_bucket="{{ params.bucket }}",
            s3_key="invoices/{report_id}/{name}",
            deferrable=True,
            # DAGs with this asset as their schedule start when an invoice is there.
            outlets=[Asset("s3://amazon-business/invoices/")],
        )
        create >> wait >> move

    invoice_to_s3.expand(invoice_id=invoice_ids())
