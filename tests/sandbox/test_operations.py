"""The five operations: their responses, and how a report's status changes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

LINES = "SANDBOX_ORDER_LINES"
INVOICE = "GET_AB_INVOICE_PDF"
US = "ATVPDKIKX0DER"
MX = "A1AM78C64UM0Y8"


def test_create_and_get(api):
    response = api.create(marketplaceIds=["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"])
    assert response.status_code == 202
    assert list(response.json()) == ["reportId"]
    report_id = response.json()["reportId"]
    assert re.fullmatch(r"\d{11,13}", report_id)
    report = api.get(report_id).json()
    assert report["reportId"] == report_id
    assert report["reportType"] == LINES
    assert report["marketplaceIds"] == ["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"]
    assert report["processingStatus"] == "DONE"
    spdoc = r"amzn1\.spdoc\.1\.4\.na\.[0-9a-f-]{36}\.T[0-9A-Z]{13}\.\d+"
    assert re.fullmatch(spdoc, report["reportDocumentId"])
    assert "reportOptions" not in report


def test_the_states_follow_the_clock(start, caller):
    api = caller(start(queue_seconds=100, processing_seconds=100))
    report_id = api.created()
    queued = api.get(report_id).json()
    assert queued["processingStatus"] == "IN_QUEUE"
    # What is not yet known is left out, and is not null.
    assert not {"processingStartTime", "processingEndTime", "reportDocumentId"} & set(queued)
    assert None not in queued.values()
    api.sandbox.clock.advance(110)
    working = api.get(report_id).json()
    assert working["processingStatus"] == "IN_PROGRESS"
    assert "processingStartTime" in working
    assert not {"processingEndTime", "reportDocumentId"} & set(working)
    api.sandbox.clock.advance(100)
    done = api.get(report_id).json()
    assert done["processingStatus"] == "DONE"
    took = datetime.fromisoformat(done["processingEndTime"]) - datetime.fromisoformat(done["processingStartTime"])
    assert took == timedelta(seconds=100)
    assert done["reportDocumentId"]


def test_cancel_in_queue(start, caller):
    api = caller(start(queue_seconds=100))
    report_id = api.created()
    response = api.cancel(report_id)
    assert (response.status_code, response.content) == (200, b"")
    report = api.get(report_id).json()
    assert report["processingStatus"] == "CANCELLED"
    assert "reportDocumentId" not in report
    api.sandbox.clock.advance(1000)
    assert api.status(report_id) == "CANCELLED"
    assert [each["reportId"] for each in api.list().json()["reports"]] == [report_id]


@pytest.mark.parametrize("status", ["IN_PROGRESS", "DONE", "CANCELLED", "FATAL"])
def test_cancelling_later_is_rejected(shared_api, status):
    report_id = shared_api.sandbox.add_report(status=status)
    response = shared_api.cancel(report_id)
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "InvalidInput"
    assert shared_api.status(report_id) == status


def test_unknown_reports_are_404_as_recorded(shared_api):
    for response in (shared_api.get("12345678901"), shared_api.cancel("12345678901")):
        assert response.status_code == 404
        message = "One or more of the provided ReportRequestIds could not be found."
        assert response.json() == {"errors": [{"code": "NotFound", "message": message}]}
    assert shared_api.get("12345678901").headers["x-amzn-RateLimit-Limit"] == "2.0"


def test_an_unknown_document_is_400(shared_api):
    report_id = shared_api.created()
    for wrong in (report_id, "amzn1.spdoc.1.4.na.made-up"):
        response = shared_api.document(wrong)
        assert response.status_code == 400
        error = {"code": "InvalidInput", "message": f"Invalid reportDocumentId {wrong}", "details": ""}
        assert response.json() == {"errors": [error]}


def test_a_document_is_not_there_before_its_report_is_done(start, caller):
    api = caller(start(queue_seconds=100))
    report_id = api.created()
    assert api.document(api.sandbox.reports[report_id].document_id).status_code == 400


def test_not_found_seconds(start, caller):
    api = caller(start(not_found_seconds=30))
    report_id = api.created()
    assert api.get(report_id).status_code == 404
    api.sandbox.clock.advance(31)
    assert api.get(report_id).status_code == 200


def test_listing_is_newest_first_and_filtered(api):
    now = api.sandbox.clock.now()
    ids = {}
    for name, hours, kind, marketplace, status in [
        ("old", 5, LINES, US, "DONE"),
        ("new", 1, LINES, US, "FATAL"),
        ("other type", 2, INVOICE, US, "DONE"),
        ("other place", 3, LINES, MX, "DONE"),
    ]:
        ids[name] = api.sandbox.add_report(
            report_type=kind,
            marketplace_ids=[marketplace],
            status=status,
            created=now - timedelta(hours=hours),
        )

    def found(query):
        names = {report_id: name for name, report_id in ids.items()}
        return [names[each["reportId"]] for each in api.list(query).json()["reports"]]

    both = f"reportTypes={LINES},{INVOICE}"
    assert found(both) == ["new", "other type", "other place", "old"]
    assert found(f"reportTypes={LINES}") == ["new", "other place", "old"]
    assert found(f"{both}&processingStatuses=FATAL,IN_QUEUE") == ["new"]
    assert found(f"{both}&marketplaceIds={MX},A2EUQ1WTGCTBG2") == ["other place"]
    since = quote((now - timedelta(hours=4)).isoformat())
    until = quote((now - timedelta(hours=1, minutes=30)).isoformat())
    assert found(f"{both}&createdSince={since}&createdUntil={until}") == ["other type", "other place"]


def test_reports_are_listed_for_90_days(api):
    now = api.sandbox.clock.now()
    api.sandbox.add_report(created=now - timedelta(days=91))
    kept = api.sandbox.add_report(created=now - timedelta(days=89))
    assert [each["reportId"] for each in api.list().json()["reports"]] == [kept]


def test_pages_over_250_reports_are_whole_and_stable(api):
    ids = [api.sandbox.add_report() for _ in range(250)]
    seen, sizes = [], []
    response = api.list(f"reportTypes={LINES}&pageSize=100").json()
    while True:
        sizes.append(len(response["reports"]))
        seen += [each["reportId"] for each in response["reports"]]
        if "nextToken" not in response:
            break
        # What is created after the request of the first page does not appear on later pages.
        api.sandbox.add_report()
        response = api.list("nextToken=" + quote(response["nextToken"], safe="")).json()
    assert sizes == [100, 100, 50]
    assert sorted(seen) == sorted(ids)


def test_ten_reports_are_a_page_unless_said(api):
    for _ in range(11):
        api.sandbox.add_report()
    assert len(api.list().json()["reports"]) == 10


def test_a_token_needs_encoding_and_stands_alone(api):
    for _ in range(3):
        api.sandbox.add_report()
    token = api.list(f"reportTypes={LINES}&pageSize=1").json()["nextToken"]
    assert set("+/=") <= set(token)
    for wrong in (token, "made-up", ""):
        response = api.list(f"nextToken={wrong}")
        assert response.status_code == 400
        assert response.json()["errors"][0]["message"] is None
    response = api.list(f"nextToken={quote(token, safe='')}&pageSize=1&reportTypes={LINES}")
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["message"] == "NextToken cannot be specified with other input parameters"
    assert error["details"] == "pageSize;reportTypes;"
    assert api.list(f"nextToken={quote(token, safe='')}").status_code == 200
