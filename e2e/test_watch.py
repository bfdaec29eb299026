"""An asset watcher on a real Airflow: each report is announced once, also across a kill of the triggerer."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

import pytest

from airflow_provider_amzbiz.demo.waiting import wait_until
from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_cluster import AirflowCluster

pytestmark = pytest.mark.timeout(600)

LINES = "SANDBOX_ORDER_LINES"


def announced(airflow: AirflowCluster) -> list[str]:
    """Return the report ids that the runs of the DAG were given, in all."""
    runs = [
        each for each in airflow.get("/dags/watched/dagRuns?limit=100")["dag_runs"] if each["state"] == "success"
    ]
    return [found for run in runs for found in _ids(airflow.xcom("watched", run["dag_run_id"], "announced"))]


def _ids(value: Any) -> list[str]:
    ids: list[str] = json.loads(value) if isinstance(value, str) else value
    return ids


def wait_until_announced(airflow: AirflowCluster, expected: Collection[str], seconds: float = 120) -> None:
    wait_until(
        lambda: sorted(announced(airflow)) == sorted(expected),
        seconds,
        lambda: f"announced {announced(airflow)}, expected {expected}",
    )


def wait_for_polls(sandbox: Sandbox, count: int = 2, seconds: float = 120) -> None:
    seen = sandbox.count("getReports")
    wait_until(lambda: sandbox.count("getReports") >= seen + count, seconds, lambda: "the watch does not poll")


@pytest.mark.parametrize("sandbox", [10], indirect=True)
def test_a_dag_runs_for_each_report_across_a_kill_of_the_triggerer(
    airflow: AirflowCluster, sandbox: Sandbox
) -> None:
    sandbox.add_report(LINES)
    airflow.unpause("watched")
    wait_for_polls(sandbox)

    first = [sandbox.add_report(LINES) for _ in range(3)]
    slow = sandbox.add_report(LINES, status="IN_PROGRESS")
    sandbox.add_report("GET_AB_INVOICE_PDF")
    wait_until_announced(airflow, first)
    # The triggerer records what Airflow has.
    wait_for_polls(sandbox)
    time.sleep(1)

    for part in ("triggerer-1", "triggerer-2"):
        airflow.kill(part, stay_down=True)
    second = [sandbox.add_report(LINES) for _ in range(2)]
    sandbox.reports[slow].outcome = "DONE"
    airflow.revive()

    everything = [*first, slow, *second]
    wait_until_announced(airflow, everything)
    wait_for_polls(sandbox, 3)
    time.sleep(5)
    wait_until_announced(airflow, everything, seconds=0)
