from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

# Airflow 3.3 has these three in airflow.sdk, too.
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
from late import late

from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator

with DAG(
    "daily_invoices",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=4),
        callback=AsyncCallback(late, kwargs={"note": "Yesterday's invoices are not complete yet."}),
    ),
) as dag:
    InvoicesToS3Operator(
        task_id="all_invoices",
        s3_bucket="my-bucket",
        s3_key="invoices/{document_number}/{name}",
        ledger="s3://my-bucket/ledger/",
        deferrable=True,
    )
