"""Deliveries and items of manifests, for tests of the ledger."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

from airflow_provider_amzbiz.batch.ledger import Delivery
from airflow_provider_amzbiz.client.request import ReportRequest

AT = datetime(2026, 11, 2, 3, 4, 5, 678, tzinfo=timezone.utc)


def request(invoice):
    options = {"invoiceId": str(invoice), "documentType": "Invoice"}
    return ReportRequest.of("GET_AB_INVOICE_PDF", ["ATVPDKIKX0DER"], report_options=options)


def identity(invoice):
    return request(invoice).fingerprint


def delivery(invoice, by="dag/run/task", **more):
    described = {
        "uri": f"s3://my-bucket/invoices/{invoice}.pdf",
        "bytes": 1000 + len(str(invoice)),
        "sha256": hashlib.sha256(str(invoice).encode()).hexdigest(),
        "crc32": "DUoRhQ==",
        "content_type": "application/pdf",
        **more,
    }
    return Delivery(
        objects=(described,),
        report_type="GET_AB_INVOICE_PDF",
        report_options=dict(request(invoice).options),
        report_id=f"report-{invoice}",
        report_document_id=f"document-{invoice}",
        delivered_at=AT,
        by=by,
    )


def entry_key(invoice, account="account-1"):
    return f"ledger/{account}/deliveries/{identity(invoice)}.json"


def keys(s3, bucket, prefix=""):
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def item(invoice, index=0, **more):
    """An item of a manifest."""
    made = delivery(invoice)
    return {
        "index": index,
        "fingerprint": identity(invoice),
        "report_type": made.report_type,
        "report_options": dict(made.report_options),
        "key": "invoices/{invoiceId}.pdf",
        "report_id": made.report_id,
        "report_document_id": made.report_document_id,
        "status": "DONE",
        "sent_at": AT.timestamp() - 60,
        "stored_at": AT.timestamp(),
        "objects": [dict(each) for each in made.objects],
        "error": None,
        "skipped": False,
        **more,
    }
