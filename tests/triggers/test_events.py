"""An event is read in one place, and what is no event of ours is an error that names the remedy."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ReportFatalError,
    ResponseLostError,
)
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.triggers.events import (
    VERSION,
    PermitGranted,
    ReportEnded,
    ReportTimedOut,
    WaitFailed,
    read_event,
)
from tests.deferring import context

LINES = "SANDBOX_ORDER_LINES"
REPORT = Report("1", LINES, "DONE", datetime(2026, 1, 1, tzinfo=timezone.utc), report_document_id="d")
EVENTS = [
    PermitGranted("createReport", permits=1, since=1.5, state={"reuse": {}}),
    ReportEnded(REPORT),
    ReportTimedOut("1"),
    ReportTimedOut("1", LINES, "IN_QUEUE", own=True),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.status)
def test_an_event_comes_out_of_the_database_as_it_went_in(event):
    stored = json.loads(json.dumps(event.to_dict()))

    assert read_event(stored, PermitGranted, ReportEnded, ReportTimedOut) == event


def test_an_error_is_raised_in_the_task_with_all_that_it_knows():
    sent = ReportFatalError("some reason", report_id="1", report_type=LINES, request_id="r", status=200)
    stored = json.loads(json.dumps(WaitFailed(sent).to_dict()))

    with pytest.raises(ReportFatalError, match="some reason") as caught:
        read_event(stored, ReportEnded)
    assert vars(caught.value) == vars(sent)


def test_an_error_is_raised_whichever_version_reports_it():
    stored = {**WaitFailed(ResponseLostError("some reason")).to_dict(), "version": VERSION + 1}

    with pytest.raises(ResponseLostError, match="some reason"):
        read_event(stored, ReportEnded)


def test_an_error_of_a_class_that_this_version_lacks_keeps_its_message():
    # A name of the module of errors that is no class of errors.
    stored = {"status": "error", "error": {"class": "error_from_dict", "message": "some reason"}}

    with pytest.raises(AmazonBusinessError, match="some reason"):
        read_event(stored, ReportEnded)


ENDED = ReportEnded(REPORT).to_dict()
UNUSABLE = [
    (None, "sent no event"),
    ("ended", "sent no event"),
    ({}, "version None"),
    ({"status": "success"}, "version None"),
    ({**ENDED, "version": VERSION + 1}, f"version {VERSION + 1}, but this task reads version {VERSION}"),
    ({**ENDED, "version": str(VERSION)}, f"version '{VERSION}'"),
    ({**ENDED, "status": "news"}, "status 'news', but this task expects one of"),
    ({**ENDED, "status": ["ended"]}, "status of type list"),
    ({"version": VERSION, "status": "ended"}, "damaged .*KeyError: 'report'"),
    ({**ENDED, "report": "1"}, "damaged .*report is a str"),
    ({**ENDED, "report": {}}, "damaged"),
    ({**ENDED, "report": {**ENDED["report"], "created_time": "yesterday"}}, r"damaged .*\(ValueError\)"),
    ({"version": VERSION, "status": "error"}, "damaged"),
    ({"version": VERSION, "status": "error", "error": "some reason"}, "damaged"),
]


@pytest.mark.parametrize(("event", "why"), UNUSABLE)
def test_what_is_no_event_of_ours_is_an_error_with_a_remedy(event, why):
    with pytest.raises(AmazonBusinessError, match=why) as caught:
        read_event(event, ReportEnded, ReportTimedOut)
    assert "Clear the task" in str(caught.value)
    # A retry starts over and needs no event.
    assert not isinstance(caught.value, AmazonBusinessPermanentError)


@pytest.mark.parametrize(
    "damage",
    [
        {"permits": True},
        {"permits": "1"},
        {"since": None},
        {"operation": 1},
        {"state": []},
    ],
)
def test_a_damaged_permit_is_not_used(damage):
    event = {**PermitGranted("createReport", permits=1, since=0.0).to_dict(), **damage}

    with pytest.raises(AmazonBusinessError, match=f"damaged .*{next(iter(damage))}"):
        read_event(event, PermitGranted)


def test_a_value_of_a_foreign_event_shows_nowhere():
    report = {**ENDED["report"], "created_time": "s3cr3t"}

    with pytest.raises(AmazonBusinessError) as caught:
        read_event({**ENDED, "report": report}, ReportEnded)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


TASKS = [
    lambda: CreateReportOperator(task_id="t", report_type=LINES, deferrable=True),
    lambda: ReportStatusSensor(task_id="t", report_id="1", deferrable=True),
    lambda: ReportDocumentToS3Operator(task_id="t", report_id="1", s3_uri="s3://b/k", deferrable=True),
]


@pytest.mark.parametrize("make", TASKS)
@pytest.mark.parametrize("event", [None, {"status": "success"}, {**ENDED, "version": VERSION + 1}])
def test_every_task_that_is_resumed_checks_its_event(sandbox, make, event):
    with pytest.raises(AmazonBusinessError, match="Clear the task"):
        make().execute_complete(context(), event)
    assert sandbox.calls == []


@pytest.mark.parametrize("make", TASKS)
def test_every_task_that_is_resumed_raises_the_trigger_s_error(sandbox, make):
    with pytest.raises(ResponseLostError, match="some reason"):
        make().execute_complete(context(), WaitFailed(ResponseLostError("some reason")).to_dict())
