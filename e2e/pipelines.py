"""Starts the DAGs of :mod:`e2e.dags.pipelines` and checks their results."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psutil

from airflow_provider_amzbiz.demo import waiting
from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.sandbox.throttle import PLANS
from dev.airflow_cluster import AirflowCluster
from dev.leaks import TriggerRows, files
from dev.postgres import PostgresServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import MultipartUploadTypeDef, PartTypeDef

# The DAG of the whole job: create, wait, transfer.
PIPELINE = "pipeline"


def connection_of(sandbox: Sandbox, scale: float | None = None) -> dict[str, Any]:
    """Return a sandbox's connection, with limits scaled to its clock, or to ``scale``."""
    connection = sandbox.connection
    scale = scale or sandbox.clock.scale
    limits = {name: [rate * scale, burst] for name, (rate, burst) in PLANS["2026"].items()}
    return {**connection, "extra": {**connection["extra"], "rate_limits": json.dumps(limits)}}


def wait_until(holds: Callable[[], Any], seconds: float = 90) -> None:
    """Wait until a condition holds, and fail if it does not."""
    waiting.wait_until(holds, seconds, lambda: "the condition did not hold in time", pause=0.2)


def why_failed(airflow: AirflowCluster, dag_id: str, run: str) -> str:
    """Return the ends of the logs of a run's failed tasks."""
    failed = [each for each in airflow.tasks(dag_id, run) if each["state"] == "failed"]
    ends = [(each["task_id"], each["map_index"], *airflow.log_tail(each, 40)) for each in failed]
    return "\n".join([run, *(str(line) for end in ends for line in end)])


def manifest_items(s3: S3Client, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the items of a batch's manifest.

    :param result: what its task returned.
    """
    body = s3.get_object(Bucket="e2e", Key=result["manifest"].split("/", 3)[3])["Body"].read()
    items: list[dict[str, Any]] = json.loads(body)["items"]
    return items


def evict(airflow: AirflowCluster, task: dict[str, Any]) -> None:
    """End a running task as Kubernetes ends a pod: SIGTERM to its supervisor, which is the pod's first process."""
    supervisor = psutil.Process(task["pid"]).parent()
    assert supervisor
    # Raises where that is no process of this Airflow.
    airflow.part_of(supervisor.pid)
    os.kill(supervisor.pid, signal.SIGTERM)


def text(seed: str, size: int = 200_000) -> bytes:
    """Return a document that compresses to about three quarters."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


class Pipeline:
    """A run of the whole job, for a report of known content.

    :param script: what becomes of the report; see :meth:`.Sandbox.script`.
    """

    def __init__(
        self,
        airflow: AirflowCluster,
        sandbox: Sandbox,
        s3: S3Client,
        key: str,
        content: bytes | None = None,
        **script: Any,
    ) -> None:
        self.airflow, self.sandbox, self.s3, self.key = airflow, sandbox, s3, key
        self.content = text(key) if content is None else content
        sandbox.script(document=gzip.compress(self.content, 1), **script)
        self.run = airflow.start(PIPELINE, {"key": key})

    def task(self, task_id: str) -> dict[str, Any]:
        """Return Airflow's record of a task."""
        return next(each for each in self.airflow.tasks(PIPELINE, self.run) if each["task_id"] == task_id)

    def attempts(self) -> dict[str, int]:
        """Return the number of attempts of each task."""
        return {each["task_id"]: each["try_number"] for each in self.airflow.tasks(PIPELINE, self.run)}

    def wait_for(self, task_id: str, state: str, seconds: float = 120) -> None:
        """Wait until a task is in a state."""
        wait_until(lambda: self.task(task_id)["state"] == state, seconds)

    def kill_worker_of(self, task_id: str) -> None:
        """Kill the worker on which a task runs."""
        self.airflow.kill(self.airflow.part_of(self.task(task_id)["pid"]))

    def end(self, seconds: float = 300) -> str:
        """Wait for the end of the run and return its state."""
        return self.airflow.wait_for_run(PIPELINE, self.run, seconds)

    def assert_stored(self, seconds: float = 300) -> str:
        """Assert that every task succeeded and S3 has exactly the document; return the report id."""
        assert self.end(seconds) == "success"
        report_id = str(self.airflow.xcom(PIPELINE, self.run, "create"))
        assert report_id in self.sandbox.reports
        assert self.s3.get_object(Bucket="e2e", Key=self.key)["Body"].read() == self.content
        (reported,) = self.airflow.xcom(PIPELINE, self.run, "move")
        assert (reported["uri"], reported["bytes"]) == (f"s3://e2e/{self.key}", len(self.content))
        assert open_uploads(self.s3) == []
        return report_id


def open_uploads(s3: S3Client) -> list[MultipartUploadTypeDef]:
    """Return the multipart uploads that are neither completed nor aborted."""
    return s3.list_multipart_uploads(Bucket="e2e").get("Uploads", [])


def stored_parts(s3: S3Client) -> list[list[PartTypeDef]]:
    """Return the parts of each open upload; once there is one, the task has recorded the upload."""
    return [
        s3.list_parts(Bucket="e2e", Key=each["Key"], UploadId=each["UploadId"]).get("Parts", [])
        for each in open_uploads(s3)
    ]


def everything_written(
    airflow: AirflowCluster, postgres: PostgresServer, trigger_rows: TriggerRows
) -> Iterator[tuple[str, str]]:
    """Yield what Airflow wrote to files, to tables other than that of connections, and to the trigger table."""
    yield from files(airflow.home)
    yield from ((table, row) for table, row in postgres.rows() if table != "connection")
    yield from trigger_rows.decrypted(airflow.fernet_key)
