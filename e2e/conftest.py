"""One Airflow of many processes for all end-to-end tests, and a sandbox for each."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.demo.s3_server import S3Server
from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_cluster import AirflowCluster
from dev.fault_proxy import FaultProxy
from dev.leaks import TriggerRows, leaks, secrets_of
from dev.postgres import PostgresServer
from e2e.pipelines import connection_of, everything_written, open_uploads, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAGS = Path(__file__).resolve().parent / "dags"
# What its processes import when they start.
IN_AIRFLOW = DAGS.with_name("in_airflow")
# Fewer collected tests mean that somebody picked some, and not every place is written to.
ALL = 21


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of Airflow's metadata."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def database(postgres: PostgresServer) -> Iterator[FaultProxy]:
    """What is between Airflow and its metadata."""
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def statsd_port() -> int:
    """The port to which that Airflow sends its metrics, whether somebody listens or not."""
    return free_port()


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, database: FaultProxy, statsd_port: int
) -> Iterator[AirflowCluster]:
    """A running Airflow with the DAGs of these tests, with OpenLineage and metrics switched on."""
    home = tmp_path_factory.mktemp("airflow")
    transport = {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
    settings = {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd_port),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(IN_AIRFLOW), os.environ.get("PYTHONPATH")])),
    }
    with AirflowCluster(home, DAGS, postgres, database_port=database.port, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def trigger_rows(airflow: AirflowCluster, postgres: PostgresServer) -> Iterator[TriggerRows]:
    """What was in the trigger table."""
    rows = TriggerRows(lambda: postgres.query("SELECT classpath, kwargs FROM trigger"))
    rows.start()
    yield rows
    rows.stop()


@pytest.fixture(scope="session")
def secrets(
    airflow: AirflowCluster,
    postgres: PostgresServer,
    trigger_rows: TriggerRows,
    s3_server: S3Server,
    request: pytest.FixtureRequest,
) -> Iterator[set[str]]:
    """All secrets that were in use, which the tests add to; at the end, Airflow has written none of them."""
    in_use = {s3_server.secret_key}
    yield in_use
    written = list(everything_written(airflow, postgres, trigger_rows))
    assert leaks(written, in_use) == []
    if request.session.testscollected < ALL:
        return
    # The search covered all places where a secret could be.
    places = {where for where, _ in written}
    assert {"xcom", "rendered_task_instance_fields", "task_instance", "log"} <= places
    # Which tests this process ran, of those that have events, is up to chance.
    assert "asset_event" in places or postgres.query("SELECT count(*) FROM asset_event") == [(0,)]
    assert any(where.endswith("lineage.jsonl") for where in places)
    assert any("ReportStatusTrigger" in where for where in places)
    assert any("attempt=1.log" in where and "Created report" in text for where, text in written)
    assert len(in_use) > 20


# Each process takes two tests in advance, so that the two longest ones must not be neighbours.
_FIRST = ("test_batch.py", "test_limit_store.py", "test_soak.py")


def pytest_configure(config: pytest.Config) -> None:
    """Have a stop from outside stop the servers, too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Servers are killed here while files and sockets to them are open.
    for each in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
        config.addinivalue_line("filterwarnings", f"ignore::{each}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest tests begin first, for two processes to end at about the same time."""

    def place(item: pytest.Item) -> int:
        is_long = item.get_closest_marker("long") is not None
        return _FIRST.index(item.path.name) if item.path.name in _FIRST else len(_FIRST) + (not is_long)

    items.sort(key=place)


@pytest.fixture
def sandbox(
    airflow: AirflowCluster,
    postgres: PostgresServer,
    trigger_rows: TriggerRows,
    secrets: set[str],
    request: pytest.FixtureRequest,
) -> Iterator[Sandbox]:
    """The API, which is the connection ``amazon_business_default`` of that Airflow.

    Its clock is the world's, unless the test asks for a faster one.
    """
    time_scale = getattr(request, "param", 1)
    with Sandbox(time_scale=time_scale, queue_seconds=0, processing_seconds=0) as running:
        airflow.put_connection("amazon_business_default", connection_of(running))
        yield running
        _end_runs(airflow, postgres)
        secrets |= secrets_of(running)


def _end_runs(airflow: AirflowCluster, postgres: PostgresServer) -> None:
    """End the runs that a failed test has left: their polls would be calls of the next test."""
    left = airflow.get("/dags/~/dagRuns?state=queued&state=running")["dag_runs"]
    for run in left:
        airflow.fail_run(run["dag_id"], run["dag_run_id"])
    # The trigger of a watched asset belongs to no run.
    of_tasks = "SELECT id FROM trigger WHERE classpath NOT LIKE '%ReportsDoneTrigger'"
    if left:
        wait_until(lambda: not postgres.query(of_tasks))
        # The triggerers learn of it from there, and then cancel the reports.
        time.sleep(10)


@pytest.fixture
def api(airflow: AirflowCluster, sandbox: Sandbox) -> Iterator[FaultProxy]:
    """What is between Airflow and the API."""
    with FaultProxy("127.0.0.1", urlsplit(sandbox.url).port or 80) as proxy:
        connection = connection_of(sandbox)
        through = f"http://127.0.0.1:{proxy.port}"
        extra = {
            **connection["extra"],
            "token_url": connection["extra"]["token_url"].replace(sandbox.url, through),
        }
        airflow.put_connection("amazon_business_default", {**connection, "host": through, "extra": extra})
        yield proxy


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server with the bucket ``e2e``."""
    with S3Server() as server:
        server.make_bucket("e2e")
        yield server


@pytest.fixture
def s3(airflow: AirflowCluster, s3_server: S3Server) -> Iterator[S3Client]:
    """A boto3 client of the S3 server, which is the connection ``aws_default``; it is empty at first."""
    airflow.put_connection("aws_default", s3_server.airflow_connection)
    client = s3_server.client()
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="e2e"):
        for stored in page.get("Contents", []):
            client.delete_object(Bucket="e2e", Key=stored["Key"])
    # A test that fails must not fail those after it.
    for upload in open_uploads(client):
        client.abort_multipart_upload(Bucket="e2e", Key=upload["Key"], UploadId=upload["UploadId"])


@pytest.fixture
def storage(airflow: AirflowCluster, s3: S3Client, s3_server: S3Server) -> Iterator[FaultProxy]:
    """What is between Airflow and S3."""
    with FaultProxy("127.0.0.1", urlsplit(s3_server.endpoint_url).port or 80) as proxy:
        connection = s3_server.airflow_connection
        extra = {**connection["extra"], "endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        airflow.put_connection("aws_default", {**connection, "extra": extra})
        yield proxy
