"""The alerts of the documentation send what a person needs, in a real failure of a task."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import airflow
import pytest
import requests
from packaging.version import Version

from airflow_provider_amzbiz.exceptions import ThrottledError
from dev.pages import DOCS
from tests.airflow_names import AirflowFailException, DagBag, redact

ALERTS = DOCS / "operations" / "alerts"
VERSION = Version(airflow.__version__)
SECRET = "T000/B000/the-secret-end"

# Airflow 3.1 takes seconds for each task of dag.test().
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def posted(monkeypatch):
    """What the webhook was sent: paths and texts."""
    received = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.path, body["text"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    connection = {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_port}", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_WEBHOOK", json.dumps(connection))
    yield received
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def alerts(monkeypatch):
    """The module of the page, found as in a DAG folder."""
    monkeypatch.syspath_prepend(str(ALERTS))
    yield importlib.import_module("amazon_business_alerts")
    for name in ("amazon_business_alerts", "daily_report", "daily_invoices", "late"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(airflow_db, alerts, monkeypatch):
    """Run the DAG of the page to its end."""
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(ALERTS))
    if Version("3") <= VERSION < Version("3.3"):
        finish_as_a_task(monkeypatch)
    if Version("3") > VERSION:
        return importlib.import_module("daily_report").dag.test
    bag = DagBag(str(ALERTS / "daily_report.py"))
    assert bag.import_errors == {}
    return bag.dags["daily_report"].test


def finish_as_a_task(monkeypatch):
    """Have dag.test() give callbacks the exception, as a task's process does; before Airflow 3.3 it forgets to."""
    runner = importlib.import_module("airflow.sdk.execution_time.task_runner")
    finalize = runner.finalize

    def with_exception(ti, state, context, log, error=None):
        finalize(ti, state, {**context, "exception": error}, log, error)

    monkeypatch.setattr(runner, "finalize", with_exception)


def test_a_notifier_tells_why_a_report_is_fatal(sandbox, posted, run):
    sandbox.script(outcome="FATAL_WITH_DOCUMENT")

    finished = run()

    assert finished.state == "failed"
    [(path, text)] = posted
    [report_id] = sandbox.reports
    lines = text.splitlines()
    assert path == f"/{SECRET}"
    assert lines[0] == f"daily_report.wait failed, run {finished.run_id}, attempt 1"
    assert lines[1:3] == [f"Report: {report_id}", "Report type: SANDBOX_ORDER_LINES"]
    assert any(line.startswith("Amazon's reason: ") and len(line) > 30 for line in lines)
    assert lines[-2:] == ["A retry does not help.", f"Run {finished.run_id}: call the data team"]
    assert_no_secret(sandbox, text)


def test_a_callback_tells_what_amazon_responded(sandbox, posted, run):
    sandbox.revoke()

    finished = run()

    assert finished.state == "failed"
    [(_, text)] = posted
    assert text.startswith(f"daily_report.create failed, run {finished.run_id}")
    assert "invalid_grant" in text
    assert "Status: 400" in text
    assert_no_secret(sandbox, text)


def assert_no_secret(sandbox, text):
    connection = sandbox.connection
    for secret in (connection["password"], connection["extra"]["refresh_token"], SECRET):
        assert secret not in text


def test_a_webhook_that_cannot_be_reached_shows_no_secret(alerts, monkeypatch):
    connection = {"conn_type": "http", "host": "http://127.0.0.1:1", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_WEBHOOK", json.dumps(connection))

    with pytest.raises(requests.ConnectionError, match=SECRET) as failure:
        alerts.send("text")

    assert SECRET not in redact(str(failure.value))


TI = SimpleNamespace(dag_id="dag", task_id="task", run_id="run", try_number=2)


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            ThrottledError("createReport got no permit", operation="createReport", status=429, request_id="r-1"),
            [
                "Operation: createReport",
                "Status: 429",
                "Request id: r-1",
                "ThrottledError: createReport got no permit",
            ],
        ),
        (AirflowFailException("https://user:password@host"), ["AirflowFailException"]),
        ("Detected zombie job", ["The worker was lost, or the error is unknown."]),
        (None, ["The worker was lost, or the error is unknown."]),
    ],
)
def test_the_message_of_other_failures(alerts, error, lines):
    text = alerts.message({"ti": TI, "exception": error})

    assert text.splitlines() == ["dag.task failed, run run, attempt 2", *lines]


@pytest.mark.skipif(Version("3.1") > VERSION, reason="deadlines are new in Airflow 3.1")
class TestDeadline:
    def test_the_dag_has_one(self, alerts):
        dag = importlib.import_module("daily_invoices").dag
        deadline = dag.deadline if not isinstance(dag.deadline, list) else dag.deadline[0]

        assert deadline.interval.total_seconds() == 4 * 3600
        assert deadline.callback.path == "late.late"

    def test_the_callback_tells_which_run_is_late(self, alerts, posted):
        late = importlib.import_module("late").late
        run = {"dag_id": "daily_invoices", "dag_run_id": "scheduled__2026"}

        asyncio.run(late(context={"dag_run": run}, note="Call the data team."))

        assert posted == [(f"/{SECRET}", "daily_invoices is late, run scheduled__2026\nCall the data team.")]
