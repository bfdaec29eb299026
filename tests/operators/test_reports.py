from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_amzbiz.exceptions import InvalidInputError, ReportNotFoundError, ResponseLostError
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sandbox import Fault

LINES = "SANDBOX_ORDER_LINES"


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, **arguments})


def test_create_returns_the_id(sandbox):
    report_id = create(
        marketplace_ids=["A2EUQ1WTGCTBG2"],
        data_start_time="2026-01-01 00:00:00+00:00",
        data_end_time="2026-01-02 00:00:00+00:00",
        report_options={"rows": "5"},
    ).execute({})

    (report,) = sandbox.reports.values()
    assert report.report_id == report_id
    assert report.report_options == {"rows": "5"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"report_type": ""}, "report_type"),
        ({"marketplace_ids": []}, "marketplace_ids"),
        ({"data_start_time": "2099-01-01T00:00:00Z"}, "data_start_time"),
        ({"data_end_time": ""}, "data_end_time"),
        ({"report_options": {"a": []}}, "report_options"),
    ],
)
def test_create_with_bad_input_calls_nobody(sandbox, arguments, named):
    with pytest.raises(InvalidInputError, match=named) as caught:
        create(**arguments).execute({})
    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.calls == []


def test_create_that_is_not_durable_leaves_a_lost_answer_to_the_retries(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost"))

    with pytest.raises(ResponseLostError) as caught:
        create(durable=False).execute({})
    assert not isinstance(caught.value, AirflowFailException)
    assert len(sandbox.reports) == 1


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


@pytest.mark.parametrize("kind", [CreateReportOperator, CancelReportOperator, GetReportsOperator])
def test_the_connection_is_templated(kind):
    assert "amazon_business_conn_id" in kind.template_fields
