"""The five operations and their retries, against the sandbox."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.scripted_api import ScriptedApi

US = "ATVPDKIKX0DER"
CA = "A2EUQ1WTGCTBG2"
LINES = "SANDBOX_ORDER_LINES"


def account_of(sandbox, **limits):
    return ClientConfig(
        sandbox.client_id,
        sandbox.client_secret,
        sandbox.refresh_token,
        sandbox.url,
        sandbox.token_url,
        rate_limits=limits,
    )


def client_of(sandbox, **settings):
    limits = {operation: Limit(50.0, 15) for operation in USAGE_PLAN}
    return ReportsClient(account_of(sandbox, **limits), **settings)


@pytest.fixture
def client(sandbox):
    return client_of(sandbox)


def test_create_sends_every_parameter(sandbox, client):
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)

    report_id = client.create_report(
        LINES,
        [US, CA],
        data_start_time=start,
        data_end_time="2026-01-02 00:00:00+00:00",
        report_options={"rows": 10},
    )

    report = sandbox.reports[report_id]
    assert report.report_type == LINES
    assert list(report.marketplace_ids) == [US, CA]
    assert report.report_options == {"rows": "10"}
    call = next(call for call in sandbox.calls if call.operation == "createReport")
    assert (
        json.loads(call.body)
        if isinstance(call.body, (str, bytes))
        else call.body
        == {
            "reportType": LINES,
            "marketplaceIds": [US, CA],
            "dataStartTime": "2026-01-01T00:00:00.000Z",
            "dataEndTime": "2026-01-02T00:00:00.000Z",
            "reportOptions": {"rows": "10"},
        }
    )
    assert call.headers["user-agent"].startswith("airflow-provider-amzbiz/")


def test_nothing_is_sent_for_bad_input(sandbox, client):
    bad = [
        lambda: client.create_report("", [US]),
        lambda: client.create_report(LINES, None),
        lambda: client.create_report(LINES, [US] * 26),
        lambda: client.create_report(LINES, [US], data_end_time=datetime.now(timezone.utc) + timedelta(1)),
        lambda: client.create_report(LINES, [US], report_options={"a": None}),
        lambda: client.get_reports(report_types=[]),
        lambda: client.get_reports(report_types=[LINES] * 11),
        lambda: client.get_reports(report_types=[LINES], page_size=101),
        lambda: client.get_reports(report_types=[LINES], processing_statuses=["NEW"]),
        lambda: client.get_reports(report_types=[LINES], marketplace_ids=[US] * 11),
        lambda: client.get_reports(report_types=[LINES], next_token="t"),
        lambda: client.get_report(""),
        lambda: client.cancel_report(" "),
        lambda: client.get_report_document(None),
    ]
    for call in bad:
        with pytest.raises(errors.InvalidParameterError):
            call()
    assert sandbox.calls == []


def test_get_report(sandbox, client):
    report_id = client.create_report(LINES, [US])

    report = client.get_report(report_id)

    assert report.report_id == report_id
    assert report.processing_status == "DONE"
    assert report.report_document_id


def test_get_reports_pages_over_250(sandbox, client):
    planted = {sandbox.add_report(report_type=LINES) for _ in range(250)}

    found = [report.report_id for report in client.get_reports(report_types=[LINES])]

    assert len(found) == 250
    assert set(found) == planted
    assert sandbox.count("getReports", status=200) == 3
    assert sandbox.count("getReports") == 3


def test_get_reports_makes_each_call_only_when_it_is_needed(sandbox, client):
    for _ in range(30):
        sandbox.add_report(report_type=LINES)
    reports = client.get_reports(report_types=[LINES], page_size=10)
    assert sandbox.count("getReports") == 0
    for _ in range(10):
        next(reports)
    assert sandbox.count("getReports") == 1


def test_get_reports_takes_what_can_be_read_once_only(sandbox, client):
    wanted = sandbox.add_report(report_type=LINES, marketplace_ids=[US])
    sandbox.add_report(report_type=LINES, marketplace_ids=[CA])

    found = client.get_reports(report_types=iter([LINES]), marketplace_ids=(each for each in [US]))

    assert [report.report_id for report in found] == [wanted]


def test_get_reports_filters(sandbox, client):
    now = sandbox.clock.now()
    wanted = sandbox.add_report(
        report_type=LINES, marketplace_ids=[CA], status="FATAL", created=now - timedelta(days=2)
    )
    sandbox.add_report(report_type=LINES, marketplace_ids=[US], status="FATAL", created=now - timedelta(days=2))
    sandbox.add_report(report_type=LINES, marketplace_ids=[CA], status="DONE", created=now - timedelta(days=2))
    sandbox.add_report(report_type=LINES, marketplace_ids=[CA], status="FATAL", created=now - timedelta(days=9))

    found = client.get_reports(
        report_types=[LINES, "GET_AB_INVOICE_PDF"],
        processing_statuses=["FATAL", "CANCELLED"],
        marketplace_ids=[CA],
        created_since=now - timedelta(days=3),
        created_until=now - timedelta(days=1),
    )

    assert [report.report_id for report in found] == [wanted]


def test_cancel(sandbox, client):
    sandbox.script(outcome="DONE", queue_seconds=100)
    queued = client.create_report(LINES, [US])
    done = client.create_report(LINES, [US])

    assert client.cancel_report(queued) is True
    assert client.get_report(queued).processing_status == "CANCELLED"
    assert client.cancel_report(queued) is False
    assert client.cancel_report(done) is False
    with pytest.raises(errors.NotFoundError):
        client.cancel_report("99999999999")


def test_a_report_just_created_can_be_cancelled(sandbox, client):
    """For some seconds it may be unknown."""
    sandbox.script(queue_seconds=100)
    report_id = client.create_report(LINES, [US])
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=404, times=2))

    assert client.cancel_report(report_id) is True


def test_a_cancel_that_is_rejected_though_the_report_is_in_the_queue(sandbox, client):
    sandbox.script(queue_seconds=100)
    report_id = client.create_report(LINES, [US])
    sandbox.inject(Fault(operation="cancelReport", kind="status", status=400, body="json"))

    with pytest.raises(errors.RequestRejectedError):
        client.cancel_report(report_id)


def test_a_listing_that_repeats_its_token_is_an_error(sandbox, client):
    page = json.dumps({"reports": [], "nextToken": "the same"})
    sandbox.inject(Fault(operation="getReports", kind="status", status=200, body=page, times=None))

    with pytest.raises(errors.UnavailableError, match="same nextToken again"):
        list(client.get_reports(report_types=LINES))


def test_a_cancel_whose_response_was_lost_still_returns_true(sandbox, client):
    sandbox.script(outcome="DONE", queue_seconds=100)
    report_id = client.create_report(LINES, [US])
    sandbox.inject(Fault(operation="cancelReport", kind="lost"))

    assert client.cancel_report(report_id) is True


def test_get_report_document(sandbox, client):
    report = client.get_report(client.create_report(LINES, [US]))

    document = client.get_report_document(report.report_document_id)

    assert document.report_document_id == report.report_document_id
    assert document.compression_algorithm == "GZIP"
    assert "X-Amz-Signature=" in document.url


def test_unknown_ids(client):
    with pytest.raises(errors.NotFoundError):
        client.get_report("99999999999")
    with pytest.raises(errors.RequestRejectedError, match="Invalid reportDocumentId"):
        client.get_report_document("99999999999")


def test_an_id_cannot_leave_its_path(sandbox, client):
    with pytest.raises(errors.ApiError):
        client.get_report("../documents/x?y")
    assert {call.operation for call in sandbox.calls} <= {"token", "getReport"}


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


def test_a_proxy_that_is_away_is_named(sandbox, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(errors.UnreachableError, match="the proxy rejected the request"):
        client_of(sandbox, retry_for=0).get_report("1")


def test_a_create_that_never_connected_is_repeated_until_the_bound(sandbox):
    client = client_of(sandbox, retry_for=1.5)
    client.token()
    sandbox.stop()

    with pytest.raises(errors.UnreachableError):
        client.create_report(LINES, [US])


def test_a_404_for_a_report_just_created(monkeypatch):
    with Sandbox(not_found_seconds=60, throttle=False) as sandbox:
        client = client_of(sandbox)
        report_id = client.create_report(LINES, [US])
        with pytest.raises(errors.NotFoundError):
            client.get_report(report_id)
        sandbox.clock.advance(61)
        assert client.get_report(report_id)


def test_after_a_429_the_call_queues_for_the_next_permit(sandbox):
    report_id = sandbox.add_report(report_type=LINES)
    sandbox.inject(Fault(operation="getReport", kind="status", status=429))
    client = ReportsClient(account_of(sandbox, getReport=Limit(0.5, 15)))
    client.token()

    client.get_report(report_id)

    first, second = [call.at for call in sandbox.calls if call.operation == "getReport"]
    assert second - first >= timedelta(seconds=2)


def test_a_throttled_call_goes_before_those_that_joined_later(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, times=2))
    account = account_of(sandbox, createReport=Limit(4.0, 1))

    def create(rows):
        return ReportsClient(account).create_report(LINES, [US], report_options={"rows": rows})

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(create, 1)
        while not sandbox.count("createReport"):
            time.sleep(0.01)
        others = [pool.submit(create, 2) for _ in range(3)]
        assert {each.result() for each in (first, *others)} == set(sandbox.reports)

    created = list(sandbox.reports.values())
    assert [each.report_options["rows"] for each in created] == ["1", "2", "2", "2"]
    assert token_buckets(account)["createReport"].waiting == 0


def test_a_throttled_call_that_may_not_wait_leaves_the_queue(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, times=None))
    account = account_of(sandbox, createReport=Limit(2.0, 1))

    with pytest.raises(errors.ThrottledError):
        ReportsClient(account, max_throttle_wait=5).create_report(LINES, [US])
    assert token_buckets(account)["createReport"].waiting == 0


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


@pytest.mark.parametrize(
    "written",
    [
        "HTTPS://NA.Business-API.amazon.com:443/",
        " https://na.business-api.amazon.com./\n",
        "https://na.business-api.amazon.com:0443//",
    ],
)
def test_an_account_has_one_set_of_limits_however_it_is_written(written):
    plain = ClientConfig("i", "s", "t", "https://na.business-api.amazon.com")
    other = ClientConfig(" i\n", "s ", "\tt", written)

    assert other == plain
    assert token_buckets(other)["getReport"] is token_buckets(plain)["getReport"]


def test_retry_after_is_honoured(sandbox, client):
    report_id = sandbox.add_report(report_type=LINES)
    sandbox.inject(Fault(operation="getReport", kind="status", status=429, headers={"Retry-After": "1"}))

    client.get_report(report_id)

    first, second = [call.at for call in sandbox.calls if call.operation == "getReport"]
    assert second - first >= timedelta(seconds=0.95)


def test_a_call_beyond_the_limit_waits_instead_of_being_throttled():
    with Sandbox(time_scale=20, queue_seconds=0, processing_seconds=0) as sandbox:
        client = ReportsClient(account_of(sandbox))
        for _ in range(18):
            client.create_report(LINES, [US])

        assert sandbox.count("createReport") == 18
        assert sandbox.count("createReport", status=429) == 0


def test_a_call_that_may_not_wait_names_the_time_to_wait(sandbox):
    slow = ReportsClient(account_of(sandbox, createReport=Limit(0.01, 1)), max_throttle_wait=0)
    slow.create_report(LINES, [US])

    with pytest.raises(errors.ThrottledError, match="createReport may be called again in 100 s"):
        slow.create_report(LINES, [US])
    assert sandbox.count("createReport") == 1


def test_permits_from_elsewhere_are_used_first(sandbox):
    client = ReportsClient(account_of(sandbox, createReport=Limit(0.01, 1)), max_throttle_wait=0)
    client.grant("createReport", 2)

    for _ in range(3):
        client.create_report(LINES, [US])
    with pytest.raises(errors.ThrottledError):
        client.create_report(LINES, [US])


def test_two_connections_to_one_account_share_its_limit(sandbox):
    account = account_of(sandbox, createReport=Limit(0.01, 1))
    ReportsClient(account).create_report(LINES, [US])

    other = ReportsClient(replace(account, application_name="other"), max_throttle_wait=0)
    with pytest.raises(errors.ThrottledError):
        other.create_report(LINES, [US])


def test_a_redirect_is_not_followed(sandbox):
    sandbox.inject(Fault(operation="getReport", kind="redirect", location="http://127.0.0.1:9/"))

    with pytest.raises(errors.UnavailableError, match="302"):
        client_of(sandbox, retry_for=0).get_report("1")


def test_the_static_sandbox_of_amazon_works():
    with Sandbox(static=True) as sandbox:
        client = client_of(sandbox)
        marketplaces = ["A1PA6795UKMFR9", US]
        created = client.create_report(
            "GET_MERCHANT_LISTINGS_ALL_DATA", marketplaces, data_start_time="2019-12-10T20:11:24Z"
        )
        assert created == "ID323"
        assert client.get_report(created).report_id == "ReportId1"
        assert client.cancel_report("ID") is True
        document = client.get_report_document("0356cf79-b8b0-4226-b4b9-0ee058ea5760")
        assert document.compression_algorithm is None
        with pytest.raises(errors.RequestRejectedError, match="Invalid input"):
            client.get_report("badReportId1")


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
