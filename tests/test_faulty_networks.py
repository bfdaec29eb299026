"""Networks that slow down, break and stall, in both directions, to the API, the document host and S3."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import random
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tenacity import wait_none

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.client import auth, transport
from airflow_provider_amzbiz.documents import download
from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentStorageError
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.transfers.upload_record import UploadRecord
from dev.fault_proxy import FaultProxy, Toxic
from tests.conftest import connect
from tests.deferring import Store, context
from tests.documents.transferring import transfer

pytestmark = pytest.mark.slow

LINES = "SANDBOX_ORDER_LINES"
US = "ATVPDKIKX0DER"
BREAKS: tuple[Any, ...] = ("cut", "reset", "stall")
WAYS: tuple[Any, ...] = ("up", "down")
EARLY_BREAKS = [Toxic(way, kind, after=after) for way in WAYS for kind in BREAKS for after in (0, 150, 500)]
# Of each timeout: a busy machine needs some time for a response.
SECONDS = 1.0
SLOW = [
    Toxic("down", "latency", seconds=0.02),
    Toxic("up", "latency", seconds=0.02),
    Toxic("down", "slices", size=100),
    Toxic("up", "slices", size=100),
    Toxic("down", "slow_close", seconds=0.1),
    Toxic("up", "slow_close", seconds=0.1),
]


def named(toxic):
    return f"{toxic.direction}-{toxic.kind}-{toxic.after}"


def slow_copies():
    return [Toxic(**vars(toxic)) for toxic in SLOW]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Shorten timeouts, and retry without pauses."""
    monkeypatch.setattr(transport, "wait_random_exponential", lambda **_: wait_none())
    monkeypatch.setattr(transport, "TIMEOUT", (SECONDS, SECONDS))
    monkeypatch.setattr(auth, "_TIMEOUT", (SECONDS, SECONDS))
    monkeypatch.setattr(download, "TIMEOUT", (SECONDS, SECONDS))
    monkeypatch.setattr(download, "LONGEST_WAIT", 0.0)


class TestApi:
    """To the API: correct values or our errors, and no report is created twice."""

    @pytest.fixture
    def api(self, sandbox, monkeypatch):
        with FaultProxy("127.0.0.1", urlsplit(sandbox.url).port) as proxy:
            through = f"http://127.0.0.1:{proxy.port}"
            connect(monkeypatch, sandbox, token_url=sandbox.token_url.replace(sandbox.url, through))
            connection = json.loads(os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"])
            monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps({**connection, "host": through}))
            yield proxy

    @pytest.mark.parametrize(
        "toxic",
        EARLY_BREAKS,
        ids=named,
    )
    @pytest.mark.parametrize("operation", ["get_report", "get_reports", "get_report_document"])
    def test_a_read_is_repeated(self, sandbox, api, operation, toxic):
        report_id = sandbox.add_report()
        calls = {
            "get_report": lambda hook: hook.get_report(report_id).report_id,
            "get_reports": lambda hook: next(iter(hook.get_reports(report_types=[LINES]))).report_id,
            "get_report_document": lambda hook: (
                hook.get_report_document(sandbox.reports[report_id].document_id).report_document_id
            ),
        }
        expected = sandbox.reports[report_id].document_id if operation == "get_report_document" else report_id
        # It affects both the token request and the call, once each.
        api.add(Toxic(**{**vars(toxic), "connections": 2}))

        assert calls[operation](AmazonBusinessHook(retry_for=30)) == expected

    @pytest.mark.parametrize(
        "toxic",
        EARLY_BREAKS,
        ids=named,
    )
    def test_nothing_is_created_twice(self, sandbox, api, toxic):
        # With the token fetched, it affects the create itself.
        AmazonBusinessHook().client.token()
        api.add(Toxic(**{**vars(toxic), "connections": 1}))

        try:
            report_id = AmazonBusinessHook(retry_for=30).create_report(LINES, [US])
        except AmazonBusinessError as error:
            assert "createReport" in str(error)
            assert len(sandbox.reports) <= 1
        else:
            assert list(sandbox.reports) == [report_id]

    @pytest.mark.parametrize("connections", [1, 3])
    @pytest.mark.parametrize(
        "toxic",
        EARLY_BREAKS,
        ids=named,
    )
    def test_a_task_creates_one_report(self, sandbox, api, monkeypatch, toxic, connections):
        monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
        # With the token fetched, the first affected connection is that of the create.
        AmazonBusinessHook().client.token()
        toxic = Toxic(**{**vars(toxic), "connections": connections})
        api.add(toxic)

        report_id = CreateReportOperator(task_id="create", report_type=LINES).execute(context(Store()))

        assert list(sandbox.reports) == [report_id]
        assert toxic.connections < connections

    @pytest.mark.parametrize("kind", BREAKS)
    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_a_cancel_succeeds(self, sandbox, api, direction, kind):
        sandbox.script(queue_seconds=3600)
        report_id = AmazonBusinessHook().create_report(LINES, [US])
        api.add(Toxic(direction, kind, connections=1))

        assert AmazonBusinessHook(retry_for=30).cancel_report(report_id) is True
        assert sandbox.reports[report_id].cancelled

    @pytest.mark.parametrize("number", range(len(SLOW)), ids=[named(toxic) for toxic in SLOW])
    def test_a_slow_api_is_waited_for(self, sandbox, api, number):
        api.add(slow_copies()[number])
        hook = AmazonBusinessHook()

        report_id = hook.create_report(LINES, [US])

        assert hook.get_report(report_id).report_id == report_id
        assert len(sandbox.reports) == 1

    def test_the_error_names_an_api_that_is_down(self, api):
        api.down()
        with pytest.raises(AmazonBusinessError, match=f"127.0.0.1:{api.port}"):
            AmazonBusinessHook(retry_for=0).get_report("1")


CONTENT = random.Random(7).randbytes(11 * 1024**2)
PACKED = gzip.compress(CONTENT, 1)
SMALL = b"order\tamount\n" * 1000


class Source:
    """Returns a document of the sandbox, as ``getReportDocument`` does."""

    compression_algorithm = "GZIP"

    def __init__(self, sandbox, body):
        sandbox.script(document=body)
        self._hook = AmazonBusinessHook()
        report = self._hook.get_report(self._hook.create_report(LINES, [US]))
        self._document_id = report.report_document_id

    def __call__(self):
        return self._hook.get_report_document(self._document_id)


def move(client, source, **arguments):
    return transfer(source, s3=client, bucket="networks", log=logging.getLogger("tests.networks"), **arguments)


@pytest.fixture(scope="module")
def direct(s3_server):
    s3_server.make_bucket("networks")
    return s3_server.client()


@pytest.fixture
def emptied(direct):
    yield direct
    for upload in open_uploads(direct):
        direct.abort_multipart_upload(Bucket="networks", Key=upload["Key"], UploadId=upload["UploadId"])
    direct.delete_object(Bucket="networks", Key="document")


def open_uploads(client):
    return client.list_multipart_uploads(Bucket="networks").get("Uploads", [])


def assert_whole_or_nothing(client, content, result):
    assert open_uploads(client) == []
    listed = client.list_objects_v2(Bucket="networks").get("Contents", [])
    if result is None:
        assert listed == []
        return
    body = client.get_object(Bucket="networks", Key="document")["Body"].read()
    assert hashlib.sha256(body).hexdigest() == result.sha256 == hashlib.sha256(content).hexdigest()


class TestDocumentHost:
    """To the document host: the download resumes at the byte it reached."""

    @pytest.fixture
    def host(self, sandbox):
        with FaultProxy("127.0.0.1", urlsplit(sandbox.url).port) as proxy:
            sandbox.storage.base_url = f"http://127.0.0.1:{proxy.port}"
            yield proxy

    @pytest.mark.parametrize("direction", ["up", "down"])
    @pytest.mark.parametrize("kind", BREAKS)
    @pytest.mark.parametrize("after", [0, 300, 1_000_000, len(PACKED) - 100])
    def test_a_break(self, sandbox, host, emptied, kind, after, direction):
        source = Source(sandbox, PACKED)
        host.add(Toxic(direction, kind, after=after if direction == "down" else after % 400, connections=2))

        (result,) = move(emptied, source)

        assert_whole_or_nothing(emptied, CONTENT, result)

    @pytest.mark.parametrize("position", ["from the start", "from the middle"])
    def test_a_cut_anywhere_in_a_response_and_its_headers(self, sandbox, host, emptied, position):
        source = Source(sandbox, gzip.compress(SMALL, mtime=0))
        # The last ones are beyond the end of the response.
        for after in range(0, 900, 3):
            if position == "from the middle":
                host.add(Toxic("down", "cut", after=600, connections=1))
            host.add(Toxic("down", "cut", after=after, connections=2))

            (result,) = move(emptied, source)

            host.clear()
            assert_whole_or_nothing(emptied, SMALL, result)

    @pytest.mark.parametrize("kind", BREAKS)
    def test_a_break_that_does_not_end(self, sandbox, host, emptied, kind):
        source = Source(sandbox, PACKED)
        host.add(Toxic("down", kind, after=0))

        with pytest.raises(DocumentError):
            move(emptied, source)

        assert_whole_or_nothing(emptied, CONTENT, None)

    @pytest.mark.parametrize(
        "toxic", [Toxic("down", "bandwidth", bytes_per_second=20 * 1024**2), *SLOW], ids=named
    )
    def test_what_is_slow(self, sandbox, host, emptied, toxic):
        body = gzip.compress(SMALL) if toxic.kind == "slices" else PACKED
        content = SMALL if toxic.kind == "slices" else CONTENT
        source = Source(sandbox, body)
        host.add(Toxic(**{**vars(toxic), "seconds": min(toxic.seconds, 0.005)}))

        (result,) = move(emptied, source)

        assert_whole_or_nothing(emptied, content, result)


class TestStorage:
    """To S3: a complete object, or an error with nothing left behind."""

    @pytest.fixture
    def s3(self, s3_server):
        with FaultProxy("127.0.0.1", urlsplit(s3_server.endpoint_url).port) as proxy:
            yield proxy

    @pytest.fixture
    def client(self, s3, s3_server):
        return s3_server.client(
            # boto3's defaults, but with short timeouts.
            retries={"total_max_attempts": 4, "mode": "legacy"},
            connect_timeout=SECONDS,
            read_timeout=SECONDS,
        )

    @pytest.fixture(autouse=True)
    def _through(self, s3, s3_server, monkeypatch):
        monkeypatch.setattr(s3_server, "endpoint_url", f"http://127.0.0.1:{s3.port}")
        # botocore pauses for seconds before a retry.
        monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))

    @pytest.mark.parametrize("direction", ["up", "down"])
    @pytest.mark.parametrize("kind", BREAKS)
    @pytest.mark.parametrize("after", [0, 300, 5_000, 3_000_000])
    @pytest.mark.parametrize("size", ["one part", "two parts"])
    def test_a_break(self, sandbox, s3, client, emptied, size, kind, after, direction):
        content = SMALL if size == "one part" else CONTENT
        source = Source(sandbox, gzip.compress(content, 1))
        s3.add(Toxic(direction, kind, after=after, connections=2))

        (result,) = move(client, source)

        assert_whole_or_nothing(emptied, content, result)

    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize(
        "operation", ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
    )
    def test_an_executed_request_that_is_repeated(self, sandbox, client, emptied, operation, replace):
        content = SMALL if operation == "PutObject" else CONTENT
        source = Source(sandbox, gzip.compress(content, 1))
        seen = []

        def repeat(attempts, **_):
            seen.append(attempts)
            return 0 if attempts == 1 else None

        # botocore does the same after a lost response.
        client.meta.events.register(f"needs-retry.s3.{operation}", repeat)

        (result,) = move(client, source, replace=replace)

        assert 2 in seen
        assert_whole_or_nothing(emptied, content, result)

    @pytest.mark.parametrize("size", ["one part", "two parts"])
    @pytest.mark.parametrize("kind", ["cut", "reset"])
    def test_a_break_anywhere_in_the_responses(self, sandbox, s3, s3_server, emptied, size, kind):
        content = SMALL if size == "one part" else CONTENT
        source = Source(sandbox, gzip.compress(content, 1))
        whole = 0
        for after in range(0, 600, 7) if size == "one part" else range(0, 2500, 29):
            s3.add(Toxic("down", kind, after=after, connections=1))
            client = s3_server.client(retries={"total_max_attempts": 4, "mode": "legacy"})
            try:
                (result,) = move(client, source)
            except DocumentStorageError as error:
                # botocore accepts truncated headers as complete; a retry of the task succeeds.
                assert not error.permanent
                assert open_uploads(emptied) == []
                s3.clear()
                (result,) = move(client, source)
            else:
                whole += 1
            assert_whole_or_nothing(emptied, content, result)
            s3.clear()
            emptied.delete_object(Bucket="networks", Key="document")
        assert whole > 50

    @pytest.mark.parametrize("direction", ["up", "down"])
    @pytest.mark.parametrize("kind", BREAKS)
    def test_a_break_that_does_not_end(self, sandbox, s3, client, emptied, kind, direction):
        source = Source(sandbox, gzip.compress(SMALL))
        s3.add(Toxic(direction, kind, after=0))

        with pytest.raises(DocumentError, match="The S3 request for"):
            move(client, source)

        s3.clear()
        # S3 may have stored the document although its response was lost; then it is complete.
        listed = emptied.list_objects_v2(Bucket="networks").get("Contents", [])
        assert [each["Size"] for each in listed] in ([], [len(SMALL)])
        assert (direction == "up") <= (listed == [])

    def test_an_upload_that_could_not_be_aborted_is_aborted_by_the_retry(
        self, sandbox, s3, client, emptied, caplog, monkeypatch
    ):
        source, task = Source(sandbox, PACKED), {"task_state_store": Store()}
        create = client.create_multipart_upload

        def create_and_lose_the_network(**arguments):
            created = create(**arguments)
            s3.down()
            return created

        monkeypatch.setattr(client, "create_multipart_upload", create_and_lose_the_network)
        with caplog.at_level(logging.WARNING), pytest.raises(DocumentError, match="The S3 request for"):
            move(client, source, uploads=UploadRecord(task))
        assert "could not be aborted" in caplog.text
        assert len(open_uploads(emptied)) == 1
        monkeypatch.undo()
        s3.up()

        (result,) = move(emptied, source, uploads=UploadRecord(task))

        assert_whole_or_nothing(emptied, CONTENT, result)

    @pytest.mark.parametrize("toxic", SLOW, ids=named)
    def test_what_is_slow(self, sandbox, s3, client, emptied, toxic):
        content = SMALL if toxic.kind == "slices" else CONTENT
        source = Source(sandbox, gzip.compress(content, 1))
        s3.add(Toxic(**{**vars(toxic), "seconds": min(toxic.seconds, 0.002)}))

        (result,) = move(client, source)

        assert_whole_or_nothing(emptied, content, result)
