"""A host of documents that misbehaves on demand, a bucket for each test, and one way to copy between them."""

from __future__ import annotations

import uuid

import pytest
from botocore.exceptions import ConnectionClosedError

from airflow_provider_amzbiz.documents import download
from airflow_provider_amzbiz.documents.errors import DocumentError
from tests.documents.plain_host import PlainHost
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


@pytest.fixture
def lose(s3, monkeypatch):
    """Have S3 carry requests out whose responses then never arrive; botocore repeats each at once."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    send = s3._endpoint.http_session.send

    def start(matches, times=1000):
        left = [times]

        def sent(request):
            response = send(request)
            if left[0] and matches(request):
                left[0] -= 1
                raise ConnectionClosedError(endpoint_url=request.url)
            return response

        monkeypatch.setattr(s3._endpoint.http_session, "send", sent)

    return start


@pytest.fixture(scope="module")
def shared_s3(s3_server):
    """One client for the cases of a module: creating one takes longer than a case."""
    return s3_server.client()


@pytest.fixture(scope="module")
def shared_bucket(s3_server):
    return s3_server.make_bucket(f"documents-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def transferred(shared_s3, shared_bucket):
    """Copy from a raw host; return what was stored, or the error, after which nothing is there."""

    def run(raw, **arguments):
        try:
            transfer(raw.fetch, s3=shared_s3, bucket=shared_bucket, **arguments)
        except DocumentError as error:
            assert shared_s3.list_objects_v2(Bucket=shared_bucket).get("Contents", []) == []
            assert shared_s3.list_multipart_uploads(Bucket=shared_bucket).get("Uploads", []) == []
            return error
        (key,) = [each["Key"] for each in shared_s3.list_objects_v2(Bucket=shared_bucket)["Contents"]]
        content = shared_s3.get_object(Bucket=shared_bucket, Key=key)["Body"].read()
        shared_s3.delete_object(Bucket=shared_bucket, Key=key)
        return content

    return run


@pytest.fixture
def plain_host():
    running = PlainHost()
    yield running
    running.stop()
