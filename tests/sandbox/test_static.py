"""Amazon's static sandbox: ten cases, and nothing else."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox

REPORTS = "/reports/2021-09-30/reports"
DOCUMENTS = "/reports/2021-09-30/documents"
REPORT = {
    "reportId": "ReportId1",
    "reportType": "FEE_DISCOUNTS_REPORT",
    "dataStartTime": "2019-12-11T13:47:20.677Z",
    "dataEndTime": "2019-12-12T13:47:20.677Z",
    "createdTime": "2019-12-10T13:47:20.677Z",
    "processingStatus": "IN_PROGRESS",
    "processingStartTime": "2019-12-10T13:47:20.677Z",
    "processingEndTime": "2019-12-12T13:47:20.677Z",
}
NEXT = "VGhpcyB0b2tlbiBpcyBvcGFxdWUgYW5kIGludGVudGlvbmFsbHkgb2JmdXNjYXRlZA=="
TYPES = "reportTypes=FEE_DISCOUNTS_REPORT,GET_AFN_INVENTORY_DATA"
GOOD = {
    "reportType": "GET_MERCHANT_LISTINGS_ALL_DATA",
    "dataStartTime": "2019-12-10T20:11:24.000Z",
    "marketplaceIds": ["A1PA6795UKMFR9", "ATVPDKIKX0DER"],
}
BAD = {**GOOD, "reportType": "BAD_FEE_DISCOUNTS_REPORT"}
DOCUMENT = "0356cf79-b8b0-4226-b4b9-0ee058ea5760"
LINK = "https://d34o8swod1owfl.cloudfront.net/Report_47700__GET_MERCHANT_LISTINGS_ALL_DATA_.txt"


def invalid(details="Invalid input"):
    return {"errors": [{"code": "400", "message": "Invalid input", "details": details}]}


CASES = [
    ("GET", f"{REPORTS}?{TYPES}&processingStatuses=IN_QUEUE,IN_PROGRESS", None, 200,
     {"nextToken": NEXT, "reports": [REPORT]}),
    ("GET", f"{REPORTS}?{TYPES}&processingStatuses=BAD_VALUE,IN_PROGRESS", None, 400,
     invalid("Invalid input in processing status")),
    ("POST", REPORTS, GOOD, 202, {"reportId": "ID323"}),
    ("POST", REPORTS, BAD, 400, invalid()),
    ("DELETE", f"{REPORTS}/ID", None, 200, None),
    ("DELETE", f"{REPORTS}/anything-else", None, 400, invalid()),
    ("GET", f"{REPORTS}/ID323", None, 200, REPORT),
    ("GET", f"{REPORTS}/badReportId1", None, 400, invalid()),
    ("GET", f"{DOCUMENTS}/{DOCUMENT}", None, 200, {"reportDocumentId": DOCUMENT, "url": LINK}),
    ("GET", f"{DOCUMENTS}/badDocumentId1", None, 400, invalid()),
]  # fmt: skip
NO_CASES = [
    ("GET", f"{REPORTS}?{TYPES}", None),
    ("GET", f"{REPORTS}?{TYPES}&processingStatuses=IN_PROGRESS,IN_QUEUE", None),
    ("GET", f"{REPORTS}?{TYPES}&processingStatuses=IN_QUEUE,IN_PROGRESS&pageSize=11", None),
    ("GET", f"{REPORTS}?{TYPES}&processingStatuses=IN_QUEUE,IN_PROGRESS&marketplaceIds=ATVPDKIKX0DER", None),
    ("GET", f"{REPORTS}?{TYPES}&processingStatuses=IN_QUEUE&processingStatuses=IN_PROGRESS", None),
    ("GET", f"{REPORTS}?nextToken={NEXT.replace('=', '%3D')}", None),
    ("POST", REPORTS, {**GOOD, "dataStartTime": "2019-12-10T20:11:24Z"}),
    ("POST", REPORTS, {**GOOD, "marketplaceIds": GOOD["marketplaceIds"][::-1]}),
    ("POST", REPORTS, {**GOOD, "reportOptions": {}}),
    ("POST", REPORTS, {}),
    ("GET", f"{REPORTS}/ID", None),
    ("GET", f"{REPORTS}/ID324", None),
    ("GET", f"{DOCUMENTS}/other", None),
]


@pytest.fixture(scope="module")
def static_api(caller):
    with Sandbox(static=True, throttle=False) as sandbox:
        yield caller(sandbox)


@pytest.mark.parametrize(("method", "path", "body", "status", "expected"), CASES)
def test_a_case(static_api, method, path, body, status, expected):
    response = static_api.request(method, path, json=body)
    assert response.status_code == status
    # Compact, with a line end.
    body_expected = b"" if expected is None else json.dumps(expected, separators=(",", ":")).encode() + b"\n"
    assert response.content == body_expected
    assert response.headers["x-amzn-RateLimit-Limit"] == "5.0"
    assert response.headers["Content-Type"] == "application/json"


def test_encoded_commas_match_too(static_api):
    query = (TYPES + "&processingStatuses=IN_QUEUE,IN_PROGRESS").replace(",", "%2C")
    assert static_api.request("GET", f"{REPORTS}?{query}").status_code == 200


def test_the_default_page_size_may_be_said(static_api):
    query = f"{TYPES}&processingStatuses=IN_QUEUE,IN_PROGRESS&pageSize=10"
    assert static_api.request("GET", f"{REPORTS}?{query}").status_code == 200


def test_the_order_of_the_fields_does_not_count(static_api):
    body = dict(reversed(GOOD.items()))
    assert static_api.request("POST", REPORTS, json=body).status_code == 202


@pytest.mark.parametrize(("method", "path", "body"), NO_CASES)
def test_what_is_no_case(static_api, method, path, body):
    response = static_api.request(method, path, json=body)
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["code"], error["message"]) == ("InvalidInput", "Could not match input arguments")


def test_a_token_is_needed(static_api):
    response = static_api.request("GET", f"{REPORTS}/ID323", headers={"x-amz-access-token": None})
    assert response.status_code == 403


def test_a_body_of_another_type(static_api):
    headers = {"Content-Type": "text/plain"}
    assert static_api.request("POST", REPORTS, data=json.dumps(GOOD), headers=headers).status_code == 415


def test_the_static_limits(start, caller):
    api = caller(start(static=True, throttle=True, time_scale=1e-6))
    statuses = [api.request("GET", f"{REPORTS}/ID323").status_code for _ in range(16)]
    assert statuses == [200] * 15 + [429]
    api.sandbox.clock.advance(0.21)
    assert api.request("GET", f"{REPORTS}/ID323").status_code == 200
