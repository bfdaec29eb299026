"""Accounts and their reports."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("invoice", "status", "with_document"),
    [
        ("NO-DATA-1", "CANCELLED", False),
        ("FATAL-1", "FATAL", False),
        ("FATAL-DOC-1", "FATAL", True),
        ("INV-1", "DONE", True),
    ],
)
def test_an_invoice_id_decides_how_its_report_ends(shared_api, invoice, status, with_document):
    report = shared_api.get(shared_api.created("GET_AB_INVOICE_PDF", {"invoiceId": invoice})).json()
    assert report["processingStatus"] == status
    assert ("reportDocumentId" in report) == with_document


def test_a_slow_invoice_takes_ten_times_longer(start, caller):
    api = caller(start(queue_seconds=10, processing_seconds=10))
    report_id = api.created("GET_AB_INVOICE_PDF", {"invoiceId": "SLOW-1"})
    api.sandbox.clock.advance(190)
    assert api.status(report_id) == "IN_PROGRESS"
    api.sandbox.clock.advance(20)
    assert api.status(report_id) == "DONE"


def test_another_account_sees_none_of_it(start, caller):
    sandbox = start()
    first, second = caller(sandbox), caller(sandbox, sandbox.add_account(client_id="second"))
    report_id = first.created()
    document_id = first.get(report_id).json()["reportDocumentId"]
    assert second.get(report_id).status_code == 404
    assert second.cancel(report_id).status_code == 404
    assert second.document(document_id).status_code == 400
    assert second.list().json() == {"reports": []}
    theirs = second.created()
    assert list(sandbox.reports) == [report_id, theirs]


def test_reports_shows_what_the_api_hides(api):
    report_id = api.created("GET_AB_INVOICE_PDF", {"invoiceId": "INV-1"})
    report = api.sandbox.reports[report_id]
    assert report.report_options == {"invoiceId": "INV-1"}
    assert report.status == "DONE"
    assert report.document_id == api.get(report_id).json()["reportDocumentId"]
