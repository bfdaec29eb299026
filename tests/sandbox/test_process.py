"""The sandbox as a process of its own: command line, signals and HTTP control; and the pytest fixture."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

MODULE = "airflow_provider_amzbiz.sandbox"
ROOT = Path(sys.modules["airflow_provider_amzbiz"].__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments, code=None):
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", MODULE]
    return subprocess.run(
        [*command, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.fixture
def launch():
    """Start the command line; return the process and its connection."""
    processes = []

    def launcher(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        output = ""
        for line in process.stdout:
            output += line
            if found := re.fullmatch(r"export AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT='(.*)'\n", line):
                return process, json.loads(found[1]), output
        raise AssertionError(f"{output} {process.stderr.read()}")

    yield launcher
    for process in processes:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def control(shared_api):
    return f"{shared_api.sandbox.url}/sandbox"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(launch, number):
    process, connection, output = launch()
    assert connection["host"] in output
    form = {
        "grant_type": "refresh_token",
        "refresh_token": connection["extra"]["refresh_token"],
        "client_id": connection["login"],
        "client_secret": connection["password"],
    }
    assert requests.post(connection["extra"]["token_url"], data=form, timeout=10).status_code == 200
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_fixed_credentials_and_a_private_connection_file(launch, tmp_path):
    path = tmp_path / "connection.json"
    path.write_text("something older, and open to all")
    path.chmod(0o644)
    given = ("--client-id", "a", "--client-secret", "b", "--refresh-token", "Atzr|c")
    _, connection, _ = launch(*given, "--connection-file", str(path))
    assert json.loads(path.read_text()) == connection
    assert (connection["login"], connection["password"]) == ("a", "b")
    assert connection["extra"]["refresh_token"] == "Atzr|c"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_settings_arrive(launch):
    _, connection, _ = launch("--static", "--no-throttle", "--time-scale", "60")
    assert requests.get(connection["host"] + "/sandbox/health", timeout=10).status_code == 200


def test_the_habits_of_the_api_can_be_set(launch, caller):
    _, connection, _ = launch(
        "--region", "eu", "--no-throttle", "--time-format", ".sssZ", "--known-invoices", "1,2",
        "--queue-seconds", "0", "--processing-seconds", "0", "--listing-lag-seconds", "3600",
        "--document-lag-seconds", "3600", "--repeat-seconds", "3600", "--document-days", "1", "--report-days", "2",
    )  # fmt: skip
    assert connection["extra"]["region"] == "eu"
    assert connection["extra"]["marketplace_ids"] == "A1PA6795UKMFR9"
    control = connection["host"] + "/sandbox"

    def call(method, path, **body):
        return requests.request(method, connection["host"] + path, timeout=10, **body)

    form = {
        "grant_type": "refresh_token",
        "refresh_token": connection["extra"]["refresh_token"],
        "client_id": connection["login"],
        "client_secret": connection["password"],
    }
    token = requests.post(connection["extra"]["token_url"], data=form, timeout=10).json()["access_token"]
    headers = {"x-amz-access-token": token, "user-agent": "Tests/1 (Language=Python)"}
    path = "/reports/2021-09-30/reports"

    def status(invoice):
        body = {"reportType": "GET_AB_INVOICE_PDF", "marketplaceIds": ["A1PA6795UKMFR9"]}
        body["reportOptions"] = {"orderId": invoice}
        report_id = call("POST", path, json=body, headers=headers).json()["reportId"]
        report = call("GET", f"{path}/{report_id}", headers=headers).json()
        assert report["createdTime"].endswith("Z")
        return report["processingStatus"]

    assert [status(each) for each in ("1", "1", "2", "3")] == ["DONE", "CANCELLED", "DONE", "CANCELLED"]
    assert requests.post(f"{control}/invoices", json={"issue": ["3"]}, timeout=10).ok
    assert status("3") == "DONE"
    listed = call("GET", f"{path}?reportTypes=GET_AB_INVOICE_PDF", headers=headers).json()
    assert listed == {"reports": []}


def test_the_role_can_be_missing(launch):
    _, connection, _ = launch("--no-role")
    assert "region" not in connection["extra"]
    form = {
        "grant_type": "refresh_token",
        "refresh_token": connection["extra"]["refresh_token"],
        "client_id": connection["login"],
        "client_secret": connection["password"],
    }
    token = requests.post(connection["extra"]["token_url"], data=form, timeout=10).json()["access_token"]
    headers = {"x-amz-access-token": token}
    response = requests.get(connection["host"] + "/reports/2021-09-30/reports/1", headers=headers, timeout=10)
    assert response.status_code == 403


def test_help_lists_the_invoice_ids():
    output = run("--help").stdout
    for word in ("NO-DATA", "FATAL-DOC", "SLOW", "MULTI", "SANDBOX_ORDER_LINES", "/sandbox/faults"):
        assert word in output


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com"])
def test_only_this_machine_by_default(host):
    finished = run("--host", host)
    assert finished.returncode != 0
    assert "--allow-remote" in finished.stderr


def test_remote_if_allowed(launch):
    _, connection, _ = launch("--host", "0.0.0.0", "--allow-remote")
    assert connection["host"].startswith("http://")


def test_a_port_that_is_taken(shared_api):
    port = shared_api.sandbox.url.rpartition(":")[2]
    finished = run("--port", port)
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr


def test_a_port_that_cannot_be():
    finished = run("--port", "99999")
    assert finished.returncode == 1
    assert "The sandbox cannot start: " in finished.stderr
    assert "0-65535" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra_it_names_it(missing):
    code = f"""
import runpy, sys
sys.modules[{missing!r}] = None
sys.argv = ["sandbox"]
runpy.run_module({MODULE!r}, run_name="__main__")
"""
    finished = run(code=code)
    assert finished.returncode != 0
    assert "airflow-provider-amzbiz[sandbox]" in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr


def test_imports_no_airflow_and_the_plugin_no_web_server():
    code = f"""
import sys
import {MODULE}.pytest_plugin
assert not {{"fastapi", "uvicorn", "starlette", "isal"}} & set(sys.modules)
import {MODULE}.server
assert "airflow" not in sys.modules
"""
    finished = run(code=code)
    assert finished.returncode == 0, finished.stderr


def test_health(control):
    body = requests.get(f"{control}/health", timeout=10).json()
    assert body["status"] == "healthy"


def test_control_shows_calls_without_secrets(shared_api, control):
    url = shared_api.describe()["url"]
    requests.get(url, timeout=10)
    response = requests.get(f"{control}/calls", timeout=10)
    names = {call["operation"] for call in response.json()}
    assert {"token", "createReport", "getReport", "getReportDocument", "document"} <= names
    for secret in (shared_api.access_token, shared_api.sandbox.refresh_token, "X-Amz-Signature"):
        assert secret not in response.text


def test_control_shows_reports(shared_api, control):
    report_id = shared_api.created("GET_AB_INVOICE_PDF", {"invoiceId": "SHOWN"})
    shown = {each["reportId"]: each for each in requests.get(f"{control}/reports", timeout=10).json()}
    assert shown[report_id]["reportOptions"] == {"invoiceId": "SHOWN"}
    assert shown[report_id]["processingStatus"] == "DONE"


def test_control_injects_and_clears_faults(shared_api, control):
    fault = {"operation": "getReports", "kind": "status", "status": 500, "times": None}
    assert requests.post(f"{control}/faults", json=fault, timeout=10).ok
    assert shared_api.list().status_code == 500
    assert requests.delete(f"{control}/faults", timeout=10).ok
    assert shared_api.list().status_code == 200


def test_control_scripts(shared_api, control):
    assert requests.post(f"{control}/script", json={"outcome": "FATAL"}, timeout=10).ok
    assert shared_api.status(shared_api.created()) == "FATAL"


def test_control_advances_the_clock_and_expires_tokens(start, caller):
    api = caller(start(queue_seconds=1000))
    report_id = api.created()
    control = f"{api.sandbox.url}/sandbox"
    assert api.status(report_id) == "IN_QUEUE"
    assert requests.post(f"{control}/clock", json={"advance": 1001}, timeout=10).ok
    assert api.status(report_id) == "DONE"
    assert requests.post(f"{control}/expire-tokens", timeout=10).ok
    assert api.get(report_id).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", b"{"),
        ("faults", b"[]"),
        ("faults", b'{"operation": "getReport", "kind": "nonsense"}'),
        ("faults", b'{"operation": "getReport", "kind": "status", "typo": 1}'),
        ("script", b'{"typo": 1}'),
        ("clock", b"{}"),
        ("invoices", b"{}"),
        ("invoices", b'{"issue": 5}'),
        ("invoices", b'{"issue": "123"}'),
        ("invoices", b'{"issue": [5]}'),
        ("clock", b'{"advance": "soon"}'),
    ],
)
def test_control_names_what_it_does_not_understand(control, path, body):
    response = requests.post(f"{control}/{path}", data=body, timeout=10)
    assert 400 <= response.status_code < 500


def test_the_fixture_and_its_marker(tmp_path):
    (tmp_path / "test_user.py").write_text(
        """
import json, os
import pytest, requests

def test_plain(amazon_business_sandbox):
    connection = json.loads(os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"])
    assert connection == amazon_business_sandbox.connection
    assert requests.get(amazon_business_sandbox.url + "/sandbox/health", timeout=5).ok
    amazon_business_sandbox.script(outcome="FATAL")

@pytest.mark.amazon_business_sandbox(time_scale=60, throttle=False)
def test_marked(amazon_business_sandbox):
    assert amazon_business_sandbox.clock.scale == 60

def test_stopped():
    assert "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT" not in os.environ
"""
    )
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("AIRFLOW_CONN")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugin = f"{MODULE}.pytest_plugin"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, "--strict-markers", str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "3 passed" in finished.stdout, finished.stdout + finished.stderr
