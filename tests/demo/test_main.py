"""The demo's command line: what it refuses, what it takes over, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import airflow
import pytest
import requests
from packaging.requirements import Requirement

from airflow_provider_amzbiz.demo import __main__ as command
from airflow_provider_amzbiz.demo import requirements
from airflow_provider_amzbiz.demo.airflow_api import AirflowApi

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "airflow_provider_amzbiz.demo"]
DAG_OF_A_USER = """
from airflow.sdk import DAG

from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from beside import REPORT_TYPE

with DAG("mine", schedule=None):
    CreateReportOperator(task_id="create", report_type=REPORT_TYPE, marketplace_ids="ATVPDKIKX0DER")
"""


def run(*arguments):
    return subprocess.run([*DEMO, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_folder_that_does_not_exist(tmp_path):
    missing = tmp_path / "no-dags"

    refused = run("--dags", str(missing))

    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith(f"error: argument --dags: there is no folder '{missing}'")


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = run("--port", str(port))

    assert refused.returncode == 2
    assert f"argument --port: port {port} cannot be used (Address already in use)" in refused.stderr


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_what_is_no_port(port):
    refused = run(f"--port={port}")

    assert refused.returncode == 2
    assert f"argument --port: '{port}' is not a port" in refused.stderr


@pytest.mark.parametrize(
    "address", ["9125", ":9125", "localhost", "localhost:0", "localhost:statsd", "[::1]:70000"]
)
def test_what_is_no_address_of_a_statsd_server(address):
    refused = run("--statsd", address)

    assert refused.returncode == 2
    assert f"argument --statsd: '{address}' is not HOST:PORT, such as 127.0.0.1:9125" in refused.stderr


@pytest.fixture
def distribution(monkeypatch):
    """Another set of installed distributions, as this package and its extra see it."""

    def distribution(requires, installed):
        def version(name):
            if name not in installed:
                raise PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(requirements, "requires", lambda _: requires)
        monkeypatch.setattr(requirements, "version", version)

    return distribution


REQUIRES = [
    "boto3>=1.36",
    'duckdb>=1.2; extra == "demo"',
    'uvicorn>=0.30; extra == "demo"',
    'redis>=5; extra == "redis"',
]


@pytest.mark.parametrize(
    ("installed", "missing"),
    [
        ({"duckdb": "1.5.0", "uvicorn": "0.30.0"}, []),
        ({"duckdb": "1.5.0"}, ["uvicorn>=0.30"]),
        ({"duckdb": "1.1.9", "uvicorn": "1.0"}, ["duckdb>=1.2"]),
        ({}, ["duckdb>=1.2", "uvicorn>=0.30"]),
    ],
)
def test_what_is_missing(distribution, installed, missing):
    distribution(REQUIRES, installed)

    assert requirements.missing_requirements("demo") == missing


def test_a_missing_extra_says_what_to_install(distribution, monkeypatch, capsys):
    distribution(REQUIRES, {"duckdb": "1.5.0"})
    monkeypatch.setattr(sys, "argv", ["demo"])

    assert command.main() == 1
    assert capsys.readouterr().err == (
        "The demo needs uvicorn>=0.30: pip install 'airflow-provider-amzbiz[demo]'\n"
    )


def test_the_extra_has_what_the_examples_and_the_demo_import():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [*(ROOT / "example_dags").glob("*.py"), *(ROOT / "airflow_provider_amzbiz" / "demo").glob("*.py")]
    imported = {
        name
        for each in files
        for name in re.findall(
            r"^ *(?:from|import) (duckdb|pyarrow|moto|pandas|psycopg2)\b", each.read_text(), re.M
        )
    }

    assert imported
    assert imported <= {Requirement(each).name for each in extras["demo"]}
    [others] = [Requirement(each).extras for each in extras["demo"] if each.startswith("airflow-provider-amzbiz")]
    assert others == {"amazon", "parquet", "sandbox"}


@pytest.fixture
def statsd():
    """A StatsD server that keeps the packets that it receives."""
    packets = []

    class Packets(socketserver.BaseRequestHandler):
        def handle(self):
            packets.append(self.request[0].decode())

    with socketserver.UDPServer(("127.0.0.1", 0), Packets) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(address=f"127.0.0.1:{server.server_address[1]}", packets=packets)
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(airflow.__version__.startswith("2"), reason="the demo needs Airflow 3")
@pytest.mark.timeout(900)
def test_a_user_adds_a_folder_and_metrics_and_stops_it_twice(tmp_path, statsd):
    """Everything is removed, even if a second Ctrl-C interrupts the clean-up, and the folder stays as it is."""
    dags, temporary = tmp_path / "dags", tmp_path / "tmp"
    dags.mkdir()
    temporary.mkdir()
    (dags / "mine.py").write_text(DAG_OF_A_USER)
    (dags / "beside.py").write_text('REPORT_TYPE = "SANDBOX_ORDER_LINES"')
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    # A shell's settings must not reach the demo's Airflow.
    environment["AIRFLOW__CORE__EXECUTOR"] = "NoSuchExecutor"
    environment["AWS_PROFILE"] = "no-such-profile"

    served = subprocess.Popen(
        [*DEMO, "--dags", str(dags), "--port", str(port), "--statsd", statsd.address],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = iter(served.stdout.readline, "")
        assert any(url in line for line in lines)
        assert any(f"Your DAGs of {dags} are there, too" in line for line in lines)
        api = AirflowApi(url)
        api.log_in()
        run_id = api.start("mine")
        assert api.wait_for_run("mine", run_id) == "success"
        examples = {each.stem for each in (ROOT / "example_dags").glob("*.py")}
        assert {each["dag_id"] for each in api.get("/dags")["dags"]} == {*examples, "mine"}
        assert "airflow.amazon_business.calls.createReport:1|c" in statsd.packets
    finally:
        served.send_signal(signal.SIGINT)
        with_second = served.poll() is None
        served.send_signal(signal.SIGINT)
        output, _ = served.communicate(timeout=60)

    assert with_second
    assert served.returncode == 0
    assert output.endswith("\nStopped; everything is removed\n")
    assert list(temporary.iterdir()) == []
    assert {each.name for each in dags.iterdir()} == {"mine.py", "beside.py"}
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
