"""What the whole test run rests on: a request that breaks the contract is found."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airflow_provider_amzbiz.client.transport import user_agent
from airflow_provider_amzbiz.sandbox.journal import Call
from tests.contract.requests_of_ours import breaches

REPORTS = "/reports/2021-09-30/reports"
BODY = b'{"reportType": "A", "marketplaceIds": ["B"], "dataStartTime": "2026-01-01T00:00:00Z"}'


def call(operation, method, path, query="", body=b"", **headers):
    sent = {"user-agent": user_agent(None), "x-amz-access-token": "token", **headers}
    return Call(operation, method, path, query, body, sent, datetime.now(timezone.utc))


def test_what_is_allowed_is_no_breach():
    assert breaches(call("createReport", "POST", REPORTS, body=BODY)) == []
    assert breaches(call("getReports", "GET", REPORTS, "reportTypes=A%2CB&pageSize=100")) == []
    assert breaches(call("getReports", "GET", REPORTS, "nextToken=a%3D")) == []
    assert breaches(call("getReport", "GET", f"{REPORTS}/1")) == []
    assert breaches(call("token", "POST", "/auth/o2/token", body=b"grant_type=refresh_token")) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            call("createReport", "POST", REPORTS, body=b'{"reportType": "A"}'),
            "'marketplaceIds' is a required property",
        ),
        (call("createReport", "POST", REPORTS, body=BODY.replace(b'["B"]', b"[]")), "should be non-empty"),
        (call("createReport", "POST", REPORTS, body=BODY.replace(b"A", b"")), "should be non-empty"),
        (call("createReport", "POST", REPORTS, body=BODY.replace(b"2026-01-01T", b"")), "is not a 'date-time'"),
        (call("createReport", "POST", REPORTS, body=BODY.replace(b"}", b', "x": 1}')), "'x' was unexpected"),
        (
            call("getReports", "GET", REPORTS, "reportTypes=A&pageSize=101"),
            "101 is greater than the maximum of 100",
        ),
        (call("getReports", "GET", REPORTS, "reportTypes=A&nextToken=b"), "nextToken is not alone"),
        (call("getReports", "GET", REPORTS, "reportTypes=" + "A," * 10 + "A"), "is too long"),
        (call("getReports", "GET", REPORTS, "reportTypes=A&processingStatuses=NEW"), "'NEW' is not one of"),
        (call("getReports", "GET", REPORTS, "reportTypes=A&createdSince=2026-01-01"), "is not a 'date-time'"),
        (call("getReports", "GET", REPORTS, "reportTypes=A&reportTypes=B"), "is repeated"),
        (call("getReports", "GET", REPORTS, "pageSize=10"), "neither nextToken nor reportTypes"),
        (call("getReports", "GET", REPORTS, "reportTypes=A&other=1"), "other is no parameter"),
        (call("getReport", "GET", f"{REPORTS}/1/2"), "is not GET"),
        (call("getReport", "GET", f"{REPORTS}/1", "a=b"), "a is no parameter"),
        (call("cancelReport", "DELETE", f"{REPORTS}/1", body=b"{}"), "there is a body"),
        (call("getReport", "GET", f"{REPORTS}/1", **{"x-amz-access-token": ""}), "there is no access token"),
    ],
)
def test_a_breach_is_found(given, words):
    assert any(words in each for each in breaches(given)), breaches(given)


def test_what_tests_send_with_clients_of_their_own_is_none_of_ours():
    assert breaches(call("getReports", "GET", REPORTS, "other=1", **{"user-agent": "python-requests/2"})) == []
