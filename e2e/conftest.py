"""One Airflow for all end-to-end tests, and a sandbox for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox
from dev.airflow_server import AirflowServer

DAGS = Path(__file__).resolve().parent / "dags"


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """A running Airflow with the DAGs of these tests."""
    settings = {"AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10"}
    with AirflowServer(tmp_path_factory.mktemp("airflow"), DAGS, settings) as running:
        yield running


@pytest.fixture
def sandbox(airflow):
    """The API, which is the connection ``amazon_business_default`` of that Airflow."""
    with Sandbox(time_scale=10, queue_seconds=0, processing_seconds=0) as running:
        airflow.put_connection("amazon_business_default", running.connection)
        yield running
