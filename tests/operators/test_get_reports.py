"""Listing reports."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.operators.reports import (
    GetReportsOperator,
)

LINES = "SANDBOX_ORDER_LINES"


@pytest.mark.main_path
def test_get_reports_is_a_list_for_xcom(sandbox):
    ids = [sandbox.add_report(report_type=LINES) for _ in range(5)]

    def listed(**arguments):
        return GetReportsOperator(task_id="list", report_types=LINES, **arguments).execute({})

    everything = listed()
    assert json.loads(json.dumps(everything)) == everything
    assert {report["report_id"] for report in everything} == set(ids)
    assert len(listed(max_reports=2, page_size=1)) == 2
    assert sandbox.count("getReports") == 1 + 2
    with pytest.raises(InvalidInputError, match="max_reports is 0"):
        listed(max_reports=0)
