"""What the spec allows, and how everything else is rejected."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import pytest

REPORTS = "/reports/2021-09-30/reports"
LINES = "SANDBOX_ORDER_LINES"
SCHEMA = "One or more parameters does not conform to the schema constraints."
US = "ATVPDKIKX0DER"
AGENT = "Tool/2.0 (Language="
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
        (f"reportTypes={LINES}&reportTypes=NOPE", "Invalid Report Type NOPE", ""),
        ("&".join([f"reportTypes={LINES}"] * 11), SCHEMA, "reportTypes;"),
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
        (f"reportTypes={LINES}&marketplaceIds=" + ",".join([US] * 11), SCHEMA, "marketplaceIds;"),
        (f"reportTypes={LINES}&marketplaceIds=A0000000000000", SCHEMA, "marketplaceIds;"),
        (f"reportTypes={LINES}&marketplaceIds={US},A1PA6795UKMFR9", SCHEMA, "marketplaceIds;"),
        (f"reportTypes={LINES}&createdSince=yesterday", SCHEMA, "createdSince;"),
        (f"reportTypes={LINES}&createdSince=2026-02-30T00:00:00Z", SCHEMA, "createdSince;"),
        (f"reportTypes={LINES}&createdUntil=2026-01-01", SCHEMA, "createdUntil;"),
        (f"reportTypes={LINES}&createdUntil=2026-01-01T00:00:00", SCHEMA, "createdUntil;"),
        (f"reportTypes={LINES}&createdSince=2026-01-01T00:00:00+01:00", SCHEMA, "createdSince;"),
    ],
)
def test_a_listing_that_is_rejected(shared_api, query, message, details):
    error = error_of(shared_api.list(query))
    assert (error["message"], error["details"]) == (message, details)


@pytest.mark.parametrize("size", [1, 100])
def test_page_sizes_at_the_bounds(shared_api, size):
    assert shared_api.list(f"reportTypes={LINES}&pageSize={size}").status_code == 200


def test_lists_at_the_bounds(shared_api):
    query = "reportTypes=" + ",".join([LINES] * 10) + "&marketplaceIds=" + ",".join([US] * 10)
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
        ({"marketplaceIds": [US] * 26}, SCHEMA, "marketplaceIds;"),
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
    ],
)
def test_a_create_that_is_rejected(shared_api, change, message, details):
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
    body = {"reportType": LINES, "marketplaceIds": [US], "dataStartTime": None}
    error_of(shared_api.request("POST", REPORTS, json=body))


def test_25_marketplaces_are_allowed(shared_api):
    assert shared_api.create(marketplaceIds=[US] * 25).status_code == 202


@pytest.mark.parametrize("name", ["dataStartTime", "dataEndTime"])
def test_a_time_may_be_now_and_not_later(shared_api, name):
    now = shared_api.sandbox.clock.now()
    assert shared_api.create(**{name: now.isoformat()}).status_code == 202
    soon = now + timedelta(seconds=30)
    error = error_of(shared_api.create(**{name: soon.isoformat()}))
    assert (error["message"], error["details"]) == (SCHEMA, f"{name};")


def test_a_list_may_be_a_repeated_key(shared_api):
    ids = [shared_api.sandbox.add_report(status=status) for status in ("FATAL", "CANCELLED", "DONE")]
    query = "&processingStatuses=FATAL&processingStatuses=CANCELLED"
    found = shared_api.list(f"reportTypes={LINES}&reportTypes={LINES}{query}")
    assert {each["reportId"] for each in found.json()["reports"]} & set(ids) == set(ids[:2])


def test_what_nobody_knows_does_not_count(shared_api):
    assert shared_api.list(f"reportTypes={LINES}&somethingElse=1").status_code == 200
    report_id = shared_api.created(somethingElse="x")
    assert "somethingElse" not in shared_api.get(report_id).json()


@pytest.mark.parametrize(
    "report_type", ["FEE_DISCOUNTS_REPORT", "GET_AFN_INVENTORY_DATA", "GET_MERCHANT_LISTINGS_ALL_DATA"]
)
def test_a_type_of_the_sibling_api_never_has_data(shared_api, report_type):
    report = shared_api.get(shared_api.created(report_type)).json()
    assert report["processingStatus"] == "FATAL"
    assert "reportDocumentId" not in report


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
    body = b'{"reportType": "SANDBOX_ORDER_LINES", "marketplaceIds": ["ATVPDKIKX0DER"]}'
    assert shared_api.request("POST", REPORTS, data=body, headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize(
    "agent",
    [
        AGENT + "x" * (496 - len(AGENT)) + ";A=b)",
        "python-requests/2.32.3",
        "Mozilla/5.0 (X11; Linux x86_64)",
        "Tool (Language=Python)",
        "Tool/2.0 (Platform=Linux)",
        "Tool/2.0 (Language=)",
        "Tool/2.0 (Language=Python;Linux)",
        "Tool/2.0 (Language=Python",
        "/2.0 (Language=Python)",
        "Tool/2.0 (Language=Python) and more",
        "Tool/2.0 Language=Python",
    ],
)
def test_a_user_agent_that_is_rejected(shared_api, agent):
    error_of(shared_api.request("GET", f"{REPORTS}/1", headers={"user-agent": agent}))


@pytest.mark.parametrize(
    "agent",
    [
        AGENT + "x" * (495 - len(AGENT)) + ";A=b)",
        "My Amazon Business Application Tool/2.0 (Language=Java/1.8.0.221;Platform=Windows/10)",
        "Tool/2.0 (Platform=Linux; Language=Python)",
        "My team/My tool (new)/2.0 (Language=Python)",
    ],
)
def test_a_user_agent_of_the_documented_form(shared_api, agent):
    response = shared_api.request("GET", f"{REPORTS}/1", headers={"user-agent": agent})
    assert response.status_code == 404


def test_a_missing_user_agent_is_accepted(shared_api, exchange):
    shared_api.get("1")
    received, _ = exchange(
        f"{shared_api.sandbox.url}{REPORTS}/1", headers=f"x-amz-access-token: {shared_api.access_token}\r\n"
    )
    assert received.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", REPORTS),
        ("GET", f"{REPORTS}/1"),
        ("DELETE", f"{REPORTS}/1"),
        ("GET", "/reports/2021-09-30/documents/x"),
    ],
)
def test_a_query_parameter_that_no_operation_knows_does_not_count(shared_api, method, path):
    body = {"reportType": LINES, "marketplaceIds": [US]} if method == "POST" else None
    plain, queried = (shared_api.request(method, path + query, json=body) for query in ("", "?debug=true"))
    assert queried.status_code == plain.status_code


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
