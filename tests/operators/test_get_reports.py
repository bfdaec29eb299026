"""Listing reports."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    InvalidInputError,
)
from airflow_provider_amzbiz.operators.reports import (
    GetReportsOperator,
)
from tests.client.clients import alternate_tokens

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


def test_a_listing_whose_tokens_alternate_fails_and_may_be_retried(sandbox):
    alternate_tokens(sandbox)

    with pytest.raises(AmazonBusinessError, match="same nextToken again") as caught:
        GetReportsOperator(task_id="list", report_types=LINES).execute({})
    assert not isinstance(caught.value, AmazonBusinessPermanentError)
    assert sandbox.count("getReports") == 3
