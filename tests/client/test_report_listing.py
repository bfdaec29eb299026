"""The pages of getReports."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.sandbox import Fault
from tests.client.clients import CA, LINES, US, alternate_tokens


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


def test_a_listing_that_repeats_its_token_is_an_error(sandbox, client):
    page = json.dumps({"reports": [], "nextToken": "the same"})
    sandbox.inject(Fault(operation="getReports", kind="status", status=200, body=page, times=None))

    with pytest.raises(errors.UnavailableError, match="same nextToken again"):
        list(client.get_reports(report_types=LINES))


def test_a_listing_whose_tokens_alternate_ends_too(sandbox, client):
    alternate_tokens(sandbox)

    with pytest.raises(errors.UnavailableError, match="same nextToken again") as caught:
        list(client.get_reports(report_types=LINES))
    assert caught.value.operation == "getReports"
    assert sandbox.count("getReports") == 3


def test_a_listing_that_returns_the_token_it_began_with_is_an_error(sandbox, client):
    alternate_tokens(sandbox)

    with pytest.raises(errors.UnavailableError, match="same nextToken again"):
        list(client.get_reports(next_token="a token"))
    assert sandbox.count("getReports") == 1
