"""Starting what :mod:`e2e.dags.pipelines` has, and checking what came of it."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import time

import psutil

from airflow_provider_amzbiz.sandbox.throttle import PLANS
from dev.leaks import files

# The DAG of the whole job: create, wait, move.
PIPELINE = "pipeline"


def connection_of(sandbox, scale=None):
    """Return a sandbox's connection, with the limits as they are by its clock or by one of another scale."""
    connection = sandbox.connection
    scale = scale or sandbox.clock.scale
    limits = {name: [rate * scale, burst] for name, (rate, burst) in PLANS["2026"].items()}
    return {**connection, "extra": {**connection["extra"], "rate_limits": json.dumps(limits)}}


def wait_until(holds, seconds=90):
    """Wait until a condition holds, and fail if it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.2)


def evict(airflow, task):
    """End a running task as Kubernetes ends a pod: SIGTERM to its supervisor, which is the pod's first process."""
    supervisor = psutil.Process(task["pid"]).parent()
    # Raises where that is no process of this Airflow.
    airflow.part_of(supervisor.pid)
    os.kill(supervisor.pid, signal.SIGTERM)


def text(seed, size=200_000):
    """Return a document that compresses to about three quarters."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


class Pipeline:
    """A run of the whole job, for a report of known content.

    :param script: how the report goes; see :meth:`.Sandbox.script`.
    """

    def __init__(self, airflow, sandbox, s3, key, content=None, **script):
        self.airflow, self.sandbox, self.s3, self.key = airflow, sandbox, s3, key
        self.content = text(key) if content is None else content
        sandbox.script(document=gzip.compress(self.content, 1), **script)
        self.run = airflow.start(PIPELINE, {"key": key})

    def task(self, task_id):
        """Return Airflow's record of a task."""
        return next(each for each in self.airflow.tasks(PIPELINE, self.run) if each["task_id"] == task_id)

    def tries(self):
        """Return how often each task was tried."""
        return {each["task_id"]: each["try_number"] for each in self.airflow.tasks(PIPELINE, self.run)}

    def wait_for(self, task_id, state, seconds=120):
        """Wait until a task has a state."""
        wait_until(lambda: self.task(task_id)["state"] == state, seconds)

    def kill_worker_of(self, task_id):
        """End the worker on which a task runs."""
        self.airflow.kill(self.airflow.part_of(self.task(task_id)["pid"]))

    def end(self, seconds=300):
        """Wait for the end of the run and return its state."""
        return self.airflow.wait_for_run(PIPELINE, self.run, seconds)

    def assert_landed(self, seconds=300):
        """Every task succeeded, and S3 has exactly the document that the tasks tell of."""
        assert self.end(seconds) == "success"
        report_id = str(self.airflow.xcom(PIPELINE, self.run, "create"))
        assert report_id in self.sandbox.reports
        assert self.s3.get_object(Bucket="e2e", Key=self.key)["Body"].read() == self.content
        (told,) = self.airflow.xcom(PIPELINE, self.run, "move")
        assert (told["uri"], told["bytes"]) == (f"s3://e2e/{self.key}", len(self.content))
        assert open_uploads(self.s3) == []
        return report_id


def open_uploads(s3):
    """Return the multipart uploads that were begun and not ended."""
    return s3.list_multipart_uploads(Bucket="e2e").get("Uploads", [])


def everything_written(airflow, postgres, trigger_rows):
    """Return what is in files, in tables other than that of connections, and was in triggers."""
    yield from files(airflow.home)
    yield from ((table, row) for table, row in postgres.rows() if table != "connection")
    yield from trigger_rows.decrypted(airflow.fernet_key)
