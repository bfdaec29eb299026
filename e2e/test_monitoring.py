"""The files of the monitoring page, from the metrics of a real Airflow to an alert that fires in Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_cluster import AirflowCluster
from dev.pages import DOCS
from dev.prometheus import Prometheus
from dev.statsd_exporter import StatsdExporter
from e2e.pipelines import Pipeline, wait_until

MONITORING = DOCS / "monitoring"
RULES = MONITORING / "alert_rules.yml"
DASHBOARD = MONITORING / "dashboard.json"

pytestmark = pytest.mark.timeout(600)


def test_the_rules_are_valid_and_fire_where_they_should() -> None:
    tests = Path(__file__).with_name("alert_rules_test.yml")
    for arguments in (
        ["check", "rules", "--lint-fatal", str(RULES)],
        ["check", "config", str(MONITORING / "prometheus.yml")],
        ["test", "rules", str(tests)],
    ):
        run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
    tested = {each["alertname"] for case in yaml.safe_load(tests.read_text())["tests"] for each in alerts_of(case)}
    assert tested == {rule["alert"] for group in groups() for rule in group["rules"]}


def alerts_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in case["alert_rule_test"] if each.get("exp_alerts")]


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return found


@pytest.fixture
def prometheus(tmp_path: Path, statsd_port: int) -> Iterator[Prometheus]:
    """Prometheus with the rules of the page, which need no minutes to fire."""
    quick = re.sub(r"for: \w+", "for: 0s", RULES.read_text())
    quick = re.sub(r"\[(10|30)m\]", "[2m]", quick)
    (tmp_path / "rules.yml").write_text(quick)
    with (
        StatsdExporter(MONITORING / "statsd_mapping.yml", statsd_port) as exporter,
        Prometheus(exporter.port, tmp_path / "rules.yml") as running,
    ):
        yield running


def test_a_throttled_account_is_seen_in_prometheus(
    airflow: AirflowCluster, sandbox: Sandbox, s3: Any, prometheus: Prometheus
) -> None:
    wait_until(lambda: prometheus.query("up == 1"))
    connection = dict(sandbox.connection)
    # Nobody waits for a permit, as if the account's limits were used by others.
    limits = {"createReport": [100, 1000]}
    address = {"conn_type": "redis", "host": "127.0.0.1", "port": free_port()}
    airflow.put_connection("no_limit_store", address)
    extra = {**connection["extra"], "rate_limits": json.dumps(limits)}
    airflow.put_connection("amazon_business_default", {**connection, "extra": extra})

    # Both are waited for in a triggerer.
    Pipeline(airflow, sandbox, s3, "first.tsv", processing_seconds=10).assert_stored()
    fatal = Pipeline(airflow, sandbox, s3, "fatal.tsv", outcome="FATAL", processing_seconds=10)
    wait_until(lambda: "AmazonBusinessReportsFatal" in prometheus.firing(), 180)
    assert fatal.end() == "failed"
    throttled = airflow.start("mapped", {"count": 25})
    wait_until(lambda: "AmazonBusinessThrottled" in prometheus.firing(), 180)
    alert = prometheus.firing()["AmazonBusinessThrottled"]
    extra["rate_limit_store"] = "no_limit_store"
    airflow.put_connection("amazon_business_default", {**connection, "extra": extra})
    airflow.start("create")
    wait_until(lambda: prometheus.query("amazon_business_rate_limit_store_failed_total > 0"), 180)

    assert alert["labels"] == {
        "alertname": "AmazonBusinessThrottled",
        "operation": "createReport",
        "severity": "warning",
    }
    for each in yaml.safe_load((MONITORING / "statsd_mapping.yml").read_text())["mappings"]:
        name = each["name"] + ("_count" if each["match_metric_type"] == "observer" else "")
        assert prometheus.query(name), name
    dashboard = json.loads(DASHBOARD.read_text())
    for expression in [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]:
        query = expression.replace("$operation", ".*")
        # A rate needs two samples.
        wait_until(partial(prometheus.query, query), 30)
    # Prometheus has counted what the sandbox has responded.
    assert airflow.wait_for_run("mapped", throttled, 300) == "success"
    assert sandbox.count("createReport") > 25
    wait_until(lambda: counted(prometheus, "createReport") == sandbox.count("createReport"))


def counted(prometheus: Prometheus, operation: str) -> float:
    [series] = prometheus.query(f'amazon_business_calls_total{{operation="{operation}"}}')
    return float(series["value"][1])
