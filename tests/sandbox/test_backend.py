"""Scripts, and what a test adds to the sandbox."""

from __future__ import annotations

from datetime import timedelta

import pytest


@pytest.mark.parametrize(
    ("outcome", "status", "with_document"),
    [
        ("DONE", "DONE", True),
        ("CANCELLED", "CANCELLED", False),
        ("FATAL", "FATAL", False),
        ("FATAL_WITH_DOCUMENT", "FATAL", True),
        ("DONE_WITHOUT_DOCUMENT", "DONE", False),
        ("IN_QUARANTINE", "IN_QUARANTINE", False),
    ],
)
def test_a_scripted_outcome(shared_api, outcome, status, with_document):
    shared_api.sandbox.script(outcome=outcome)
    report = shared_api.get(shared_api.created()).json()
    assert report["processingStatus"] == status
    assert ("reportDocumentId" in report) == with_document


def test_an_unknown_status_is_for_ever(start, caller):
    api = caller(start(queue_seconds=100, processing_seconds=100))
    api.sandbox.script(outcome="ON_HOLD")
    report_id = api.created()
    for _ in range(3):
        assert api.status(report_id) == "ON_HOLD"
        api.sandbox.clock.advance(150)


def test_scripts_are_first_in_first_out_and_can_count(api):
    api.sandbox.script(outcome="FATAL", times=2)
    api.sandbox.script(outcome="CANCELLED")
    statuses = [api.status(api.created()) for _ in range(4)]
    assert statuses == ["FATAL", "FATAL", "CANCELLED", "DONE"]


def test_a_script_sets_times_and_more_fields(api):
    api.sandbox.script(queue_seconds=50, processing_seconds=50, extra_fields={"newField": {"a": 1}})
    report_id = api.created()
    assert api.get(report_id).json()["newField"] == {"a": 1}
    assert api.status(report_id) == "IN_QUEUE"
    api.sandbox.clock.advance(60)
    assert api.status(report_id) == "IN_PROGRESS"


def test_an_added_report_keeps_its_times_in_order(api):
    created = api.sandbox.clock.now() - timedelta(days=2)
    report = api.get(api.sandbox.add_report(created=created)).json()
    assert report["createdTime"] <= report["processingStartTime"] <= report["processingEndTime"]
    assert report["processingEndTime"] <= created.isoformat(timespec="seconds")


def test_an_account_of_an_unknown_region_is_rejected(sandbox):
    with pytest.raises(ValueError, match="region is 'us', but must be one of"):
        sandbox.add_account(region="us")


def test_an_added_report_has_its_age(api):
    now = api.sandbox.clock.now()
    old, older = (api.sandbox.add_report(created=now - timedelta(days=days)) for days in (40, 100))
    assert api.document(api.get(old).json()["reportDocumentId"]).status_code == 400
    assert api.get(older).status_code == 404
