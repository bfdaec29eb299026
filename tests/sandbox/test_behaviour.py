"""What happens to reports over time, and the habits of the API that a test can ask for."""

from __future__ import annotations

import pytest

LINES = "SANDBOX_ORDER_LINES"
INVOICE = "GET_AB_INVOICE_PDF"
DAY = 86_400
WINDOW = {"dataStartTime": "2026-01-01T00:00:00Z", "dataEndTime": "2026-01-02T00:00:00Z"}


def document_id(api, report_id):
    return api.get(report_id).json()["reportDocumentId"]


@pytest.mark.parametrize(("settings", "days"), [({}, 30), ({"document_days": 5}, 5)])
def test_a_document_can_be_had_for_some_days(start, caller, settings, days):
    api = caller(start(token_seconds=1e9, **settings))
    report_id = api.created()
    document = document_id(api, report_id)
    api.sandbox.clock.advance(days * DAY - 60)
    assert api.document(document).status_code == 200
    api.sandbox.clock.advance(120)
    response = api.document(document)
    assert response.status_code == 400
    assert response.json()["errors"][0]["message"] == f"Invalid reportDocumentId {document}"
    # The report is known for longer.
    assert api.status(report_id) == "DONE"


@pytest.mark.parametrize(("settings", "days"), [({}, 90), ({"report_days": 40}, 40)])
def test_a_report_is_known_for_some_days(start, caller, settings, days):
    api = caller(start(token_seconds=1e9, **settings))
    report_id = api.created()
    api.sandbox.clock.advance(days * DAY - 60)
    assert api.status(report_id) == "DONE"
    assert [each["reportId"] for each in api.list().json()["reports"]] == [report_id]
    api.sandbox.clock.advance(120)
    for response in (api.get(report_id), api.cancel(report_id)):
        assert response.status_code == 404
        assert response.json()["errors"][0]["code"] == "NotFound"
    assert api.list().json()["reports"] == []


@pytest.mark.parametrize("options", [{"invoiceId": "2"}, {"orderId": "2", "documentType": "OrderSummary"}])
def test_an_invoice_that_amazon_does_not_have_yet(start, caller, options):
    api = caller(start(known_invoices=["1"]))
    assert api.status(api.created(INVOICE, {"invoiceId": "1"})) == "DONE"
    early = api.created(INVOICE, options)
    assert api.get(early).json().keys().isdisjoint({"reportDocumentId"})
    assert api.status(early) == "CANCELLED"
    api.sandbox.issue("2")
    assert api.status(api.created(INVOICE, options)) == "DONE"
    # What has ended stays as it is.
    assert api.status(early) == "CANCELLED"


def test_an_unknown_invoice_takes_its_time_and_other_types_are_not_meant(start, caller):
    api = caller(start(known_invoices=[], queue_seconds=10))
    unknown, lines = api.created(INVOICE, {"invoiceId": "1"}), api.created()
    assert api.status(unknown) == "IN_QUEUE"
    api.sandbox.clock.advance(11)
    assert (api.status(unknown), api.status(lines)) == ("CANCELLED", "DONE")


def test_a_script_is_stronger_than_what_amazon_would_do(start, caller):
    api = caller(start(known_invoices=[], repeat_seconds=60))
    api.sandbox.script(outcome="DONE", times=2)
    statuses = [api.status(api.created(INVOICE, {"invoiceId": "1"})) for _ in range(3)]
    assert statuses == ["DONE", "DONE", "CANCELLED"]


def test_the_same_request_again_too_soon(start, caller):
    api = caller(start(repeat_seconds=600))
    first, again = (api.created(INVOICE, {"invoiceId": "1"}) for _ in range(2))
    assert (api.status(first), api.status(again)) == ("DONE", "CANCELLED")
    others = [
        api.created(INVOICE, {"invoiceId": "2"}),
        api.created(INVOICE, {"invoiceId": "1", "documentType": "Credits"}),
        api.created(INVOICE, {"invoiceId": "1"}, marketplaceIds=["A2EUQ1WTGCTBG2"]),
        api.created(LINES, **WINDOW),
        api.created(LINES, **{**WINDOW, "dataEndTime": "2026-01-03T00:00:00Z"}),
        api.created(LINES),
    ]
    assert {api.status(each) for each in others} == {"DONE"}
    assert api.status(api.created(LINES, **WINDOW)) == "CANCELLED"
    api.sandbox.clock.advance(601)
    assert api.status(api.created(INVOICE, {"invoiceId": "1"})) == "DONE"


def test_another_account_may_ask_for_the_same(start, caller):
    sandbox = start(repeat_seconds=600)
    for account in (sandbox, sandbox.add_account()):
        api = caller(sandbox, account)
        assert api.status(api.created()) == "DONE"


def test_equal_requests_share_a_document_if_set(start, caller, download):
    api = caller(start(shared_document_seconds=3600, token_seconds=1e9))
    first, same = (api.created(LINES, {"rows": "5"}, **WINDOW) for _ in range(2))
    other = api.created(LINES, {"rows": "6"}, **WINDOW)
    assert first != same
    assert document_id(api, first) == document_id(api, same) != document_id(api, other)
    url = api.document(document_id(api, same)).json()["url"]
    assert download(url).raw_bytes == api.sandbox.document(first) == api.sandbox.document(same)
    api.sandbox.clock.advance(3601)
    assert document_id(api, api.created(LINES, {"rows": "5"}, **WINDOW)) != document_id(api, first)


def test_equal_requests_have_documents_of_their_own_by_default(api):
    assert document_id(api, api.created(**WINDOW)) != document_id(api, api.created(**WINDOW))


def test_one_report_at_a_time(start, caller):
    sandbox = start(one_at_a_time=True, queue_seconds=10, processing_seconds=100)
    api, other = caller(sandbox), caller(sandbox, sandbox.add_account())
    first, second, third = (api.created() for _ in range(3))
    theirs = other.created()
    sandbox.clock.advance(15)
    assert [api.status(each) for each in (first, second, third)] == ["IN_PROGRESS", "IN_QUEUE", "IN_QUEUE"]
    assert other.status(theirs) == "IN_PROGRESS"
    # One that leaves the queue lets the next one move up.
    assert api.cancel(second).status_code == 200
    sandbox.clock.advance(100)
    assert [api.status(each) for each in (first, second, third)] == ["DONE", "CANCELLED", "IN_PROGRESS"]
    started = api.get(third).json()["processingStartTime"]
    assert started == api.get(first).json()["processingEndTime"]
    sandbox.clock.advance(100)
    assert api.status(third) == "DONE"


def test_reports_without_a_queue_wait_for_each_other_too(start, caller):
    api = caller(start(one_at_a_time=True, queue_seconds=0, processing_seconds=100))
    first, second = api.created(), api.created()
    assert [api.status(each) for each in (first, second)] == ["IN_PROGRESS", "IN_QUEUE"]


def test_reports_go_side_by_side_by_default(start, caller):
    api = caller(start(processing_seconds=100))
    assert [api.status(api.created()) for _ in range(3)] == ["IN_PROGRESS"] * 3


def test_a_new_report_may_be_missing_in_the_listing(start, caller):
    api = caller(start(listing_lag_seconds=30))
    report_id = api.created()
    assert api.status(report_id) == "DONE"
    assert api.list().json()["reports"] == []
    api.sandbox.clock.advance(31)
    assert [each["reportId"] for each in api.list().json()["reports"]] == [report_id]


def test_a_new_document_may_not_be_known_yet(start, caller):
    api = caller(start(queue_seconds=100, document_lag_seconds=30))
    report_id = api.created()
    api.sandbox.clock.advance(101)
    document = document_id(api, report_id)
    response = api.document(document)
    assert response.status_code == 400
    assert response.json()["errors"][0]["message"] == f"Invalid reportDocumentId {document}"
    api.sandbox.clock.advance(30)
    assert api.document(document).status_code == 200
