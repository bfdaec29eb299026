"""How often the API throttles mapped tasks: 200 mapped creates on a real Airflow.

``python -m bench.mapped [COUNT]``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from airflow_provider_amzbiz.demo.airflow_server import AirflowServer
from airflow_provider_amzbiz.sandbox import Sandbox

DAGS = Path(__file__).resolve().parent.parent / "e2e" / "dags"
TIME_SCALE = 10


def main() -> None:
    """Run the mapped DAG and print how often its tasks were throttled and retried."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with (
        Sandbox(time_scale=TIME_SCALE) as sandbox,
        tempfile.TemporaryDirectory() as home,
        AirflowServer(Path(home), DAGS) as airflow,
    ):
        airflow.put_connection("amazon_business_default", sandbox.connection)
        run = airflow.start("mapped", {"count": count})
        state = airflow.wait_for_run("mapped", run, seconds=3600)
        tasks = [task for task in airflow.tasks("mapped", run) if task["task_id"] == "create"]
        throttled = sandbox.count("createReport", status=429)
    attempts = sum(task["try_number"] for task in tasks)
    print(f"{count} mapped creates: {state}, {len(sandbox.reports)} reports, {attempts - len(tasks)} retries")
    print(f"throttled (429): {throttled}, {throttled / count:.3f} for each task")


if __name__ == "__main__":
    main()
