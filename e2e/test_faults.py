"""The guarantees hold while processes die, networks break and users press buttons."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from dev.airflow_cluster import AirflowCluster
from dev.fault_proxy import FaultProxy
from dev.postgres import PostgresServer
from e2e.pipelines import Pipeline, open_uploads, stored_parts, text, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.timeout(900)

FAST = pytest.mark.parametrize("sandbox", [10], indirect=True)
MIB = 1024**2


def test_a_worker_killed_while_the_api_creates_its_report(
    airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client
) -> None:
    sandbox.inject(Fault("createReport", "delay", seconds=5))
    pipeline = Pipeline(airflow, sandbox, s3, "killed-in-create.txt")
    wait_until(lambda: sandbox.count("createReport"))

    pipeline.kill_worker_of("create")

    pipeline.assert_stored()
    assert pipeline.attempts()["create"] == 2
    assert len(sandbox.reports) == 1


def test_a_worker_killed_while_it_defers_a_wait(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    sandbox.inject(Fault("getReport", "delay", seconds=5))
    pipeline = Pipeline(airflow, sandbox, s3, "killed-in-wait.txt", queue_seconds=20)
    wait_until(lambda: sandbox.count("getReport"))

    pipeline.kill_worker_of("wait")

    pipeline.assert_stored()
    assert pipeline.attempts() == {"create": 1, "wait": 2, "move": 1}
    assert len(sandbox.reports) == 1


def test_a_worker_killed_in_a_transfer(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    sandbox.inject(Fault("document", "slow", bytes_per_second=2 * MIB))
    pipeline = Pipeline(airflow, sandbox, s3, "killed-in-move.txt", text("killed", 40 * MIB))
    wait_until(lambda: any(stored_parts(s3)))
    time.sleep(2)

    pipeline.kill_worker_of("move")
    assert "Contents" not in s3.list_objects_v2(Bucket="e2e", Prefix=pipeline.key)

    pipeline.assert_stored()
    assert pipeline.attempts()["move"] == 2


@FAST
def test_a_worker_killed_in_a_batch(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    invoices = [f"INV-{number}" for number in range(30)]
    # The fifth document holds the worker until it is killed.
    sandbox.inject(Fault("document", "stall", after=4, bytes=100, seconds=60))
    run = airflow.start("batch", {"invoices": invoices, "folder": "killed-batch"})
    wait_until(lambda: sandbox.count("document") >= 5, 180)

    def batch() -> dict[str, Any]:
        return next(each for each in airflow.tasks("batch", run) if each["task_id"] == "batch")

    assert batch()["state"] == "running"
    airflow.kill(airflow.part_of(batch()["pid"]))

    assert airflow.wait_for_run("batch", run) == "success"
    assert batch()["try_number"] == 2
    result = airflow.xcom("batch", run, "batch")
    assert (result["requested"], result["landed"], result["failed"]) == (30, 30, 0)
    for invoice in invoices:
        body = s3.get_object(Bucket="e2e", Key=f"killed-batch/{invoice}.pdf")["Body"].read()
        assert body.startswith(b"%PDF-")
        assert f"{invoice}".encode() in body
    assert open_uploads(s3) == []
    # Where the worker died before the response, its report cannot be told apart from those for others' invoices.
    assert 30 <= len(sandbox.reports) <= 34


@pytest.mark.long
@FAST
def test_two_hundred_waits_outlive_both_triggerers(airflow: AirflowCluster, sandbox: Sandbox) -> None:
    ids = [sandbox.add_report() for _ in range(200)]
    for report in sandbox.reports.values():
        report.outcome = "IN_PROGRESS"
    run = airflow.start("waits", {"report_ids": ids})
    airflow.wait_for_states("waits", run, "deferred", 200, 600)

    airflow.kill("triggerer-1", stay_down=True)
    for report in list(sandbox.reports.values())[:100]:
        report.outcome = "DONE"
    airflow.wait_for_states("waits", run, "success", 101, 400)
    airflow.kill("triggerer-2")
    airflow.revive()
    for report in sandbox.reports.values():
        report.outcome = "DONE"

    assert airflow.wait_for_run("waits", run, 600) == "success"
    waits = [task for task in airflow.tasks("waits", run) if task["task_id"] == "wait"]
    assert [(task["state"], task["try_number"]) for task in waits] == [("success", 1)] * 200
    assert sandbox.count("cancelReport") == 0


def test_a_scheduler_killed_during_a_wait(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    pipeline = Pipeline(airflow, sandbox, s3, "scheduler.txt", queue_seconds=15)
    pipeline.wait_for("wait", "deferred")

    airflow.kill("scheduler")

    report_id = pipeline.assert_stored()
    assert set(pipeline.attempts().values()) == {1}
    assert list(sandbox.reports) == [report_id]
    assert sandbox.count("createReport") == 1


@pytest.mark.parametrize("sandbox", [20], indirect=True)
def test_an_api_that_is_down_for_ten_minutes(
    airflow: AirflowCluster, sandbox: Sandbox, api: FaultProxy, s3: S3Client
) -> None:
    # The same content for all, because the order of their creates is not known.
    content = text("outage")
    waiting = [
        Pipeline(airflow, sandbox, s3, f"outage-{number}.txt", content, queue_seconds=300) for number in range(3)
    ]
    for pipeline in waiting:
        pipeline.wait_for("wait", "deferred")
    api.down()
    start = sandbox.clock.seconds()
    late = Pipeline(airflow, sandbox, s3, "outage-late.txt")
    wait_until(lambda: sandbox.clock.seconds() - start > 600)
    assert late.task("create")["state"] != "success"
    api.up()

    for pipeline in waiting:
        pipeline.assert_stored()
        assert pipeline.attempts()["wait"] == 1
    late.assert_stored()
    assert len(sandbox.reports) == 4


def test_a_grant_that_is_revoked_during_a_wait(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    pipeline = Pipeline(airflow, sandbox, s3, "revoked.txt", queue_seconds=36000)
    pipeline.wait_for("wait", "deferred")

    sandbox.revoke()
    sandbox.expire_tokens()

    assert pipeline.end() == "failed"
    # No retry, since none could succeed.
    assert pipeline.attempts()["wait"] == 1
    log = "\n".join(airflow.log_tail(pipeline.task("wait"), 40))
    assert "invalid_grant" in log
    # The user grants consent again and clears the task.
    sandbox.accounts[0].revoked = False
    sandbox.clock.advance(36000)
    airflow.clear("pipeline", pipeline.run, "wait")
    pipeline.assert_stored()
    assert len(sandbox.reports) == 1


@FAST
def test_a_storm_of_429(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    for operation, times in {"createReport": 3, "getReport": 3, "getReportDocument": 2, "token": 2}.items():
        sandbox.inject(Fault(operation, "status", status=429, times=times))
    pipeline = Pipeline(airflow, sandbox, s3, "storm.txt")

    pipeline.assert_stored()
    assert set(pipeline.attempts().values()) == {1}
    assert len(sandbox.reports) == 1
    assert sandbox.faults == []


def test_pages_of_html_and_creates_that_were_carried_out_despite_an_error(
    airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client
) -> None:
    sandbox.inject(Fault("createReport", "lost_status", status=503, body="html"))
    for operation, times in {"getReport": 3, "getReportDocument": 2, "token": 2, "document": 2}.items():
        sandbox.inject(Fault(operation, "status", status=503, body="html", times=times))
    pipeline = Pipeline(airflow, sandbox, s3, "html.txt")

    report_id = pipeline.assert_stored()
    # Airflow would allow eight.
    assert set(pipeline.attempts().values()) == {1}
    assert list(sandbox.reports) == [report_id]
    assert sandbox.count("createReport") == 1
    # Every fault was hit.
    assert sandbox.faults == []


def test_s3_that_is_down_during_a_transfer(
    airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client, storage: FaultProxy
) -> None:
    sandbox.inject(Fault("document", "slow", bytes_per_second=2 * MIB))
    pipeline = Pipeline(airflow, sandbox, s3, "s3-down.txt", text("down", 40 * MIB))
    wait_until(lambda: any(stored_parts(s3)))

    storage.down()
    time.sleep(20)
    storage.up()

    pipeline.assert_stored()


def test_a_database_that_crashes_during_a_wait_and_a_transfer(
    airflow: AirflowCluster, postgres: PostgresServer, sandbox: Sandbox, s3: S3Client
) -> None:
    waiting = Pipeline(airflow, sandbox, s3, "database-1.txt", queue_seconds=36000)
    waiting.wait_for("wait", "deferred")
    sandbox.inject(Fault("document", "slow", bytes_per_second=2 * MIB))
    transferring = Pipeline(airflow, sandbox, s3, "database-2.txt", text("database", 40 * MIB))
    wait_until(lambda: any(stored_parts(s3)), 120)

    postgres.restart()

    sandbox.clock.advance(36000)
    transferring.assert_stored()
    waiting.assert_stored()
    assert len(sandbox.reports) == 2


def test_a_database_that_cannot_be_reached_for_a_while(
    airflow: AirflowCluster, database: FaultProxy, sandbox: Sandbox, s3: S3Client
) -> None:
    pipeline = Pipeline(airflow, sandbox, s3, "unreachable.txt", queue_seconds=5)
    pipeline.wait_for("wait", "deferred")

    database.down()
    time.sleep(10)
    database.up()

    pipeline.assert_stored()
    assert len(sandbox.reports) == 1


def test_users_who_stop_and_clear_deferred_tasks(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    sandbox.script(queue_seconds=36000, times=3)
    runs = [airflow.start("created_and_waited") for _ in range(3)]
    for run in runs:
        airflow.wait_for_states("created_and_waited", run, "deferred", 1)
    # Airflow only informs a trigger of its kill once it has run.
    reports = list(sandbox.reports.values())
    wait_until(lambda: sandbox.count("getReport") >= 3)
    time.sleep(5)

    airflow.mark("created_and_waited", runs[0], "create", "failed")
    airflow.mark("created_and_waited", runs[1], "create", "success")
    airflow.clear("created_and_waited", runs[2], "create")

    def is_waiting_again() -> bool:
        tasks = airflow.tasks("created_and_waited", runs[2])
        return any(task["try_number"] == 2 and task["state"] == "deferred" for task in tasks)

    wait_until(lambda: sum(report.cancelled for report in reports) >= 2, 60)
    wait_until(lambda: all(report.cancelled for report in reports) or is_waiting_again(), 60)
    sandbox.clock.advance(36000)
    assert airflow.wait_for_run("created_and_waited", runs[2]) == "success"
    # A cleared task may run again before its first wait is killed. Then it continues with the report on record.
    kept = [report.report_id for report in reports if not report.cancelled]
    ids = list(sandbox.reports)
    assert len(ids) == 4 - len(kept)
    assert str(airflow.xcom("created_and_waited", runs[2], "create")) == (kept[0] if kept else ids[3])


@FAST
def test_the_same_dag_twice_at_once(airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client) -> None:
    pipelines = [Pipeline(airflow, sandbox, s3, f"twice-{number}.txt", text("twice")) for number in range(2)]

    ids = {pipeline.assert_stored() for pipeline in pipelines}

    assert len(ids) == len(sandbox.reports) == 2


@pytest.mark.parametrize("seconds", [-300, 300])
def test_an_api_whose_clock_is_five_minutes_off(
    airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client, seconds: float
) -> None:
    sandbox.clock.advance(seconds)
    sandbox.inject(Fault("createReport", "lost"))
    pipeline = Pipeline(airflow, sandbox, s3, f"clock-{seconds}.txt", queue_seconds=5)

    pipeline.assert_stored()
    assert len(sandbox.reports) == 1
