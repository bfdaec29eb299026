"""One call: when it is repeated, and what is learned from its response."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.transport import user_agent
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.client.clients import LINES, US, account_of, client_of
from tests.scripted_api import ScriptedApi

TRANSIENT = [
    {"kind": "status", "status": 429, "body": "json"},
    {"kind": "status", "status": 429, "body": "empty"},
    {"kind": "status", "status": 500, "body": "json"},
    {"kind": "status", "status": 502, "body": "empty"},
    {"kind": "status", "status": 503, "body": "html"},
    {"kind": "status", "status": 504, "body": "null_message"},
    {"kind": "empty"},
    {"kind": "drop"},
    {"kind": "lost"},
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: "-".join(map(str, fault.values())))
def test_a_transient_fault_is_waited_out(sandbox, client, fault):
    report_id = sandbox.add_report(report_type=LINES)
    sandbox.inject(Fault(operation="getReport", **fault))

    assert client.get_report(report_id).report_id == report_id
    assert sandbox.count("getReport") == 2


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: "-".join(map(str, fault.values())))
def test_a_transient_fault_ends_with_the_bound(sandbox, fault):
    sandbox.inject(Fault(operation="getReport", times=None, **fault))

    with pytest.raises(errors.TransientError) as caught:
        client_of(sandbox, retry_for=0, max_throttle_wait=0).get_report("1")
    assert caught.value.operation == "getReport"
    assert sandbox.count("getReport") == 1


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: "-".join(map(str, fault.values())))
def test_a_create_is_repeated_only_where_it_had_no_effect(sandbox, client, fault):
    sandbox.inject(Fault(operation="createReport", **fault))

    if fault.get("status") == 429:
        assert client.create_report(LINES, [US])
        assert len(sandbox.reports) == 1
        return
    with pytest.raises(errors.ResponseLostError, match="may have been created"):
        client.create_report(LINES, [US])
    assert sandbox.count("createReport") == 1


def test_without_a_token_nothing_may_have_been_created(sandbox):
    sandbox.inject(Fault(operation="token", kind="empty", times=None))

    with pytest.raises(errors.UnavailableError, match="without an access token"):
        client_of(sandbox, retry_for=0).create_report(LINES, [US])
    assert sandbox.count("createReport") == 0


def test_a_create_that_never_connected_is_repeated_until_the_bound(sandbox):
    client = client_of(sandbox, retry_for=1.5)
    client.token()
    sandbox.stop()

    with pytest.raises(errors.UnreachableError):
        client.create_report(LINES, [US])


@pytest.mark.parametrize("header", ["31536000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "1e9", "nan", "soon"])
def test_no_retry_after_stops_an_operation(sandbox, client, header):
    report_id = sandbox.add_report(report_type=LINES)
    sandbox.inject(Fault(operation="getReport", kind="status", status=429, headers={"Retry-After": header}))
    account = account_of(sandbox, getReport=Limit(50.0, 15))

    with pytest.raises(errors.ThrottledError):
        ReportsClient(account, max_throttle_wait=0).get_report(report_id)

    bucket = token_buckets(account)["getReport"]
    assert bucket.claim(bucket.join()) < 15


@pytest.mark.parametrize(
    "header",
    ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +1400", "Thu, 01 Jan 1970 00:00:00 GMT", "x"],
)
def test_a_clock_that_is_absurd_is_not_believed(header):
    with ScriptedApi() as api:
        client = ReportsClient(ClientConfig("i", "s", "t", api.url, api.token_url))
        api.report_headers = [("Date", header)]
        client.get_report("1")
    assert abs(client.clock_offset) < 60


@pytest.mark.parametrize("rate", ["1e-9", "1e308", "1e999", "0", "-1", "nan"])
def test_a_rate_that_cannot_be_meant_is_not_believed(rate):
    with ScriptedApi() as api:
        account = ClientConfig("i", "s", "t", api.url, api.token_url)
        api.report_headers = [("x-amzn-RateLimit-Limit", rate)]
        ReportsClient(account).get_report("1")
    assert token_buckets(account)["getReport"].limit == USAGE_PLAN["getReport"]


def test_a_redirect_is_not_followed(sandbox):
    sandbox.inject(Fault(operation="getReport", kind="redirect", location="http://127.0.0.1:9/"))

    with pytest.raises(errors.UnavailableError, match="302"):
        client_of(sandbox, retry_for=0).get_report("1")


def test_the_rate_in_successful_responses_is_learned():
    with Sandbox(throttle=False, plan="2025") as sandbox:
        account = account_of(sandbox)
        ReportsClient(account).create_report(LINES, [US])
        assert token_buckets(account)["createReport"].limit.rate == 0.0167


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_the_rate_in_other_responses_is_ignored(sandbox, status):
    account = account_of(sandbox)
    sandbox.inject(Fault("getReport", "status", status=status, headers={"x-amzn-RateLimit-Limit": "7.0"}))
    with pytest.raises(errors.ApiError):
        ReportsClient(account, retry_for=0, max_throttle_wait=0).get_report("1")
    assert token_buckets(account)["getReport"].limit.rate == 2.0


def test_the_user_agent_has_amazons_form():
    assert user_agent("My Tool").startswith("My Tool/")
    assert "(Language=Python/" in user_agent(None)
    for name in ("x" * 500, "naïve", "line\nbreak"):
        with pytest.raises(errors.InvalidParameterError, match="application_name"):
            user_agent(name)
