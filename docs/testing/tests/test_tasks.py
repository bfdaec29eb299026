from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator


def test_an_invoice_becomes_a_pdf(amazon_business_sandbox, s3):
    create = CreateReportOperator(
        task_id="create",
        report_type="GET_AB_INVOICE_PDF",
        marketplace_ids=["ATVPDKIKX0DER"],
        report_options={"invoiceId": "1111-2222-3333", "documentType": "Invoice"},
    )
    report_id = create.execute({})
    ReportStatusSensor(task_id="wait", report_id=report_id).execute({})
    move = ReportDocumentToS3Operator(task_id="move", report_id=report_id, s3_uri="s3://my-bucket/invoices/{name}")

    (stored,) = move.execute({})

    assert stored["content_type"] == "application/pdf"
    assert amazon_business_sandbox.count("createReport") == 1
