"""The sensor in its three modes, each against the sandbox: the same end for the same report."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from datetime import datetime, timezone
from unittest.mock import patch

import pytest
from airflow.exceptions import AirflowRescheduleException

from airflow_provider_amzbiz.exceptions import (
    AuthenticationError,
    ConnectionNotFoundError,
    InvalidInputError,
    ReportCancelledError,
    ReportFatalError,
    ReportNotFoundError,
    ReportTimeoutError,
)
from airflow_provider_amzbiz.sandbox import Fault, RawDocument
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.triggers import reports as triggers
from tests.airflow_names import AirflowFailException, AirflowSkipException, TaskDeferred

MODES = ["poke", "reschedule", "deferrable", "deferrable-after-a-while"]
LINES = "SANDBOX_ORDER_LINES"


def sensor(report_id, mode, **arguments):
    return ReportStatusSensor(
        task_id="wait",
        report_id=report_id,
        deferrable=mode.startswith("deferrable"),
        mode="reschedule" if mode == "reschedule" else "poke",
        **{"poke_interval": 0.05, "timeout": 20, **arguments},
    )


class TaskInstance:
    """What a rescheduled sensor asks about itself."""

    dag_id, task_id, run_id, map_index, max_tries = "dag", "wait", "run", -1, 0

    def __init__(self):
        self.first = None

    def get_first_reschedule_date(self, context):
        return self.first


def finish(operator):
    """Run a sensor to its end, with its trigger in between, as a worker and a triggerer do."""
    ti = TaskInstance()
    context = {"ti": ti}
    with patch("airflow.sensors.base._orig_start_date", lambda **_: ti.first, create=True):
        for _ in range(200):
            try:
                return _finish(operator, context)
            except AirflowRescheduleException:
                ti.first = ti.first or datetime.now(timezone.utc)
                # Each poll of a rescheduled sensor is a process of its own.
                operator = sensor(
                    operator.report_id,
                    "reschedule",
                    on_cancelled=operator.on_cancelled,
                    timeout=operator.timeout,
                    soft_fail=operator.soft_fail,
                    amazon_business_conn_id=operator.amazon_business_conn_id,
                )
                time.sleep(0.05)
    raise AssertionError("the sensor did not end")


def _finish(operator, context):
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        path, arguments = deferred.trigger.serialize()
        assert path == "airflow_provider_amzbiz.triggers.reports.ReportStatusTrigger"
        # Through JSON, as it lies in the metadata database.
        trigger = triggers.ReportStatusTrigger(**json.loads(json.dumps(arguments)))

        async def events():
            return [event.payload async for event in trigger.run()]

        (event,) = asyncio.run(events())
        resumed = {"event": json.loads(json.dumps(event))}
        return operator.resume_execution(deferred.method_name, resumed, context)


def create(sandbox, mode, **script):
    """Make a report; in the last mode it ends only after the sensor has looked once."""
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

    slow = {"processing_seconds": 0.5} if mode == "deferrable-after-a-while" else {}
    sandbox.script(**{"outcome": "DONE", **slow, **script})
    return AmazonBusinessHook().create_report(LINES, ["ATVPDKIKX0DER"])


@pytest.mark.main_path
@pytest.mark.parametrize("mode", MODES)
def test_done_returns_the_report(sandbox, mode):
    report_id = create(sandbox, mode)

    report = finish(sensor(report_id, mode))

    value = report.xcom_value if hasattr(report, "xcom_value") else report
    assert value["report_id"] == report_id
    assert value["processing_status"] == "DONE"
    assert value["report_document_id"]
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize("mode", MODES)
def test_cancelled_fails(sandbox, mode):
    report_id = create(sandbox, mode, outcome="CANCELLED")

    with pytest.raises(ReportCancelledError, match="did not cancel it.*no data.*too soon") as caught:
        finish(sensor(report_id, mode))
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.main_path
@pytest.mark.parametrize("mode", MODES)
def test_cancelled_skips(sandbox, mode):
    report_id = create(sandbox, mode, outcome="CANCELLED")

    with pytest.raises(AirflowSkipException, match="CANCELLED"):
        finish(sensor(report_id, mode, on_cancelled="skip"))


@pytest.mark.parametrize("mode", MODES)
def test_cancelled_succeeds(sandbox, mode):
    report_id = create(sandbox, mode, outcome="CANCELLED")

    assert finish(sensor(report_id, mode, on_cancelled="succeed"))["processing_status"] == "CANCELLED"


@pytest.mark.parametrize("mode", MODES)
def test_fatal_without_a_document(sandbox, mode):
    report_id = create(sandbox, mode, outcome="FATAL")

    with pytest.raises(ReportFatalError, match="ended FATAL. The API gives no reason") as caught:
        finish(sensor(report_id, mode))
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.main_path
@pytest.mark.parametrize("mode", MODES)
def test_fatal_with_a_document_shows_the_reason(sandbox, mode):
    reason = "The invoice does not exist. " + "x" * 5000
    document = RawDocument(body=gzip.compress(reason.encode()), compression_algorithm="GZIP")
    report_id = create(sandbox, mode, outcome="FATAL_WITH_DOCUMENT", document=document)

    with pytest.raises(ReportFatalError, match="The invoice does not exist") as caught:
        finish(sensor(report_id, mode))
    assert 2000 <= len(str(caught.value)) < 2200
    assert "X-Amz" not in str(caught.value)


def test_fatal_with_a_document_that_cannot_be_read(sandbox):
    report_id = create(sandbox, "poke", outcome="FATAL_WITH_DOCUMENT")
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=400, times=None))

    with pytest.raises(ReportFatalError, match="could not be read"):
        finish(sensor(report_id, "poke"))


@pytest.mark.parametrize("mode", MODES)
def test_done_without_a_document(sandbox, mode):
    report_id = create(sandbox, mode, outcome="DONE_WITHOUT_DOCUMENT")

    with pytest.raises(ReportFatalError, match="DONE, but the API names no document"):
        finish(sensor(report_id, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("outcome", ["FATAL", "CANCELLED", "DONE_WITHOUT_DOCUMENT"])
def test_soft_fail_means_the_same_in_all_modes(sandbox, mode, outcome):
    report_id = create(sandbox, mode, outcome=outcome)

    with pytest.raises(AirflowSkipException):
        finish(sensor(report_id, mode, soft_fail=True))


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_an_unknown_status_is_waited_on_until_the_timeout_and_logged_once(sandbox, mode, caplog):
    caplog.set_level("INFO")
    report_id = create(sandbox, mode, outcome="ON_HOLD")

    with pytest.raises(ReportTimeoutError, match="within the timeout of 1 s; it was ON_HOLD") as caught:
        finish(sensor(report_id, mode, timeout=1))

    assert not isinstance(caught.value, AirflowFailException)
    assert sandbox.count("getReport") > 3
    seen = [record for record in caplog.records if "ON_HOLD, a status unknown here" in record.getMessage()]
    # Once in the worker and once in the triggerer, which cannot know of each other.
    assert len(seen) == (1 if mode == "poke" else 2)


@pytest.mark.main_path
@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
def test_a_timeout_can_soft_fail(sandbox, mode):
    report_id = create(sandbox, mode, processing_seconds=1000)

    with pytest.raises(AirflowSkipException):
        finish(sensor(report_id, mode, timeout=0.3, soft_fail=True))


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable-after-a-while"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "body": "empty"},
        {"kind": "status", "status": 503, "body": "html"},
        {"kind": "empty"},
        {"kind": "drop"},
    ],
    ids=str,
)
def test_polls_that_fail_do_not_fail_the_wait(sandbox, mode, fault):
    report_id = create(sandbox, mode)
    sandbox.inject(Fault(operation="getReport", times=3, **fault))

    assert _value(finish(sensor(report_id, mode)))["processing_status"] == "DONE"


def _value(result):
    return getattr(result, "xcom_value", result)


@pytest.mark.parametrize("mode", MODES)
def test_a_report_that_is_not_known_yet_is_waited_for(sandbox, mode):
    report_id = create(sandbox, mode)
    missing = {"kind": "status", "status": 404, "body": "json"}
    sandbox.inject(Fault(operation="getReport", times=3, **missing))

    assert _value(finish(sensor(report_id, mode)))["report_id"] == report_id


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
def test_a_report_that_stays_unknown_fails(sandbox, monkeypatch, mode):
    import airflow_provider_amzbiz.sensors.reports as sensors

    monkeypatch.setattr(sensors, "NOT_FOUND_GRACE", 0.5)

    with pytest.raises(ReportNotFoundError) as caught:
        finish(sensor("99999999999", mode))
    assert caught.value.status == 404
    assert caught.value.operation == "getReport"


@pytest.mark.parametrize("mode", MODES)
def test_a_grant_that_is_revoked_meanwhile_fails_the_wait(sandbox, mode):
    report_id = create(sandbox, mode, processing_seconds=1000)
    sandbox.expire_tokens()
    sandbox.revoke()

    with pytest.raises(AuthenticationError, match="invalid_grant") as raised:
        finish(sensor(report_id, mode))
    assert isinstance(raised.value, AirflowFailException)


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
def test_a_connection_that_does_not_exist(mode):
    with pytest.raises(ConnectionNotFoundError, match="no connection 'nowhere'"):
        finish(sensor("1", mode, amazon_business_conn_id="nowhere"))


def test_an_unknown_policy_is_rejected_when_the_dag_is_parsed():
    with pytest.raises(InvalidInputError, match=r"on_cancelled is 'ignore'.*'fail', 'skip', 'succeed'"):
        sensor("1", "poke", on_cancelled="ignore")


def test_the_deadline_is_a_time_of_day_that_a_restart_does_not_move(sandbox):
    report_id = create(sandbox, "deferrable", processing_seconds=1000)

    with pytest.raises(TaskDeferred) as deferred:
        sensor(report_id, "deferrable", timeout=3600).execute({"ti": None})

    _, arguments = deferred.value.trigger.serialize()
    assert arguments["deadline"] == pytest.approx(time.time() + 3600, abs=30)
    again = triggers.ReportStatusTrigger(**arguments)
    assert again.serialize()[1] == arguments
    # Airflow's own timeout only stands behind it.
    assert deferred.value.timeout.total_seconds() > 3600
