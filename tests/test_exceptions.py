"""What a program finds in an error, and what a task log shows of it."""

from __future__ import annotations

import threading
import traceback

import pytest

from airflow_provider_amzbiz.client import errors as client_errors
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    InvalidInputError,
    ReportCancelledError,
    ReportFatalError,
    ReportNotFoundError,
    ReportTimeoutError,
    TaskKilledError,
    ThrottledError,
    error_from_dict,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CancelReportOperator, CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.conftest import BUCKET
from tests.deferring import context, run

LINES = "SANDBOX_ORDER_LINES"


def sensor(report_id, **arguments):
    return ReportStatusSensor(task_id="wait", report_id=report_id, poke_interval=0.1, timeout=0.5, **arguments)


def transfer(report_id, **_):
    return ReportDocumentToS3Operator(task_id="move", report_id=report_id, s3_bucket=BUCKET, s3_key="k")


def failed(make):
    with pytest.raises(AmazonBusinessError) as caught:
        run(make, context())
    return caught.value


@pytest.mark.parametrize("make", [sensor, transfer], ids=["sensor", "transfer"])
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("outcome", "kind"), [("FATAL_WITH_DOCUMENT", ReportFatalError), ("CANCELLED", ReportCancelledError)]
)
def test_the_end_of_a_report_names_it(sandbox, s3, make, deferrable, outcome, kind):
    report_id = sandbox.add_report(LINES, status=outcome)

    error = failed(lambda: make(report_id, deferrable=deferrable))

    assert type(error) is kind
    assert (error.report_id, error.report_type) == (report_id, LINES)
    if kind is ReportFatalError:
        assert error.reason
        assert error.reason in str(error)
    else:
        assert error.reason is None


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_timeout_names_its_report(sandbox, deferrable):
    report_id = sandbox.add_report(LINES, status="IN_PROGRESS")

    error = failed(lambda: sensor(report_id, deferrable=deferrable))

    assert type(error) is ReportTimeoutError
    assert (error.report_id, error.report_type) == (report_id, LINES)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_report_that_is_not_there_is_named(sandbox, s3, monkeypatch, deferrable):
    from airflow_provider_amzbiz.sensors import reports

    monkeypatch.setattr(reports, "NOT_FOUND_GRACE", -1.0)

    for make in (
        lambda: sensor("404404", deferrable=deferrable),
        lambda: CancelReportOperator(task_id="cancel", report_id="404404"),
        lambda: transfer("404404"),
    ):
        error = failed(make)
        assert type(error) is ReportNotFoundError
        assert error.report_id == "404404"


def test_a_rejected_request_names_its_type(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="status", status=400))

    error = failed(lambda: CreateReportOperator(task_id="create", report_type=LINES))

    assert type(error) is InvalidInputError
    assert (error.operation, error.status, error.report_type) == ("createReport", 400, LINES)


def test_a_document_that_breaks_names_its_report(sandbox, s3):
    report_id = sandbox.add_report(LINES)
    sandbox.inject(Fault(operation="document", kind="status", status=404, times=None))

    assert failed(lambda: transfer(report_id)).report_id == report_id


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_document_that_cannot_be_stored_names_its_report(sandbox, s3, deferrable):
    report_id = sandbox.add_report(LINES)

    error = failed(
        lambda: ReportDocumentToS3Operator(
            task_id="move", report_id=report_id, s3_uri="s3://no-such-bucket/k", deferrable=deferrable
        )
    )

    assert (error.report_id, error.report_type) == (report_id, LINES)
    assert tracebacks(error) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
@pytest.mark.parametrize(
    ("call", "about"),
    [
        (lambda hook: hook.get_report("123"), ("123", None)),
        (lambda hook: hook.get_report(123), ("123", None)),
        (lambda hook: hook.cancel_report(" 123 "), ("123", None)),
        (lambda hook: hook.create_report(LINES), (None, LINES)),
        (lambda hook: hook.create_report(LINES, report_options={"rows": None}), (None, LINES)),
        (lambda hook: hook.create_report(None), (None, None)),
        (lambda hook: hook.get_report({}), (None, None)),
    ],
)
def test_an_error_of_the_hook_names_what_was_requested(sandbox, call, about, status):
    sandbox.inject(Fault(operation="*", kind="status", status=status, times=None))

    with pytest.raises(AmazonBusinessError) as caught:
        call(AmazonBusinessHook(retry_for=0, max_throttle_wait=0))

    assert (caught.value.report_id, caught.value.report_type) == about
    assert tracebacks(caught.value) == 1


def test_a_trigger_s_error_names_the_report_of_its_task(sandbox):
    error = AmazonBusinessError("the connection is gone").to_dict()
    event = {"status": "error", "error": error}
    s3_uri = {"s3_uri": "s3://b/k"}

    for task, about in (
        (CreateReportOperator(task_id="t", report_type=LINES), (None, LINES)),
        (ReportStatusSensor(task_id="t", report_id="1"), ("1", None)),
        (ReportDocumentToS3Operator(task_id="t", report_id="1", **s3_uri), ("1", None)),
    ):
        with pytest.raises(AmazonBusinessError, match="the connection is gone") as caught:
            task.execute_complete(context(), event)
        assert (caught.value.report_id, caught.value.report_type) == about


def test_a_template_that_was_not_rendered_names_the_type(sandbox):
    error = failed(
        lambda: CreateReportOperator(task_id="t", report_type=LINES, report_options={"rows": "{{ rows }}"})
    )

    assert error.report_type == LINES


@pytest.mark.parametrize("stored", [None, "{bad", '{"conn_type": "amazon_business", "port": "x"}'])
def test_a_connection_that_cannot_be_used_is_shown_once(monkeypatch, stored):
    if stored:
        monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", stored)

    with pytest.raises(AmazonBusinessError) as caught:
        AmazonBusinessHook().get_report("5")

    assert caught.value.report_id == "5"
    assert tracebacks(caught.value) == 1


def test_a_task_that_is_killed_while_it_searches_for_its_report_is_shown_once(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    task = CreateReportOperator(task_id="t", report_type=LINES)
    end = threading.Timer(1.0, task.on_kill)
    end.start()

    with pytest.raises(TaskKilledError) as caught:
        task.execute(context())

    end.join()
    assert caught.value.report_type == LINES
    assert tracebacks(caught.value) == 1


def test_what_it_is_about_comes_through_an_event():
    error = ReportFatalError("text", report_id="1", report_type="T", reason="why", status=200)

    again = error_from_dict(error.to_dict())

    assert type(again) is ReportFatalError
    assert again.to_dict() == error.to_dict()


@pytest.mark.parametrize(
    "fail",
    [
        lambda sandbox: AmazonBusinessHook().get_report("404404"),
        lambda sandbox: AmazonBusinessHook().create_report(LINES, []),
        lambda sandbox: failed_timeout(sandbox),
    ],
    ids=["not found", "input", "timeout"],
)
def test_its_message_is_shown_once(sandbox, fail):
    with pytest.raises(AmazonBusinessError) as caught:
        fail(sandbox)

    assert tracebacks(caught.value) == 1


def tracebacks(error):
    """How many tracebacks a task log shows of an error."""
    shown = "".join(traceback.format_exception(error))
    return shown.count("Traceback (most recent call last)")


def failed_timeout(sandbox):
    sensor(sandbox.add_report(LINES, status="IN_PROGRESS")).execute(context())


def test_an_error_without_an_entry_becomes_that_of_its_nearest_base():
    class QuotaError(client_errors.ThrottledError):
        """More specific than what is translated."""

    with pytest.raises(ThrottledError) as caught, translated_errors():
        raise QuotaError("slow down", operation="createReport", status=429)

    assert type(caught.value) is ThrottledError
    assert (caught.value.operation, caught.value.status) == ("createReport", 429)


def test_any_other_error_of_the_client_may_be_fixed_by_a_retry():
    with pytest.raises(AmazonBusinessError) as caught, translated_errors():
        raise client_errors.UnavailableError("down")

    assert type(caught.value) is AmazonBusinessError
