"""The example DAGs, loaded without any connection and run to their end."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import airflow
import pytest

AIRFLOW_3 = airflow.__version__.startswith("3")
EXAMPLES = Path(__file__).parent.parent / "example_dags"
AIRFLOW = str(Path(sys.executable).parent / "airflow")


@pytest.fixture
def _bucket(s3):
    if "amazon-business" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="amazon-business")


@pytest.fixture
def run_dag(airflow_db):
    """Run an example to its end, its triggers too, without a scheduler."""
    # Its home since Airflow 3.2.
    if find_spec("airflow.dag_processing.dagbag"):
        from airflow.dag_processing.dagbag import DagBag
    else:
        from airflow.models.dagbag import DagBag
    bag = DagBag(str(EXAMPLES))

    def run(dag_id, **conf):
        return bag.dags[dag_id].test(run_conf=conf)

    return run


def test_there_are_no_import_errors_without_connections(airflow_db):
    command = [AIRFLOW, "dags", "list-import-errors", "--output", "json"]
    local = ["--local"] if AIRFLOW_3 else []
    listed = subprocess.run(command + local, capture_output=True, text=True, check=False)
    assert json.loads(listed.stdout.splitlines()[-1]) == []


@pytest.mark.usefixtures("_bucket")
def test_a_report(sandbox, s3, run_dag):
    # Longer than the sensor's first look, so that it is deferred.
    sandbox.script(outcome="DONE", processing_seconds=3)

    run = run_dag("example_report_to_s3")

    assert run.state == "success"
    (report,) = sandbox.reports.values()
    assert (report.data_end_time - report.data_start_time).total_seconds() == 86400
    (stored,) = s3.list_objects_v2(Bucket="amazon-business", Prefix="reports/")["Contents"]
    assert stored["Key"] == f"reports/SANDBOX_ORDER_LINES/{report.data_start_time:%Y-%m-%d}.tsv"


@pytest.mark.usefixtures("_bucket")
def test_invoices(sandbox, s3, run_dag):
    run = run_dag("example_invoices_to_s3", invoice_ids=["1", "2", "3", "4"])

    assert run.state == "success"
    asked = {report.report_options["invoiceId"]: key for key, report in sandbox.reports.items()}
    assert sorted(asked) == ["1", "2", "3", "4"]
    stored = s3.list_objects_v2(Bucket="amazon-business", Prefix="invoices/")["Contents"]
    assert {each["Key"] for each in stored} == {f"invoices/{key}/{invoice}.pdf" for invoice, key in asked.items()}


@pytest.mark.usefixtures("_bucket")
def test_an_invoice_without_data_fails_alone(sandbox, s3, run_dag):
    run = run_dag("example_invoices_to_s3", invoice_ids=["8", "NO-DATA-9"])

    assert run.state == "failed"
    states = {(task.task_id, task.map_index): task.state for task in run.get_task_instances()}
    assert states["invoice_to_s3.move", 0] == "success"
    assert states["invoice_to_s3.wait", 1] == "failed"
    assert states["invoice_to_s3.move", 1] == "upstream_failed"
