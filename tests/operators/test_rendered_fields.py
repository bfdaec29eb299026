"""What templates may leave in a field: numbers for ids, which are taken, and templates, which are refused."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.conftest import BUCKET
from tests.deferring import context, run

LINES = "SANDBOX_ORDER_LINES"
# Valid arguments of every task, and of the fields that are templated one that is a string.
TASKS = {
    CreateReportOperator: {"report_type": LINES, "report_options": {"rows": "1"}},
    CancelReportOperator: {"report_id": "1"},
    GetReportsOperator: {"report_types": LINES},
    ReportStatusSensor: {"report_id": "1"},
    ReportDocumentToS3Operator: {"report_id": "1", "s3_bucket": "b", "s3_key": "k"},
    ReportsToS3Operator: {"requests": [{"report_type": LINES}], "s3_bucket": "b", "s3_key": "k{index}"},
}
FIELDS = [(task, name) for task in TASKS for name in task.template_fields]


@pytest.mark.parametrize("left", ["{{ ti.xcom_pull('a') }}", "a{% if x %}b{% endif %}"])
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("task", "name"), FIELDS, ids=lambda each: getattr(each, "__name__", each))
def test_a_template_that_is_left_is_refused_in_every_field(sandbox, task, name, left, deferrable):
    """As when a mapped argument brings a template, which Airflow renders only once."""
    more = {} if task in (CancelReportOperator, GetReportsOperator) else {"deferrable": deferrable}
    made = task(task_id="t", **TASKS[task], **more)
    value = {"report_options": {"rows": left}, "requests": [{"report_type": LINES, "key": left}]}.get(name, left)
    # What Airflow's rendering sets.
    setattr(made, name, value)

    with pytest.raises(InvalidInputError, match=f"{name}.*renders a templated field only once") as caught:
        made.execute(context())

    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.calls == []


@pytest.mark.parametrize("name", ["report_id", "report_document_id"])
@pytest.mark.parametrize("value", ["None", "", "  ", True, 1.5, ["1"]])
def test_an_id_that_cannot_be_one_is_refused_by_name(sandbox, name, value):
    made = ReportDocumentToS3Operator(task_id="t", **{name: "1"}, s3_bucket="b", s3_key="k")
    setattr(made, name, value)

    with pytest.raises(InvalidInputError, match=name):
        made.execute(context())
    assert sandbox.calls == []


def native(make, **variables):
    """Render a task as in a DAG with ``render_template_as_native_obj=True``."""
    with DAG("native", schedule=None, render_template_as_native_obj=True):
        task = make()
    task.render_template_fields(variables)
    return task


@pytest.mark.parametrize("deferrable", [True, False])
def test_ids_that_native_rendering_made_numbers_work_everywhere(sandbox, s3, deferrable):
    report_id = CreateReportOperator(task_id="c", report_type=LINES).execute(context())
    template = {"report_id": "{{ r }}"}

    def rendered(task, **more):
        made = native(lambda: task(task_id="t", **template, **more), r=report_id)
        assert isinstance(made.report_id, int)
        return made

    waited = run(lambda: rendered(ReportStatusSensor, deferrable=deferrable), context())
    assert waited["report_id"] == report_id
    assert rendered(CancelReportOperator).execute(context()) is False
    (moved,) = run(
        lambda: rendered(
            ReportDocumentToS3Operator, s3_bucket=BUCKET, s3_key="native/{report_id}.tsv", deferrable=deferrable
        ),
        context(map_index=0),
    )
    assert moved["uri"] == f"s3://{BUCKET}/native/{report_id}.tsv"
