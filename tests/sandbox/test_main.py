"""The sandbox as a process of its own: command line and signals."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys

import pytest
import requests

from tests.sandbox.processes import ENVIRONMENT, MODULE, run


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
