"""What the spec allows, and how the rest is refused."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import pytest

REPORTS = "/reports/2021-09-30/reports"
LINES = "SANDBOX_ORDER_LINES"
SCHEMA = "One or more parameters does not conform to the schema constraints."
MISSING = "One or more required parameters missing"
NOT_STRING = (
    "Invalid request body: [instance type (boolean) does not match any allowed primitive type "
    '(allowed: ["string"])]'
)


def error_of(response):
    assert response.status_code == 400, response.text
    (error,) = response.json()["errors"]
    assert error["code"] == "InvalidInput"
    return error


@pytest.mark.parametrize(
    ("query", "message", "details"),
    [
        ("", MISSING, "reportTypes;"),
        ("reportTypes=", MISSING, "reportTypes;"),
        ("pageSize=10", MISSING, "reportTypes;"),
        ("reportTypes=NOPE", "Invalid Report Type NOPE", ""),
        ("reportTypes=" + ",".join([LINES] * 11), SCHEMA, "reportTypes;"),
        (f"reportTypes={LINES},", SCHEMA, "reportTypes;"),
        (f"reportTypes={LINES}&reportTypes=FEE_DISCOUNTS_REPORT", SCHEMA, "reportTypes;"),
        (f"reportTypes={LINES}&pageSize=0", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&pageSize=101", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&pageSize=1.5", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&pageSize=%C2%B2", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&pageSize=%D9%A5", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&pageSize=", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&pageSize=10&pageSize=10", SCHEMA, "pageSize;"),
        (f"reportTypes={LINES}&processingStatuses=NOPE", SCHEMA, "processingStatuses;"),
        (f"reportTypes={LINES}&processingStatuses=done", SCHEMA, "processingStatuses;"),
        (f"reportTypes={LINES}&processingStatuses=", SCHEMA, "processingStatuses;"),
        (f"reportTypes={LINES}&marketplaceIds=", SCHEMA, "marketplaceIds;"),
        (f"reportTypes={LINES}&marketplaceIds=" + ",".join("ABCDEFGHIJK"), SCHEMA, "marketplaceIds;"),
        (f"reportTypes={LINES}&createdSince=yesterday", SCHEMA, "createdSince;"),
        (f"reportTypes={LINES}&createdSince=2026-02-30T00:00:00Z", SCHEMA, "createdSince;"),
        (f"reportTypes={LINES}&createdUntil=2026-01-01", SCHEMA, "createdUntil;"),
        (f"reportTypes={LINES}&createdUntil=2026-01-01T00:00:00", SCHEMA, "createdUntil;"),
        (f"reportTypes={LINES}&createdSince=2026-01-01T00:00:00+01:00", SCHEMA, "createdSince;"),
        (f"reportTypes={LINES}&somethingElse=1", SCHEMA, "somethingElse;"),
    ],
)
def test_a_listing_that_is_refused(shared_api, query, message, details):
    error = error_of(shared_api.list(query))
    assert (error["message"], error["details"]) == (message, details)


@pytest.mark.parametrize("size", [1, 100])
def test_page_sizes_at_the_bounds(shared_api, size):
    assert shared_api.list(f"reportTypes={LINES}&pageSize={size}").status_code == 200


def test_lists_at_the_bounds(shared_api):
    query = "reportTypes=" + ",".join([LINES] * 10) + "&marketplaceIds=" + ",".join("ABCDEFGHIJ")
    assert shared_api.list(query).status_code == 200
    # A status may be named twice: the spec gives no upper bound.
    assert shared_api.list(f"reportTypes={LINES}&processingStatuses=" + "DONE," * 9 + "DONE").status_code == 200


@pytest.mark.parametrize(
    ("change", "message", "details"),
    [
        ({"reportType": None}, MISSING, "reportType;"),
        ({"reportType": "NOPE"}, "Invalid Report Type NOPE", ""),
        ({"reportType": 7}, None, None),
        ({"reportType": [LINES]}, None, None),
        ({"marketplaceIds": None}, MISSING, "marketplaceIds;"),
        ({"marketplaceIds": "ATVPDKIKX0DER"}, None, None),
        ({"marketplaceIds": []}, SCHEMA, "marketplaceIds;"),
        ({"marketplaceIds": ["A"] * 26}, SCHEMA, "marketplaceIds;"),
        ({"marketplaceIds": [1]}, None, None),
        ({"reportOptions": {"invoiceId": True}}, NOT_STRING, None),
        ({"reportOptions": {"invoiceId": None}}, None, None),
        ({"reportOptions": "x"}, None, None),
        ({"reportOptions": ["x"]}, None, None),
        ({"dataStartTime": "yesterday"}, SCHEMA, "dataStartTime;"),
        ({"dataStartTime": 20260101}, SCHEMA, "dataStartTime;"),
        ({"dataEndTime": "2026-01-01T00:00:00"}, SCHEMA, "dataEndTime;"),
        ({"dataStartTime": "2999-01-01T00:00:00Z"}, SCHEMA, "dataStartTime;"),
        ({"dataEndTime": "2999-01-01T00:00:00Z"}, SCHEMA, "dataEndTime;"),
        (
            {"dataStartTime": "2026-01-02T00:00:00Z", "dataEndTime": "2026-01-01T00:00:00Z"},
            SCHEMA,
            "dataStartTime;dataEndTime;",
        ),
        ({"somethingElse": "x"}, None, None),
    ],
)
def test_a_creation_that_is_refused(shared_api, change, message, details):
    body = {"reportType": LINES, "marketplaceIds": ["ATVPDKIKX0DER"], **change}
    # None in the table leaves the field out; null inside the options stays null.
    body = {name: value for name, value in body.items() if value is not None}
    before = len(shared_api.sandbox.reports)
    error = error_of(shared_api.request("POST", REPORTS, json=body))
    if message is not None:
        assert error["message"] == message
        assert error.get("details") == details
    assert len(shared_api.sandbox.reports) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object(shared_api, body):
    headers = {"Content-Type": "application/json"}
    error_of(shared_api.request("POST", REPORTS, data=body, headers=headers))


def test_a_null_field_is_no_field(shared_api):
    body = {"reportType": LINES, "marketplaceIds": ["A"], "dataStartTime": None}
    error_of(shared_api.request("POST", REPORTS, json=body))


def test_25_marketplaces_are_allowed(shared_api):
    assert shared_api.create(marketplaceIds=["A"] * 25).status_code == 202


def test_a_time_a_little_ahead_is_tolerated(shared_api):
    now = shared_api.sandbox.clock.now()
    soon, later = (now + timedelta(seconds=seconds) for seconds in (30, 120))
    assert shared_api.create(dataEndTime=soon.isoformat()).status_code == 202
    error_of(shared_api.create(dataEndTime=later.isoformat()))


@pytest.mark.parametrize("options", [None, {}, {"documentType": "Invoice"}])
def test_an_invoice_needs_an_id(shared_api, options):
    error = error_of(shared_api.create("GET_AB_INVOICE_PDF", options))
    assert error["message"] == MISSING


@pytest.mark.parametrize("options", [{"invoiceId": "1"}, {"orderId": "1"}])
def test_either_id_is_enough(shared_api, options):
    assert shared_api.create("GET_AB_INVOICE_PDF", options).status_code == 202


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "²"])
@pytest.mark.parametrize("name", ["rows", "bytes"])
def test_a_size_that_is_no_number(shared_api, name, value):
    error_of(shared_api.create(LINES, {name: value}))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json5", None])
def test_415(shared_api, kind):
    headers = {"Content-Type": kind} if kind else {}
    response = shared_api.request("POST", REPORTS, data=b'{"reportType": "x"}', headers=headers)
    assert response.status_code == 415
    assert response.json()["errors"][0]["code"] == "UnsupportedMediaType"
    assert "x-amzn-RateLimit-Limit" not in response.headers


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_in_other_spellings(shared_api, kind):
    body = b'{"reportType": "SANDBOX_ORDER_LINES", "marketplaceIds": ["A"]}'
    assert shared_api.request("POST", REPORTS, data=body, headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize("agent", ["", "x" * 501])
def test_a_user_agent_that_is_refused(shared_api, agent):
    error_of(shared_api.request("GET", f"{REPORTS}/1", headers={"user-agent": agent}))


def test_a_missing_user_agent(shared_api, exchange):
    shared_api.get("1")
    received, _ = exchange(
        f"{shared_api.sandbox.url}{REPORTS}/1", headers=f"x-amz-access-token: {shared_api.access_token}\r\n"
    )
    assert received.startswith(b"HTTP/1.1 400 ")


def test_a_user_agent_of_500_characters(shared_api):
    response = shared_api.request("GET", f"{REPORTS}/1", headers={"user-agent": "x" * 500})
    assert response.status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", REPORTS),
        ("GET", f"{REPORTS}/1"),
        ("DELETE", f"{REPORTS}/1"),
        ("GET", "/reports/2021-09-30/documents/x"),
    ],
)
def test_a_query_parameter_that_no_operation_knows(shared_api, method, path):
    body = {"reportType": LINES, "marketplaceIds": ["A"]} if method == "POST" else None
    error_of(shared_api.request(method, f"{path}?debug=true", json=body))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/reports/2021-09-30/nope"),
        ("GET", "/reports/2021-06-30/reports"),
        ("GET", f"{REPORTS}/1/2"),
        ("GET", f"{REPORTS}/"),
        ("PUT", f"{REPORTS}/1"),
        ("DELETE", REPORTS),
        ("POST", "/reports/2021-09-30/documents/x"),
    ],
)
def test_what_is_no_operation_is_refused_as_the_gateway_does(shared_api, method, path):
    response = shared_api.request(method, path, allow_redirects=False)
    assert response.status_code == 403
    assert response.json()["errors"][0]["code"] == "Unauthorized"
    assert response.headers["x-amzn-RequestId"]


def test_the_gateways_headers(shared_api):
    response = shared_api.get(shared_api.created())
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Server"] == "Server"
    assert response.headers["Date"]
    assert response.headers["x-amz-rid"]
    assert response.headers["x-amz-apigw-id"]
    assert response.headers["X-Amzn-Trace-Id"].startswith("Root=1-")
    assert response.headers["Vary"] == "Content-Type,Accept-Encoding,User-Agent"
    assert response.headers["Strict-Transport-Security"]
    other = shared_api.get("1")
    assert other.headers["x-amzn-RequestId"] != response.headers["x-amzn-RequestId"]


def test_the_rate_header_is_where_the_spec_has_it(shared_api):
    for response, status, rate in [
        (shared_api.create(), 202, "0.1"),
        (shared_api.list(), 200, "0.1"),
        (shared_api.list(""), 400, "0.1"),
        (shared_api.get("1"), 404, "2.0"),
        (shared_api.document("x"), 400, "0.1"),
        (shared_api.cancel("1"), 404, "0.1"),
    ]:
        assert (response.status_code, response.headers.get("x-amzn-RateLimit-Limit")) == (status, rate)


def test_old_signatures_are_ignored(shared_api):
    headers = {"Authorization": "AWS4-HMAC-SHA256 x", "x-amz-security-token": "x"}
    assert shared_api.request("GET", f"{REPORTS}/1", headers=headers).status_code == 404


def test_an_id_is_decoded_once(shared_api):
    name = "a/b c%"
    response = shared_api.request("GET", "/reports/2021-09-30/documents/" + quote(name, safe=""))
    assert response.status_code == 400
    assert response.json()["errors"][0]["message"] == f"Invalid reportDocumentId {name}"
