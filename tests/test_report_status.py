"""What each terminal status means for a task."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_amzbiz import durable_create, report_status
from airflow_provider_amzbiz.exceptions import (
    ReportCancelledError,
    ReportFatalError,
    ReportTimeoutError,
)
from airflow_provider_amzbiz.sandbox import Fault
from tests.airflow_names import AirflowSkipException
from tests.creating import create, dated
from tests.deferring import context, run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("outcome", "on_cancelled", "error"),
    [
        ("FATAL", "fail", ReportFatalError),
        ("CANCELLED", "fail", ReportCancelledError),
        ("CANCELLED", "skip", AirflowSkipException),
        ("CANCELLED", "succeed", None),
    ],
)
def test_what_each_terminal_status_means(sandbox, deferrable, outcome, on_cancelled, error):
    sandbox.script(outcome=outcome)
    arguments = {"wait_for_completion": True, "deferrable": deferrable, "on_cancelled": on_cancelled}

    def end():
        return run(lambda: create(**arguments), context())

    if error is None:
        assert [end()] == list(sandbox.reports)
        return
    with pytest.raises(error):
        end()


@pytest.mark.parametrize("part", ["reason", "cancel"])
def test_a_part_of_an_error_message_does_not_hold_the_worker_slot(sandbox, monkeypatch, part, caplog):
    from airflow_provider_amzbiz.exceptions import ReportFatalError

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(report_status, "REASON_SECONDS", 0.5)
    monkeypatch.setattr(durable_create, "CANCEL_SECONDS", 0.5)
    sandbox.script(
        outcome="FATAL_WITH_DOCUMENT" if part == "reason" else "DONE",
        queue_seconds=0 if part == "reason" else 3600,
    )
    for operation in ("getReportDocument", "cancelReport"):
        sandbox.inject(Fault(operation=operation, kind="status", status=429, times=None))
    error, text = (
        (ReportFatalError, "could not be read") if part == "reason" else (ReportTimeoutError, "did not end")
    )

    # With the hour that a call may wait for its permit otherwise, this would not end.
    with pytest.raises(error, match=text):
        run(
            lambda: dated(
                wait_for_completion=True,
                deferrable=True,
                poke_interval=0.2,
                timeout=5 if part == "reason" else 0.5,
            ),
            context(),
        )


@pytest.mark.parametrize(
    ("document", "says", "reason"),
    [
        (
            b"No access to this invoice.\r\n\n",
            "Its document says: No access to this invoice.",
            "No access to this invoice.",
        ),
        (b" \n", "Its document is empty", None),
    ],
)
def test_the_reason_has_no_blanks_around_it(sandbox, document, says, reason):
    sandbox.script(outcome="FATAL_WITH_DOCUMENT", document=document)

    with pytest.raises(ReportFatalError) as caught:
        run(lambda: create(wait_for_completion=True), context())

    assert str(caught.value).splitlines()[0].endswith(says)
    assert caught.value.reason == reason
