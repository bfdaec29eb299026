import os
import sys
import tempfile
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

DAGS = str(Path(__file__).resolve().parents[1] / "dags")
sys.path.append(DAGS)
# Airflow reads its settings when it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = DAGS
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def airflow_db():
    """Airflow's metadata database: SQLite, in the temporary folder."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def s3(monkeypatch):
    """S3 in this process, as the connection ``aws_default``."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://key:secret@/?region_name=us-east-1")
    with mock_aws():
        client = boto3.client("s3", "us-east-1", aws_access_key_id="key", aws_secret_access_key="secret")
        client.create_bucket(Bucket="my-bucket")
        yield client
