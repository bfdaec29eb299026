"""Tasks that die at the worst moments, a cleared one, and many at once."""

from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_cluster import AirflowCluster
from dev.leaks import files
from e2e.pipelines import evict, open_uploads, stored_parts, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.timeout(600)

LINES = "SANDBOX_ORDER_LINES"


def test_a_worker_killed_right_after_the_create_leaves_one_report(
    airflow: AirflowCluster, sandbox: Sandbox
) -> None:
    run = airflow.start("killed_after_create")

    assert airflow.wait_for_run("killed_after_create", run) == "success"
    (task,) = airflow.tasks("killed_after_create", run)
    assert task["try_number"] == 2
    assert sandbox.count("createReport") == 1
    assert str(airflow.xcom("killed_after_create", run, "create")) == next(iter(sandbox.reports))


def test_a_worker_killed_before_airflow_stores_success_leaves_one_report_for_each_task(
    airflow: AirflowCluster, sandbox: Sandbox
) -> None:
    run = airflow.start("killed_after_return")

    assert airflow.wait_for_run("killed_after_return", run) == "success"
    assert [task["try_number"] for task in airflow.tasks("killed_after_return", run)] == [2, 2]
    assert sandbox.count("createReport") == 2
    ids = {str(airflow.xcom("killed_after_return", run, task)) for task in ("create", "create_and_wait")}
    assert ids == set(sandbox.reports)


def test_clearing_a_task_that_succeeded_makes_a_new_report(airflow: AirflowCluster, sandbox: Sandbox) -> None:
    run = airflow.start("create")
    assert airflow.wait_for_run("create", run) == "success"
    first = str(airflow.xcom("create", run, "create"))

    airflow.clear("create", run, "create")

    assert airflow.wait_for_run("create", run) == "success"
    assert list(sandbox.reports) == [first, str(airflow.xcom("create", run, "create"))]


def test_an_evicted_task_cancels_the_report_it_waits_for_and_its_retry_creates_another(
    airflow: AirflowCluster, sandbox: Sandbox
) -> None:
    # The first report stays in the queue, the next one is finished at once.
    sandbox.script(queue_seconds=36000)
    run = airflow.start("created_and_waited_on_a_worker")
    wait_until(lambda: sandbox.count("getReport"))
    (task,) = airflow.tasks("created_and_waited_on_a_worker", run)
    (first,) = sandbox.reports.values()

    evict(airflow, task)

    assert airflow.wait_for_run("created_and_waited_on_a_worker", run) == "success"
    assert first.cancelled
    assert sandbox.count("cancelReport") == 1
    assert attempts(airflow, task) == [(1, "failed"), (2, "success")]
    assert f"this task cancelled its report {first.report_id}" in log_of_first_attempt(airflow, task)
    second = str(airflow.xcom("created_and_waited_on_a_worker", run, "create"))
    assert list(sandbox.reports) == [first.report_id, second]
    assert sandbox.reports[second].status == "DONE"


def test_an_evicted_sensor_leaves_the_report_alone_and_its_retry_continues_to_wait(
    airflow: AirflowCluster, sandbox: Sandbox
) -> None:
    report_id = sandbox.add_report(status="IN_QUEUE")
    run = airflow.start("waited_on_a_worker", {"report_id": report_id})
    wait_until(lambda: sandbox.count("getReport"))
    (task,) = airflow.tasks("waited_on_a_worker", run)

    evict(airflow, task)

    wait_until(lambda: airflow.tasks("waited_on_a_worker", run)[0]["try_number"] == 2)
    assert "which it leaves alone" in log_of_first_attempt(airflow, task)
    sandbox.reports[report_id].outcome = "DONE"
    assert airflow.wait_for_run("waited_on_a_worker", run) == "success"
    assert attempts(airflow, task) == [(1, "failed"), (2, "success")]
    assert sandbox.count("cancelReport") == 0
    assert airflow.xcom("waited_on_a_worker", run, "wait")["processing_status"] == "DONE"


def attempts(airflow: AirflowCluster, task: dict[str, Any]) -> list[tuple[int, str]]:
    """Return the number and state of each attempt of a task."""
    path = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/tries"
    return [(each["try_number"], each["state"]) for each in airflow.get(path)["task_instances"]]


def log_of_first_attempt(airflow: AirflowCluster, task: dict[str, Any]) -> str:
    return "\n".join(airflow.log_tail({**task, "try_number": 1}, 100))


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_worker_killed_in_a_transfer_of_a_gibibyte_leaves_one_object_and_no_upload(
    airflow: AirflowCluster, sandbox: Sandbox, s3: S3Client
) -> None:
    report_id = sandbox.add_report(LINES, report_options={"bytes": str(1024**3)})
    run = airflow.start("move", {"report_id": report_id})

    wait_until(lambda: any(len(each) > 20 for each in stored_parts(s3)), 300)
    (task,) = airflow.tasks("move", run)
    os.kill(task["pid"], signal.SIGKILL)
    # SIGKILL left no chance to clean up.
    assert len(open_uploads(s3)) == 1

    assert airflow.wait_for_run("move", run, 900) == "success"
    (task,) = airflow.tasks("move", run)
    assert task["try_number"] == 2
    assert open_uploads(s3) == []
    (result,) = airflow.xcom("move", run, "move")
    (stored,) = s3.list_objects_v2(Bucket="e2e")["Contents"]
    assert (stored["Key"], stored["Size"]) == ("document.tsv", result["bytes"])
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket="e2e", Key="document.tsv")["Body"].iter_chunks(1024**2):
        digest.update(chunk)
    assert digest.hexdigest() == result["sha256"]


@pytest.mark.parametrize("sandbox", [10], indirect=True)
def test_mapped_creates_are_not_throttled_and_use_no_retry(airflow: AirflowCluster, sandbox: Sandbox) -> None:
    run = airflow.start("mapped", {"count": 40})

    assert airflow.wait_for_run("mapped", run) == "success"
    tasks = [task for task in airflow.tasks("mapped", run) if task["task_id"] == "create"]
    assert {task["try_number"] for task in tasks} == {1}
    assert len(sandbox.reports) == 40
    assert sandbox.count("createReport", status=429) <= 2


def test_a_triggerer_that_hangs_and_recovers_cancels_nothing_that_another_one_has_taken_over(
    airflow: AirflowCluster, sandbox: Sandbox
) -> None:
    sandbox.script(queue_seconds=36000)
    airflow.kill("triggerer-1", stay_down=True)
    run = airflow.start("created_and_waited")
    wait_until(lambda: sandbox.count("getReport") >= 1, 120)

    hung = airflow.processes("triggerer-2")
    for process in hung:
        process.suspend()
    polls = sandbox.count("getReport")
    airflow.revive()
    # Airflow takes a triggerer for dead after thirty seconds without a heartbeat.
    wait_until(lambda: sandbox.count("getReport") > polls, 120)
    for process in reversed(hung):
        process.resume()
    wait_until(lambda: any("No report is cancelled" in text for _, text in files(airflow.home / "logs")), 60)

    assert sandbox.count("cancelReport") == 0
    sandbox.clock.advance(36000)
    assert airflow.wait_for_run("created_and_waited", run) == "success"
    assert len(sandbox.reports) == 1
