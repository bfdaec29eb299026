"""The task group alone, and mapped, as a user's DAG has it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import airflow
import pytest

# Airflow 3.1 takes seconds for each task of dag.test().
pytestmark = pytest.mark.timeout(400)

DAGS = """
from datetime import datetime, timezone

from tests.airflow_names import DAG, task, task_group

from airflow_provider_amzbiz.task_groups import report_to_s3
from airflow_provider_amzbiz.windows import report_windows

SETTINGS = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc)}
REPORT = {"report_type": "SANDBOX_ORDER_LINES", "marketplace_ids": ["ATVPDKIKX0DER"], "s3_bucket": "tests"}

with DAG("group_alone", **SETTINGS):

    @task
    def uris(objects):
        return [each["uri"] for each in objects]

    uris(report_to_s3(**REPORT, s3_key="group/alone.tsv"))
    report_to_s3.override(group_id="again")(**REPORT, s3_key="group/again.tsv")

with DAG("group_mapped", **SETTINGS):

    @task
    def options():
        return [{"invoiceId": "1"}, {"invoiceId": "2"}]

    report_to_s3.partial(
        report_type="GET_AB_INVOICE_PDF", s3_bucket="tests", s3_key="mapped/{report_id}/{name}"
    ).expand(report_options=options(), marketplace_ids=["ATVPDKIKX0DER", "A2EUQ1WTGCTBG2"])

with DAG("group_windows", **SETTINGS):

    @task_group
    def day_to_s3(data_start_time, data_end_time):
        report_to_s3(
            **REPORT, s3_key="days/{report_id}.tsv", data_start_time=data_start_time, data_end_time=data_end_time
        )

    day_to_s3.expand_kwargs(report_windows("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"))
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory, request):
    """The DAGs, from a folder that Airflow knows."""
    request.getfixturevalue("airflow_db")
    file = Path(tmp_path_factory.mktemp("dags")) / "groups.py"
    file.write_text(DAGS)
    if airflow.__version__.startswith("2"):
        from airflow.models.dagbag import DagBag

        bag = DagBag(str(file))
    else:
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        # Its home since Airflow 3.2.
        if find_spec("airflow.dag_processing.dagbag"):
            from airflow.dag_processing import dagbag
        else:
            from airflow.models import dagbag

        bag = dagbag.DagBag(str(file))
        DagBundlesManager().sync_bundles_to_db()
        if hasattr(bag, "sync_to_db"):  # Airflow 3.0
            bag.sync_to_db("dags-folder", None)
        else:
            dagbag.sync_bag_to_db(bag, "dags-folder", None)
    assert bag.import_errors == {}
    return bag.dags


def keys(s3, prefix):
    return sorted(each["Key"] for each in s3.list_objects_v2(Bucket="tests", Prefix=prefix).get("Contents", []))


def states(run):
    return {(each.task_id, each.map_index): each.state for each in run.get_task_instances()}


@pytest.mark.main_path
def test_a_group_creates_waits_and_moves(sandbox, s3, dags):
    run = dags["group_alone"].test()

    assert run.state == "success"
    assert keys(s3, "group/") == ["group/again.tsv", "group/alone.tsv"]
    assert {name for name, _ in states(run)} == {
        *(f"{group}.{task}" for group in ("report_to_s3", "again") for task in ("create", "wait", "move")),
        "uris",
    }


def test_a_group_is_mapped(sandbox, s3, dags):
    run = dags["group_mapped"].test()

    assert run.state == "success"
    asked = {(each.report_options["invoiceId"], *each.marketplace_ids) for each in sandbox.reports.values()}
    assert asked == {(one, two) for one in "12" for two in ("ATVPDKIKX0DER", "A2EUQ1WTGCTBG2")}
    assert {key.split("/")[1] for key in keys(s3, "mapped/")} == set(sandbox.reports)
    assert states(run)["report_to_s3.move", 3] == "success"


def test_a_group_within_a_mapped_group_takes_windows(sandbox, s3, dags):
    run = dags["group_windows"].test()

    assert run.state == "success"
    assert len(keys(s3, "days/")) == 2
    assert sorted(each.data_start_time.day for each in sandbox.reports.values()) == [1, 2]
