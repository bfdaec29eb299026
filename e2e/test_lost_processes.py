"""A task that dies at the worst moments, a cleared one, and many at once."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest

from e2e.pipelines import wait_until

pytestmark = pytest.mark.timeout(600)

LINES = "SANDBOX_ORDER_LINES"


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


@pytest.mark.long
@pytest.mark.timeout(1500)
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

    assert airflow.wait_for_run("move", run, 900) == "success"
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
