"""Fixtures of all tests: an Airflow of its own, the API's sandbox, and a real S3 server."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_amzbiz.demo.airflow_server import airflow_settings

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="amzbiz-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
# Airflow reads its configuration when it is first imported, so this comes before any test module.
os.environ.update(airflow_settings(HOME, ROOT / "example_dags"))
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
# Among Airflow 2's is an aws_default, which tests of a missing connection must not find.
os.environ["AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS"] = "False"
if version("apache-airflow").startswith("2"):
    # The only one that Airflow 2 allows with SQLite.
    os.environ["AIRFLOW__CORE__EXECUTOR"] = "SequentialExecutor"
for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "AWS_"))]:
    del os.environ[name]

BUCKET = "tests"
# Airflow's own copies of one module, by version.
_MASKERS = (
    "airflow.sdk._shared.secrets_masker",
    "airflow._shared.secrets_masker",
    "airflow.utils.log.secrets_masker",
)

# Files whose tests take so long that they should not be the last ones to begin.
_LONG = (
    "test_run.py",
    "test_faulty_networks.py",
    "test_invoices_to_s3.py",
    "test_reports_to_s3.py",
    "test_batch_actions.py",
    "test_batch_run.py",
    "test_example_dags.py",
    "test_ledger.py",
    "test_ledger_index.py",
    "test_state_machine.py",
    "test_batch_ledger.py",
    "test_code_blocks.py",
    "test_matrix.py",
    "test_poller.py",
)


def pytest_collection_modifyitems(items):
    """Let the longest tests begin first, for all processes to end at about the same time."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


def pytest_configure(config):
    """Stop the servers when the tests are ended from outside, and choose the warnings that count."""
    # Else a SIGTERM, as of a CI that cancels a run, would leave them behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Older versions of Airflow leave their own files and sockets open; ours are found on the newest.
    if tuple(map(int, version("apache-airflow").split(".")[:2])) < (3, 3):
        for each in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
            config.addinivalue_line("filterwarnings", f"ignore::{each}")


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server with the bucket ``tests``."""
    from airflow_provider_amzbiz.demo.s3_server import S3Server

    with S3Server() as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A boto3 client of the S3 server, which is also the connection ``aws_default``."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(s3_server.airflow_connection))
    return s3_server.client()


@pytest.fixture
def prefix(s3, request):
    """A folder of the test's own, emptied afterwards."""
    name = f"{hashlib.sha1(request.node.nodeid.encode()).hexdigest()}/"
    yield name
    for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=name).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=each["Key"])


@pytest.fixture
def quick_batches(monkeypatch):
    """Take out the pauses that batches of a real account need."""
    from airflow_provider_amzbiz import durable_create
    from airflow_provider_amzbiz.transfers import batch_run

    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(batch_run, "REST_SECONDS", 0.2)


@pytest.fixture
def sandbox(monkeypatch):
    """The API, without waits and limits, which is also the connection ``amazon_business_default``."""
    from airflow_provider_amzbiz.sandbox import Sandbox

    with Sandbox(throttle=False, queue_seconds=0, processing_seconds=0) as running:
        connect(monkeypatch, running)
        yield running


@pytest.fixture
def stranger(sandbox, monkeypatch):
    """Another application of the same customer: the connection ``stranger``."""
    from airflow_provider_amzbiz.client import reports

    connect(monkeypatch, sandbox, conn_id="stranger")
    # This process does not know what another one creates.
    monkeypatch.setattr(reports, "_created", {})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    """Take out the pauses that only a real Airflow and a real API need."""
    from airflow_provider_amzbiz.client import reports
    from airflow_provider_amzbiz.triggers import base

    monkeypatch.setattr(base, "MIN_DEFER_SECONDS", 0.0)
    monkeypatch.setattr(reports, "CANCEL_GRACE", (0.1, 0.2))


@pytest.fixture(autouse=True)
def _requests_keep_to_the_contract(monkeypatch):
    """Fail a test in which our client sends what the API's contract does not allow."""
    from airflow_provider_amzbiz.sandbox.server import Sandbox
    from tests.contract.requests_of_ours import breaches

    calls, record = [], Sandbox.record

    def recorded(sandbox, *arguments):
        call = record(sandbox, *arguments)
        calls.append(call)
        return call

    monkeypatch.setattr(Sandbox, "record", recorded)
    yield
    assert [breach for call in calls for breach in breaches(call)] == []


@pytest.fixture(autouse=True)
def _unmasked():
    """Have Airflow forget the secrets of a test: with those of a thousand, each line of a log takes a second."""
    yield
    for name in _MASKERS:
        if name in sys.modules:
            masker = sys.modules[name]._secrets_masker()
            masker.patterns, masker.replacer = set(), None


@pytest.fixture(scope="session")
def airflow_db():
    """Airflow's metadata database."""
    from airflow.utils.db import initdb

    initdb()


def connect(monkeypatch, sandbox, conn_id="amazon_business_default", **extra):
    """Make a sandbox an Airflow connection, with more or other extras.

    The limits are set high, so that a retry after a 429 takes no ten seconds.
    """
    from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN

    connection = sandbox.connection
    quick = {operation: [500, 500] for operation in USAGE_PLAN}
    connection = {**connection, "extra": {**connection["extra"], "rate_limits": json.dumps(quick), **extra}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
