"""Which report of the listing may be adopted or reused."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    InvalidInputError,
    ResponseLostError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators import base
from airflow_provider_amzbiz.sandbox import Fault
from tests.client.clients import alternate_tokens
from tests.conftest import connect
from tests.creating import INVOICE, LINES, WINDOW, by_a_stranger, create, dated
from tests.deferring import Store, context, run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


@pytest.mark.parametrize(
    "other",
    [
        {"report_type": "GET_AFN_INVENTORY_DATA"},
        {"marketplace_ids": ["A2EUQ1WTGCTBG2"]},
        {"marketplace_ids": ["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"]},
        {"data_start_time": "2025-12-31T00:00:00Z"},
        {"data_end_time": "2026-01-03T00:00:00Z"},
        {"data_start_time": None, "data_end_time": None},
    ],
    ids=str,
)
def test_another_request_s_report_is_not_adopted(sandbox, other):
    asked = {"report_type": LINES, **WINDOW, **other}
    foreign = AmazonBusinessHook().create_report(asked.pop("report_type"), **asked)
    sandbox.inject(Fault(operation="createReport", kind="drop"))

    assert create(**WINDOW).execute(context()) != foreign
    assert len(sandbox.reports) == 2


def test_an_equal_report_from_before_is_not_adopted(sandbox):
    before = create(**WINDOW).execute(context())
    sandbox.reports[before].created_time -= timedelta(seconds=5)
    sandbox.inject(Fault(operation="createReport", kind="drop"))

    assert create(**WINDOW).execute(context()) != before


@pytest.mark.parametrize("skew", [-300.0, 300.0, -3600.0, 3600.0, -80000.0, 80000.0])
def test_a_clock_of_the_api_that_is_wrong_makes_no_difference(sandbox, skew):
    sandbox.clock.advance(skew)
    before = create(**WINDOW).execute(context())
    sandbox.reports[before].created_time -= timedelta(seconds=5)
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    found = create(**WINDOW).execute(context())

    assert list(sandbox.reports) == [before, found]


@pytest.mark.parametrize("skew", [-3600.0, 1800.0])
@pytest.mark.parametrize("is_known", [False, True])
def test_the_first_look_up_goes_by_the_clock_of_the_api(sandbox, monkeypatch, skew, is_known):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05,))
    if not is_known:
        # The token shows the time of the API, but may be older than the last change of a clock.
        AmazonBusinessHook().client.token()
    sandbox.clock.advance(skew)
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    assert [create(**WINDOW).execute(context())] == list(sandbox.reports)


def test_reuse_takes_the_newest_equal_report(sandbox):
    old, new = [create(**WINDOW).execute(context()) for _ in range(2)]
    create(data_start_time="2025-01-01T00:00:00Z").execute(context())

    assert create(**WINDOW, reuse_within=timedelta(hours=1)).execute(context()) == new
    sandbox.reports[new].cancelled = True
    assert create(**WINDOW, reuse_within=timedelta(hours=1)).execute(context()) == old
    sandbox.clock.advance(7200)
    fresh = create(**WINDOW, reuse_within=timedelta(hours=1)).execute(context())
    assert fresh not in (old, new)


def test_reuse_with_options_is_an_error(sandbox):
    with pytest.raises(InvalidInputError, match="reuse_within"):
        create(report_options={"a": "b"}, reuse_within=timedelta(hours=1)).execute(context())
    assert sandbox.count("createReport") == 0


@pytest.mark.usefixtures("stranger")
def test_a_report_created_while_the_task_waited_for_its_permit_is_not_adopted(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"createReport": [0.25, 1]}))
    AmazonBusinessHook().create_report(LINES)
    theirs = []

    def overtake():
        time.sleep(0.3)
        theirs.append(sandbox.add_report(LINES))
        report = sandbox.reports[theirs[0]]
        times = [datetime.fromisoformat(each) for each in WINDOW.values()]
        report.data_start_time, report.data_end_time = times
        sandbox.inject(Fault(operation="createReport", kind="drop"))

    other = threading.Thread(target=overtake)
    other.start()
    report_id = dated().execute(context())
    other.join()

    assert report_id not in theirs
    assert len(sandbox.reports) == 3


@pytest.mark.parametrize("seconds", [-3600, 600, 3600])
@pytest.mark.usefixtures("stranger")
def test_a_retry_adopts_no_report_of_another_time(sandbox, seconds):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="drop", times=2))
    with pytest.raises(ResponseLostError) as caught:
        dated().execute(context(store))
    assert caught.value.report_type == LINES
    # Created so long after the requests of the first attempt, or before them.
    theirs = by_a_stranger(sandbox, seconds_ago=max(-seconds, 0))
    record = store[durable_create.CreateRecord.KEY]
    record["sent"] = [[moment - max(seconds, 0) for moment in each] for each in record["sent"]]

    assert dated().execute(context(store)) != theirs


@pytest.mark.usefixtures("stranger")
def test_a_type_that_always_has_options_is_never_adopted(sandbox, monkeypatch):
    # Amazon refuses such a request; should it not, nothing tells one invoice from another.
    request = AmazonBusinessHook().report_request(INVOICE, "ATVPDKIKX0DER")
    theirs = AmazonBusinessHook("stranger").create_report(INVOICE, report_options={"invoiceId": "1"})
    report = AmazonBusinessHook().get_report(theirs)

    assert not request.fits(report)
    with pytest.raises(InvalidInputError, match="reuse_within"):
        dated(
            report_type=INVOICE, data_start_time=None, data_end_time=None, reuse_within=timedelta(hours=1)
        ).execute(context())


@pytest.mark.usefixtures("stranger")
class TestReuse:
    @pytest.mark.parametrize(
        "within",
        [timedelta(0), timedelta(days=-1), timedelta(days=30, seconds=1), timedelta(days=3650), 3600, "1h"],
    )
    def test_rejects_a_range_that_makes_no_sense(self, within):
        with pytest.raises(InvalidInputError, match="reuse_within is .* at most the 30 days"):
            dated(reuse_within=within)

    def test_takes_no_report_whose_document_is_about_to_expire(self, sandbox):
        old = by_a_stranger(sandbox, seconds_ago=30 * 86400 - 60)
        assert dated(reuse_within=timedelta(days=30)).execute(context()) != old

        younger = by_a_stranger(sandbox, seconds_ago=29 * 86400)
        for report in sandbox.reports.values():
            if report.report_id not in (old, younger):
                report.cancelled = True
        assert dated(reuse_within=timedelta(days=30)).execute(context()) == younger

    @pytest.mark.parametrize("skew", [-600, -7200, 7200])
    def test_goes_by_the_clock_of_the_api(self, sandbox, skew):
        sandbox.clock.advance(skew)
        theirs = by_a_stranger(sandbox)

        assert dated(reuse_within=timedelta(minutes=5)).execute(context()) == theirs

    def test_reads_no_page_more_than_it_needs(self, sandbox):
        for _ in range(250):
            old = sandbox.add_report(LINES)
            sandbox.reports[old].created_time -= timedelta(minutes=5)
        newest = by_a_stranger(sandbox)

        assert dated(reuse_within=timedelta(hours=1)).execute(context()) == newest
        assert sandbox.count("getReports") == 1

    def test_reads_page_after_page_until_it_finds_one(self, sandbox):
        theirs = by_a_stranger(sandbox, seconds_ago=600)
        for _ in range(150):
            sandbox.add_report(LINES)

        assert dated(reuse_within=timedelta(hours=1)).execute(context()) == theirs
        assert sandbox.count("getReports") == 2

    def test_continues_at_the_page_where_it_was_throttled(self, sandbox, monkeypatch):
        monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.0)
        theirs = by_a_stranger(sandbox, seconds_ago=600)
        for _ in range(250):
            sandbox.add_report(LINES)
        sandbox.inject(Fault(operation="getReports", kind="status", status=429, after=1, times=1))
        events = []

        found = run(lambda: dated(reuse_within=timedelta(hours=1), deferrable=True), context(), deferrals=events)

        assert found == theirs
        assert [event["operation"] for event in events] == ["getReports"]
        assert sandbox.count("getReports", 200) == 3

    def test_starts_over_when_the_token_of_a_page_has_expired(self, sandbox):
        theirs = by_a_stranger(sandbox, seconds_ago=600)
        for _ in range(150):
            sandbox.add_report(LINES)
        sandbox.inject(Fault(operation="getReports", kind="status", status=400, after=1, times=1))

        assert dated(reuse_within=timedelta(hours=1)).execute(context()) == theirs
        assert sandbox.count("getReports") == 4

    def test_does_not_start_over_for_ever(self, sandbox):
        for _ in range(150):
            sandbox.add_report(LINES)
        sandbox.inject(Fault(operation="getReports", kind="status", status=400, after=1, times=1))
        sandbox.inject(Fault(operation="getReports", kind="status", status=400, after=1, times=1))

        with pytest.raises(InvalidInputError):
            dated(reuse_within=timedelta(hours=1)).execute(context())

    def test_does_not_follow_tokens_that_alternate(self, sandbox):
        alternate_tokens(sandbox)

        with pytest.raises(AmazonBusinessError, match="the same nextToken again"):
            dated(reuse_within=timedelta(hours=1)).execute(context())

    def test_searches_once_only_if_the_task_queues_to_create(self, sandbox):
        report_id = run(lambda: dated(reuse_within=timedelta(hours=1), deferrable=True), context(map_index=1))

        assert list(sandbox.reports) == [report_id]
        assert sandbox.count("getReports") == 1

    def test_takes_no_report_that_this_process_created_with_options(self, sandbox):
        theirs = AmazonBusinessHook().create_report(LINES, **WINDOW, report_options={"rows": "3"})

        assert dated(reuse_within=timedelta(hours=1)).execute(context()) != theirs
