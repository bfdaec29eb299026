"""Workers and triggerers that die, and people who end or clear tasks, on a real Airflow."""

from __future__ import annotations

import hashlib
import os
import signal
import time

import pytest

from airflow_provider_amzbiz.sandbox.server import Sandbox

pytestmark = pytest.mark.timeout(600)

LINES = "SANDBOX_ORDER_LINES"


def wait_until(holds, seconds=30):
    """Wait until a condition holds, and fail if it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.2)


def test_a_worker_killed_right_after_the_create_leaves_one_report(airflow, sandbox):
    run = airflow.start("killed_after_create")

    assert airflow.wait_for_run("killed_after_create", run) == "success"
    (task,) = airflow.tasks("killed_after_create", run)
    assert task["try_number"] == 2
    assert sandbox.count("createReport") == 1
    assert str(airflow.xcom("killed_after_create", run, "create")) == next(iter(sandbox.reports))


def test_clearing_a_task_that_succeeded_makes_a_new_report(airflow, sandbox):
    run = airflow.start("create")
    assert airflow.wait_for_run("create", run) == "success"
    first = str(airflow.xcom("create", run, "create"))

    airflow.clear("create", run, "create")

    assert airflow.wait_for_run("create", run) == "success"
    assert list(sandbox.reports) == [first, str(airflow.xcom("create", run, "create"))]


def test_marking_a_deferred_task_failed_cancels_its_report(airflow, sandbox):
    sandbox.script(queue_seconds=36000)
    run = airflow.start("create_and_wait")
    airflow.wait_for_states("create_and_wait", run, "deferred", 1)
    # Airflow tells a trigger that it is killed only once it has run.
    wait_until(lambda: sandbox.count("getReport"))

    airflow.mark("create_and_wait", run, "create", "failed")

    (report,) = sandbox.reports.values()
    wait_until(lambda: report.cancelled)


@pytest.mark.parametrize("sandbox", [10], indirect=True)
def test_a_triggerer_killed_during_a_hundred_waits_loses_none(airflow, sandbox: Sandbox):
    ids = [sandbox.add_report(LINES) for _ in range(100)]
    for report in sandbox.reports.values():
        report.outcome = "IN_PROGRESS"
    run = airflow.start("waits", {"report_ids": ids})
    airflow.wait_for_states("waits", run, "deferred", 100)
    cancelled = sandbox.count("cancelReport")

    airflow.kill("triggerer")
    for report in list(sandbox.reports.values())[:50]:
        report.outcome = "DONE"
    airflow.run_part("triggerer")
    time.sleep(5)
    for report in sandbox.reports.values():
        report.outcome = "DONE"

    assert airflow.wait_for_run("waits", run) == "success"
    states = [task["state"] for task in airflow.tasks("waits", run) if task["task_id"] == "wait"]
    assert states == ["success"] * 100
    assert sandbox.count("cancelReport") == cancelled


def test_a_worker_killed_in_a_transfer_of_a_gibibyte_leaves_one_object_and_no_upload(airflow, sandbox, s3):
    report_id = sandbox.add_report(LINES, report_options={"bytes": str(1024**3)})
    run = airflow.start("move", {"report_id": report_id})

    def parts():
        uploads = s3.list_multipart_uploads(Bucket="e2e").get("Uploads", [])
        return [
            s3.list_parts(Bucket="e2e", Key=each["Key"], UploadId=each["UploadId"]).get("Parts", [])
            for each in uploads
        ]

    wait_until(lambda: any(len(each) > 20 for each in parts()), 120)
    (task,) = airflow.tasks("move", run)
    os.kill(task["pid"], signal.SIGKILL)
    # What nobody could clean up.
    assert len(parts()) == 1

    assert airflow.wait_for_run("move", run) == "success"
    (task,) = airflow.tasks("move", run)
    assert task["try_number"] == 2
    assert parts() == []
    (result,) = airflow.xcom("move", run, "move")
    (there,) = s3.list_objects_v2(Bucket="e2e")["Contents"]
    assert (there["Key"], there["Size"]) == ("document.tsv", result["bytes"])
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket="e2e", Key="document.tsv")["Body"].iter_chunks(1024**2):
        digest.update(chunk)
    assert digest.hexdigest() == result["sha256"]


@pytest.mark.parametrize("sandbox", [10], indirect=True)
def test_mapped_creates_are_not_refused_and_spend_no_retry(airflow, sandbox):
    run = airflow.start("mapped", {"count": 40})

    assert airflow.wait_for_run("mapped", run) == "success"
    tasks = [task for task in airflow.tasks("mapped", run) if task["task_id"] == "create"]
    assert {task["try_number"] for task in tasks} == {1}
    assert len(sandbox.reports) == 40
    assert sandbox.count("createReport", status=429) <= 2
