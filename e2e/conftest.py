"""One Airflow for all end-to-end tests, and a sandbox for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_server import AirflowServer
from dev.s3_server import S3Server

DAGS = Path(__file__).resolve().parent / "dags"


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """A running Airflow with the DAGs of these tests."""
    settings = {"AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10"}
    with AirflowServer(tmp_path_factory.mktemp("airflow"), DAGS, settings) as running:
        yield running


@pytest.fixture
def sandbox(airflow, request):
    """The API, which is the connection ``amazon_business_default`` of that Airflow.

    Its clock is the world's, unless the test asks for a faster one.
    """
    time_scale = getattr(request, "param", 1)
    with Sandbox(time_scale=time_scale, queue_seconds=0, processing_seconds=0) as running:
        airflow.put_connection("amazon_business_default", running.connection)
        yield running


@pytest.fixture
def s3(airflow):
    """A boto3 client of a real S3 server with the bucket ``e2e``, which is the connection ``aws_default``."""
    with S3Server() as server:
        server.make_bucket("e2e")
        airflow.put_connection("aws_default", server.airflow_connection)
        yield server.client()
