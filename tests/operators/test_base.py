"""What all operators share: rendered fields, and the wait for a permit."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import (
    InvalidInputError,
    ThrottledError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import (
    CancelReportOperator,
    CreateReportOperator,
    GetReportsOperator,
)
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers.base import WaitingTrigger
from airflow_provider_amzbiz.triggers.events import PermitGranted, read_event
from tests.airflow_names import DAG, AirflowFailException, TaskDeferred
from tests.conftest import BUCKET, connect
from tests.creating import LINES, create
from tests.deferring import context, run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


def tight(monkeypatch, sandbox, operation="createReport", rate=2.0, burst=1):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [rate, burst]}))


# Valid arguments of every task, and of the fields that are templated one that is a string.
TASKS: dict[Any, dict[str, Any]] = {
    CreateReportOperator: {"report_type": LINES, "report_options": {"rows": "1"}},
    CancelReportOperator: {"report_id": "1"},
    GetReportsOperator: {"report_types": LINES},
    ReportStatusSensor: {"report_id": "1"},
    ReportDocumentToS3Operator: {"report_id": "1", "s3_bucket": "b", "s3_key": "k"},
    ReportsToS3Operator: {"requests": [{"report_type": LINES}], "s3_bucket": "b", "s3_key": "k{index}"},
}


FIELDS = [(task, name) for task in TASKS for name in task.template_fields]


def native(make, **variables):
    """Render a task as in a DAG with ``render_template_as_native_obj=True``."""
    with DAG("native", schedule=None, render_template_as_native_obj=True):
        task = make()
    task.render_template_fields(variables)
    return task


def test_a_throttled_task_waits_for_its_permit_in_the_triggerer(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, body="json"))
    events = []

    report_id = run(lambda: create(deferrable=True), context(), deferrals=events)

    assert list(sandbox.reports) == [report_id]
    assert [event["status"] for event in events] == ["permitted"]
    assert sandbox.count("createReport") == 2


def test_it_waits_again_if_somebody_else_took_its_permit(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, body="json", times=3))
    events = []

    run(lambda: create(deferrable=True), context(), deferrals=events)

    assert [event["status"] for event in events] == ["permitted"] * 3
    assert len({event["since"] for event in events}) == 1
    assert len(sandbox.reports) == 1


def test_it_does_not_wait_for_ever(sandbox, monkeypatch):
    tight(monkeypatch, sandbox)
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, body="json", times=None))
    event = PermitGranted("createReport", permits=1, since=0.0).to_dict()

    with pytest.raises(ThrottledError):
        create(deferrable=True).execute_complete(context(), event)
    assert sandbox.reports == {}


def test_mapped_tasks_queue_before_they_call(sandbox, monkeypatch):
    tight(monkeypatch, sandbox, burst=3)
    events = []

    run(lambda: create(deferrable=True), context(map_index=7), deferrals=events)

    assert len(events) == 1
    assert sandbox.count("createReport") == 1


def test_mapped_tasks_queue_before_they_create_although_they_have_waited_for_a_listing(sandbox):
    event = PermitGranted("getReports", permits=1, since=time.time()).to_dict()

    with pytest.raises(TaskDeferred) as deferred:
        create(deferrable=True).execute_complete(context(map_index=7), event)

    assert deferred.value.trigger.operation == "createReport"
    assert sandbox.count("createReport") == 0


@pytest.mark.parametrize("throttled", [False, True])
def test_only_a_call_that_the_api_has_throttled_goes_before_others(sandbox, monkeypatch, throttled):
    """A second call may have no permit, because the response to the first one was lost."""
    tight(monkeypatch, sandbox, rate=0.1)
    AmazonBusinessHook().token_bucket("createReport").emptied()
    fault = {"kind": "status", "status": 429, "body": "json"} if throttled else {"kind": "lost"}
    sandbox.inject(Fault(operation="createReport", **fault))
    event = PermitGranted("createReport", permits=1, since=time.time()).to_dict()

    with pytest.raises(TaskDeferred) as deferred:
        create(report_options={"rows": "3"}, deferrable=True).execute_complete(context(), event)

    assert deferred.value.trigger.operation == "createReport"
    assert deferred.value.trigger.had_permit is throttled


@pytest.mark.parametrize("kind", [CreateReportOperator, CancelReportOperator, GetReportsOperator])
def test_the_connection_is_templated(kind):
    assert "amazon_business_conn_id" in kind.template_fields


@pytest.mark.parametrize("left", ["{{ ti.xcom_pull('a') }}", "a{% if x %}b{% endif %}"])
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("task", "name"), FIELDS, ids=lambda each: getattr(each, "__name__", each))
def test_a_template_that_is_left_is_rejected_in_every_field(sandbox, task, name, left, deferrable):
    """As when a mapped argument brings a template, which Airflow renders only once."""
    made = task(task_id="t", **TASKS[task], deferrable=deferrable)
    value = {"report_options": {"rows": left}, "requests": [{"report_type": LINES, "s3_key": left}]}.get(
        name, left
    )
    # What Airflow's rendering sets.
    setattr(made, name, value)

    with pytest.raises(InvalidInputError, match=f"{name}.*renders a templated field only once") as caught:
        made.execute(context())

    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.calls == []


@pytest.mark.parametrize("name", ["report_id", "report_document_id"])
@pytest.mark.parametrize("value", ["None", "", "  ", True, 1.5, ["1"]])
def test_an_id_that_is_not_valid_is_rejected_by_name(sandbox, name, value):
    made = ReportDocumentToS3Operator(task_id="t", **{name: "1"}, s3_bucket="b", s3_key="k")
    setattr(made, name, value)

    with pytest.raises(InvalidInputError, match=name):
        made.execute(context())
    assert sandbox.calls == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_ids_that_native_rendering_turned_into_numbers_work_everywhere(sandbox, s3, deferrable):
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


class Waiting(WaitingTrigger):
    """A trigger whose event is whatever the test makes it."""

    def __init__(self, wait):
        super().__init__()
        self._wait = wait

    def serialize(self):
        raise AssertionError("a wait in the task's own process needs no row")

    async def wait(self):
        return await self._wait()


class TestRunInline:
    def test_returns_the_event_that_a_triggerer_would_send(self):
        granted = PermitGranted("createReport", permits=1, since=1.5)

        async def wait():
            return granted

        assert create().run_inline(Waiting(wait)) == granted.to_dict()

    def test_returns_an_error_as_an_event(self):
        async def wait():
            raise ThrottledError("some reason")

        with pytest.raises(ThrottledError, match="some reason"):
            read_event(create().run_inline(Waiting(wait)), PermitGranted)

    @pytest.mark.parametrize("early", [True, False], ids=["before-the-wait", "during-the-wait"])
    def test_returns_none_where_the_task_is_ended(self, early):
        task = create()

        async def wait():
            assert not early
            asyncio.get_running_loop().run_in_executor(None, task.on_kill)
            await asyncio.Event().wait()

        if early:
            task.on_kill()
        assert task.run_inline(Waiting(wait)) is None

    def test_an_error_that_no_kill_has_caused_is_raised(self):
        class ExecutionTimeout(BaseException):
            """As Airflow raises for ``execution_timeout``."""

        async def wait():
            raise ExecutionTimeout

        with pytest.raises(ExecutionTimeout):
            create().run_inline(Waiting(wait))


@pytest.mark.parametrize(("where", "expected"), [({}, 13), ({"map_index": 0}, 0), ({"try_number": 2}, 0)])
def test_a_task_that_is_not_alone_does_not_believe_in_a_burst(sandbox, monkeypatch, where, expected):
    connect(monkeypatch, sandbox, rate_limits='{"createReport": [0.001, 15]}')
    CreateReportOperator(task_id="t", report_type=LINES, wait_for_completion=False).execute(context(**where))

    assert AmazonBusinessHook().token_bucket("createReport").take_up_to(15) == expected
