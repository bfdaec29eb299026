"""One Airflow of many processes for all end-to-end tests, and a sandbox for each."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.sandbox.throttle import PLANS
from dev.airflow_cluster import AirflowCluster
from dev.fault_proxy import FaultProxy
from dev.leaks import TriggerRows, secrets_of
from dev.postgres import PostgresServer
from dev.s3_server import S3Server

DAGS = Path(__file__).resolve().parent / "dags"


@pytest.fixture(scope="session")
def postgres():
    """The server of Airflow's metadata."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def database(postgres):
    """What is between Airflow and its metadata."""
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def airflow(tmp_path_factory, postgres, database):
    """A running Airflow with the DAGs of these tests, and OpenLineage switched on."""
    home = tmp_path_factory.mktemp("airflow")
    transport = {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
    settings = {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
    }
    with AirflowCluster(home, DAGS, postgres, database_port=database.port, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def trigger_rows(airflow, postgres):
    """What was in the trigger table."""
    rows = TriggerRows(lambda: postgres.query("SELECT classpath, kwargs FROM trigger"))
    rows.start()
    yield rows
    rows.stop()


@pytest.fixture(scope="session")
def secrets(s3_server):
    """All secrets that were in use, which the tests add to."""
    return {s3_server.secret_key}


def pytest_configure():
    """Have a stop from outside stop the servers, too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Put the tests that look at what all others left at the end."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture
def sandbox(airflow, trigger_rows, secrets, request):
    """The API, which is the connection ``amazon_business_default`` of that Airflow.

    Its clock is the world's, unless the test asks for a faster one.
    """
    time_scale = getattr(request, "param", 1)
    with Sandbox(time_scale=time_scale, queue_seconds=0, processing_seconds=0) as running:
        airflow.put_connection("amazon_business_default", connection_of(running))
        yield running
        secrets |= secrets_of(running)


def connection_of(sandbox):
    """Return a sandbox's connection, with the limits as they are by its clock."""
    connection = sandbox.connection
    limits = {name: [rate * sandbox.clock.scale, burst] for name, (rate, burst) in PLANS["2026"].items()}
    return {**connection, "extra": {**connection["extra"], "rate_limits": json.dumps(limits)}}


@pytest.fixture
def api(airflow, sandbox):
    """What is between Airflow and the API."""
    with FaultProxy("127.0.0.1", urlsplit(sandbox.url).port) as proxy:
        connection = connection_of(sandbox)
        through = f"http://127.0.0.1:{proxy.port}"
        extra = {
            **connection["extra"],
            "token_url": connection["extra"]["token_url"].replace(sandbox.url, through),
        }
        airflow.put_connection("amazon_business_default", {**connection, "host": through, "extra": extra})
        yield proxy


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server with the bucket ``e2e``."""
    with S3Server() as server:
        server.make_bucket("e2e")
        yield server


@pytest.fixture
def s3(airflow, s3_server):
    """A boto3 client of the S3 server, which is the connection ``aws_default``; it is empty at first."""
    airflow.put_connection("aws_default", s3_server.airflow_connection)
    client = s3_server.client()
    yield client
    for stored in client.list_objects_v2(Bucket="e2e").get("Contents", []):
        client.delete_object(Bucket="e2e", Key=stored["Key"])


@pytest.fixture
def storage(airflow, s3, s3_server):
    """What is between Airflow and S3."""
    with FaultProxy("127.0.0.1", urlsplit(s3_server.endpoint_url).port) as proxy:
        connection = s3_server.airflow_connection
        extra = {**connection["extra"], "endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        airflow.put_connection("aws_default", {**connection, "extra": extra})
        yield proxy
