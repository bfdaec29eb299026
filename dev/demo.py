"""The whole job on this machine: three example DAGs on a real Airflow, from the sandbox to a real S3 server.

``python -m dev.demo`` starts everything on free ports in a temporary folder, runs the DAGs and shows the objects
in S3. Then it stops and removes everything, on Ctrl-C too. Its exit status is 0 if every task succeeded and every
object is what the task reported; its last line says so in words. The third DAG is :mod:`dev.demo_feed`.
"""

from __future__ import annotations

import hashlib
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.airflow_server import AirflowServer
from dev.demo_feed import FeedDemo
from dev.leaks import secrets_of
from dev.stage import stage

RUN_SECONDS = 300
_ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass
class Demo:
    """The results of a demo run.

    :ivar states: of tasks, by ``dag.task[map index]``.
    :ivar objects: that the first two DAGs stored.
    :ivar feed: what each run of the feed returned.
    """

    states: dict[str, str] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(default_factory=list)
    feed: list[dict[str, Any]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether all tasks succeeded and there are objects."""
        return bool(self.objects) and set(self.states.values()) == {"success"}


def run(folder: Path, *, logging_level: str = "INFO") -> Demo:
    """Run three example DAGs and check what they wrote.

    :param folder: for Airflow's home and logs; the caller removes it.
    :param logging_level: of Airflow's logs.
    """
    demo = Demo()
    clock = _Clock()
    clock.log("Starting Airflow, the sandbox of the Amazon Business API and an S3 server")
    with stage(folder, logging_level=logging_level) as on:
        clock.log(
            f"Airflow is up at {on.airflow.url}, the sandbox at {on.sandbox.url}, S3 at {on.s3.endpoint_url}"
        )
        for dag_id in ("example_report_to_s3", "example_invoices_to_s3"):
            run_id = on.airflow.start(dag_id)
            clock.log(f"{dag_id}: started")
            demo.states |= _follow(on.airflow, dag_id, run_id, clock)
            demo.objects += _written(on.airflow, dag_id, run_id)
        client = on.s3.client()
        for each in demo.objects:
            _show(client, each)
        print()

        def run_feed(dag_id: str, conf: dict[str, Any] | None) -> str:
            run_id = on.airflow.start(dag_id) if conf is None else on.airflow.trigger(dag_id, conf)
            demo.states |= _follow(on.airflow, dag_id, run_id, clock)
            return run_id

        feed = FeedDemo(on, run_feed, clock.log)
        feed.run(folder)
        demo.feed = feed.results
        demo.secrets += [on.s3.secret_key, *secrets_of(on.sandbox)]
        print()
        clock.log("Stopping")
    clock.log("Everything is stopped")
    return demo


class _Clock:
    def __init__(self) -> None:
        self._start = time.monotonic()

    def log(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)


def _follow(airflow: AirflowServer, dag_id: str, run_id: str, clock: _Clock) -> dict[str, str]:
    """Print every change of a task's state until the run has ended."""
    seen: dict[str, str] = {}
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        run_state = airflow.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        tasks = airflow.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        for task in tasks:
            name, state = _name(task), task["state"]
            if state not in (None, "None", "scheduled", "queued") and seen.get(name) != state:
                seen[name] = state
                took = f" ({task['duration']:.1f} s)" if state in _ENDED and task["duration"] else ""
                clock.log(f"{dag_id}: {name} is {state}{took}")
                if state == "failed":
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


def main() -> int:
    """Run the demo in a temporary folder; return its exit status."""
    # SIGTERM must clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="amzbiz-demo-") as folder:
        try:
            demo = run(Path(folder))
        except KeyboardInterrupt:
            print("\nStopped; everything is cleaned up", flush=True)
            return 130
    if demo.succeeded:
        landed = sum(each["landed"] for each in demo.feed)
        print(
            f"The demo succeeded: all tasks did, S3 has the {len(demo.objects)} objects that they reported, and "
            f"the feed's {landed} reports are in the company's books, to the cent"
        )
        return 0
    others = ", ".join(f"{name} is {state}" for name, state in demo.states.items() if state != "success")
    print(f"The demo failed: {others or 'nothing was written to S3'}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
