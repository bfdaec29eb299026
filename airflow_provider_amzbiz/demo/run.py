"""The whole job: three example DAGs, from the sandbox to the S3 server, and a check of what they stored.

The third DAG is :mod:`.feed`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.demo.airflow_server import AirflowServer
from airflow_provider_amzbiz.demo.feed import FeedDemo
from airflow_provider_amzbiz.demo.stage import Stage

RUN_SECONDS = 300
_ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}

Log = Callable[[str], None]


@dataclass
class Results:
    """What the examples did.

    :ivar states: of tasks, by ``dag.task[map index]``.
    :ivar objects: that the first two DAGs stored.
    :ivar feed: what each run of the feed returned.
    """

    states: dict[str, str] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(default_factory=list)
    feed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether all tasks succeeded and there are objects."""
        return bool(self.objects) and set(self.states.values()) == {"success"}

    @property
    def summary(self) -> str:
        """The results in a sentence."""
        if self.succeeded:
            landed = sum(each["landed"] for each in self.feed)
            return (
                f"The demo succeeded: all tasks did, S3 has the {len(self.objects)} objects that they reported, "
                f"and the feed's {landed} reports are in the company's books, to the cent"
            )
        others = ", ".join(f"{name} is {state}" for name, state in self.states.items() if state != "success")
        return f"The demo failed: {others or 'nothing was written to S3'}"


def run_examples(on: Stage, folder: Path, log: Log) -> Results:
    """Run three example DAGs and check what they wrote.

    :param folder: for the feed's tables.
    :param log: prints a line of progress.
    :raises RuntimeError: a run did not end, or what is in S3 is not what it must be.
    """
    results = Results()
    for dag_id in ("example_report_to_s3", "example_invoices_to_s3"):
        run_id = on.airflow.start(dag_id)
        log(f"{dag_id}: started")
        results.states |= _follow(on.airflow, dag_id, run_id, log)
        results.objects += _written(on.airflow, dag_id, run_id)
    client = on.s3.client()
    for each in results.objects:
        _show(client, each)
    print()

    def run_feed(dag_id: str, conf: dict[str, Any] | None) -> str:
        run_id = on.airflow.start(dag_id) if conf is None else on.airflow.trigger(dag_id, conf)
        results.states |= _follow(on.airflow, dag_id, run_id, log)
        return run_id

    feed = FeedDemo(on, run_feed, log)
    feed.run(folder)
    results.feed = feed.results
    print()
    return results


def _follow(airflow: AirflowServer, dag_id: str, run_id: str, log: Log) -> dict[str, str]:
    """Print every change of a task's state until the run has ended."""
    seen: dict[str, str] = {}
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        run_state = airflow.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        tasks = airflow.tasks(dag_id, run_id)
        for task in tasks:
            name, state = _name(task), task["state"]
            if state not in (None, "None", "scheduled", "queued") and seen.get(name) != state:
                seen[name] = state
                took = f" ({task['duration']:.1f} s)" if state in _ENDED and task["duration"] else ""
                log(f"{dag_id}: {name} is {state}{took}")
                if state in ("failed", "up_for_retry"):
                    _print_log(airflow, task)
        if run_state in ("success", "failed"):
            return {f"{dag_id}.{name}": state for name, state in seen.items()}
        time.sleep(0.5)
    for task in tasks:
        if task["state"] not in _ENDED:
            _print_log(airflow, task)
    raise RuntimeError(f"{dag_id} did not end within {RUN_SECONDS} s: {seen}")


def _print_log(airflow: AirflowServer, task: dict[str, Any]) -> None:
    print("\n".join(f"          {line}" for line in airflow.log_tail(task)), flush=True)


def _name(task: dict[str, Any]) -> str:
    index = f"[{task['map_index']}]" if task["map_index"] >= 0 else ""
    return f"{task['task_id']}{index}"


def _written(airflow: AirflowServer, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Return the XComs of the run's transfers."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}"
    written: list[dict[str, Any]] = []
    for task in airflow.get(f"{path}/taskInstances")["task_instances"]:
        if task["task_id"].endswith("move") and task["state"] == "success":
            where = f"{path}/taskInstances/{task['task_id']}/xcomEntries/return_value"
            entry = airflow.get(f"{where}?map_index={task['map_index']}&deserialize=true")
            written += entry["value"]
    return written


def _show(client: Any, stored: dict[str, Any]) -> None:
    """Read an object back, check it against the task's XCom, and print it."""
    bucket, key = stored["uri"].removeprefix("s3://").split("/", 1)
    body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    if len(body) != stored["bytes"] or hashlib.sha256(body).hexdigest() != stored["sha256"]:
        raise RuntimeError(f"{stored['uri']} is not what the task reported: {stored}")
    print(f"\n{stored['uri']}\n  {stored['bytes']} bytes, {stored['content_type']}, sha256 {stored['sha256']}")
    title = re.search(rb"/Title \((.*?)\)", body)
    if title:
        print(f"  PDF title: {title[1].decode()}")
    else:
        for line in body.splitlines()[:3]:
            print(f"  {line.decode()[:100]}")
