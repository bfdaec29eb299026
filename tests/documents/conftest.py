"""A host of documents that misbehaves on demand, a bucket for each test, and one way to copy between them."""

from __future__ import annotations

import uuid

import pytest

from airflow_provider_amzbiz.documents import download
from tests.documents.scripted_server import ScriptedServer
from tests.documents.transferring import transfer


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """Let a download try again at once."""
    monkeypatch.setattr(download, "LONGEST_WAIT", 0.0)


@pytest.fixture
def host():
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def bucket(s3_server):
    return s3_server.make_bucket(f"documents-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def s3(s3_server):
    return s3_server.client(max_pool_connections=20)


@pytest.fixture
def copy(host, s3, bucket):
    """Copy the host's document to the key ``document``, or to ``files/<name>`` for a ZIP's entries."""

    def run(**arguments):
        arguments = {"s3": s3, "bucket": bucket, **arguments}
        return transfer(arguments.pop("fetch_document", host.fetch), **arguments)

    return run


@pytest.fixture
def stored(s3, bucket):
    """All objects of the bucket: key to content."""

    def read():
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    return read


@pytest.fixture
def nothing_left(s3, bucket, stored):
    """Assert that there is no object and no open multipart upload."""

    def check():
        assert stored() == {}
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    return check


@pytest.fixture
def operations(s3):
    """The S3 operations called so far through ``s3``."""
    called = []
    s3.meta.events.register("before-call.s3", lambda model, **_: called.append(model.name))
    return called
