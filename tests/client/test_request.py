"""Which requests are equal, and which report may belong to one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.client.request import ReportRequest

LINES, US, CA = "GET_LINES", "ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"
CREATED = datetime(2026, 3, 1, tzinfo=timezone.utc)
WINDOW = {"data_start_time": "2026-01-01T00:00:00.25Z", "data_end_time": "2026-01-02T00:00:00Z"}


def report(**changes):
    plain = Report("1", LINES, "DONE", CREATED, (US,), data_start_time=CREATED, data_end_time=CREATED)
    return replace(plain, **changes)


def test_equal_requests_have_one_fingerprint():
    one = ReportRequest.of(LINES, [US, CA], report_options={"a": 1, "b": True})
    other = ReportRequest.of(f" {LINES}\n", f"{CA},{US},{US}", report_options='{"b": "true", "a": "1"}')

    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"report_type": "GET_OTHER"}, {"marketplace_ids": [US, CA]}, {"report_options": {"a": "2"}}, WINDOW],
)
def test_other_requests_have_another_fingerprint(change):
    plain = {"report_type": LINES, "marketplace_ids": [US], "report_options": {"a": "1"}}

    assert ReportRequest.of(**plain).fingerprint != ReportRequest.of(**{**plain, **change}).fingerprint


def test_without_a_window_the_report_shows_its_creation():
    request = ReportRequest.of(LINES, [US])

    assert request.fits(report())
    assert request.fits(report(data_start_time=None, data_end_time=None))
    assert not request.fits(report(data_start_time=CREATED - timedelta(seconds=2)))


def test_a_window_is_compared_to_the_second():
    request = ReportRequest.of(LINES, [US], **WINDOW)
    start, end = (datetime.fromisoformat(each).replace(microsecond=0) for each in WINDOW.values())

    assert request.fits(report(data_start_time=start, data_end_time=end))
    assert not request.fits(report(data_start_time=start, data_end_time=end + timedelta(seconds=2)))
    assert not request.fits(report(data_start_time=None, data_end_time=end))


@pytest.mark.parametrize("changes", [{"report_type": "GET_OTHER"}, {"marketplace_ids": (US, CA)}])
def test_another_type_or_marketplace_does_not_fit(changes):
    assert not ReportRequest.of(LINES, [US]).fits(report(**changes))


@pytest.mark.parametrize(
    "request_",
    [ReportRequest.of(LINES, [US], report_options={"a": 1}), ReportRequest.of("GET_AB_INVOICE_PDF", [US])],
)
def test_nothing_fits_where_there_may_be_options(request_):
    assert not request_.is_recognizable
    assert not request_.fits(report(report_type=request_.report_type))
