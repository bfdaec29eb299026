"""The code in the documentation's page about testing your own DAGs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# [START imports]
import boto3
import pytest
from moto import mock_aws

from airflow_provider_amzbiz.exceptions import ReportFatalError
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

# [END imports]

EXAMPLES = str(Path(__file__).resolve().parent.parent / "example_dags")


# [START s3]
@pytest.fixture
def s3(monkeypatch):
    """S3 in this process, as the connection ``aws_default``."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://key:secret@/?region_name=us-east-1")
    with mock_aws():
        client = boto3.client("s3", "us-east-1", aws_access_key_id="key", aws_secret_access_key="secret")
        client.create_bucket(Bucket="amazon-business")
        yield client


# [END s3]


# [START tasks]
def test_an_invoice_becomes_a_pdf(amazon_business_sandbox, s3):
    create = CreateReportOperator(
        task_id="create",
        report_type="GET_AB_INVOICE_PDF",
        marketplace_ids=["ATVPDKIKX0DER"],
        report_options={"invoiceId": "1111-2222-3333", "documentType": "Invoice"},
    )
    report_id = create.execute({})
    ReportStatusSensor(task_id="wait", report_id=report_id).execute({})
    move = ReportDocumentToS3Operator(
        task_id="move", report_id=report_id, s3_uri="s3://amazon-business/invoices/{name}"
    )

    (stored,) = move.execute({})

    assert stored["content_type"] == "application/pdf"
    assert amazon_business_sandbox.count("createReport") == 1


# [END tasks]


# [START faults]
def test_a_503_is_retried(amazon_business_sandbox):
    amazon_business_sandbox.inject(Fault(operation="createReport", kind="status", status=503, body="html"))

    CreateReportOperator(task_id="create", report_type="SANDBOX_ORDER_LINES").execute({})

    assert len(amazon_business_sandbox.reports) == 1


@pytest.mark.amazon_business_sandbox(processing_seconds=3600)
def test_what_my_callback_gets(amazon_business_sandbox):
    amazon_business_sandbox.script(outcome="FATAL")
    report_id = CreateReportOperator(task_id="create", report_type="SANDBOX_ORDER_LINES").execute({})
    amazon_business_sandbox.clock.advance(3600)

    with pytest.raises(ReportFatalError, match="ended FATAL"):
        ReportStatusSensor(task_id="wait", report_id=report_id).execute({})


# [END faults]


# [START dag]
@pytest.mark.usefixtures("airflow_db")
def test_the_whole_dag(amazon_business_sandbox, s3):
    if find_spec("airflow.dag_processing.dagbag"):
        from airflow.dag_processing.dagbag import DagBag
    else:
        # Before Airflow 3.2.
        from airflow.models.dagbag import DagBag
    dag = DagBag(EXAMPLES).dags["example_report_to_s3"]

    run = dag.test()

    assert run.state == "success"
    (stored,) = s3.list_objects_v2(Bucket="amazon-business")["Contents"]
    assert stored["Key"].startswith("reports/SANDBOX_ORDER_LINES/")


# [END dag]
