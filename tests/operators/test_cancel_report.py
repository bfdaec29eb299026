"""Cancelling a report."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.exceptions import ReportNotFoundError
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
)

LINES = "SANDBOX_ORDER_LINES"


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, **arguments})


@pytest.mark.main_path
def test_cancel(sandbox):
    sandbox.script(outcome="DONE", queue_seconds=100)
    report_id = create().execute({})

    def cancel():
        return CancelReportOperator(task_id="cancel", report_id=report_id).execute({})

    assert cancel() is True
    assert cancel() is False


def test_cancel_of_an_unknown_report(sandbox):
    with pytest.raises(ReportNotFoundError):
        CancelReportOperator(task_id="cancel", report_id="99999999999").execute({})
