"""What all transfers share: the end of the task, the wait for a new document, and errors that are ours."""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_amzbiz.documents import to_s3
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    DocumentError,
    DocumentPermanentError,
    InvalidInputError,
)
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.transfers import base
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.airflow_names import AirflowTaskTimeout
from tests.transfers.transferring import (
    BUCKET,
    TEXT,
    assert_nothing_there,
    create,
    interrupted,
    open_uploads,
    stored,
    transfer,
)


def test_a_long_transfer_logs_its_progress(sandbox, s3, key, monkeypatch, caplog, capsys):
    monkeypatch.setattr(to_s3, "_PROGRESS_SECONDS", 0.0)
    caplog.set_level("INFO")
    body = gzip.compress(TEXT)

    transfer(report_id=create(sandbox, body), s3_key=key)

    assert f"Downloaded 0 bytes of {len(body) / 1000:.1f} KB" in caplog.text + capsys.readouterr().out


def test_a_kill_leaves_nothing(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(random.Random(1).randbytes(30_000_000), 1))
    sandbox.inject(Fault(operation="document", kind="stall", bytes=20_000_000, seconds=50))

    def kill():
        raise KeyboardInterrupt

    with interrupted(kill, once=lambda: open_uploads(s3)), pytest.raises(KeyboardInterrupt):
        transfer(report_id=report_id, s3_key=key)
    assert_nothing_there(s3, key)


def test_a_task_that_is_ended_gives_up_at_once_and_leaves_nothing(sandbox, s3, key):
    """Airflow 2 and 3 run on_kill in a signal handler, in the thread that waits for the network."""
    report_id = create(sandbox, gzip.compress(random.Random(1).randbytes(30_000_000), 1))
    sandbox.inject(Fault(operation="document", kind="stall", bytes=20_000_000, seconds=50))
    task = ReportDocumentToS3Operator(task_id="move", s3_bucket=BUCKET, s3_key=key, report_id=report_id)

    with (
        interrupted(task.on_kill, once=lambda: open_uploads(s3)),
        pytest.raises(DocumentError, match="ended during the transfer of a document"),
    ):
        task.execute({})

    assert_nothing_there(s3, key)


class SilentServer:
    """Accepts each connection, reads from it, and never responds."""

    def __init__(self):
        self.begun = []
        self._connections = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        for each in [self._socket, *self._connections]:
            each.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            self.begun.append(connection.recv(4).decode())


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_a_task_that_is_ended_while_s3_is_silent_repeats_no_request(sandbox, monkeypatch, key, mode):
    """botocore's newer retry modes repeat every request that seems to have a broken connection."""
    server = SilentServer()
    settings = {"s3": {"addressing_style": "path"}, "retries": {"mode": mode, "max_attempts": 5}}
    connection = {
        "conn_type": "aws",
        "login": "x",
        "password": "x",
        "extra": {"endpoint_url": server.url, "region_name": "us-east-1", "config_kwargs": settings},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    report_id = create(sandbox, gzip.compress(TEXT))
    task = ReportDocumentToS3Operator(task_id="move", s3_bucket=BUCKET, s3_key=key, report_id=report_id)

    with (
        interrupted(task.on_kill, once=lambda: server.begun),
        pytest.raises(DocumentError, match="ended during the transfer of a document"),
    ):
        task.execute({})
    server.stop()
    assert server.begun == ["PUT "]


def test_a_timeout_of_airflows_is_not_hidden_by_on_kill(sandbox, s3, key):
    """Airflow calls on_kill again after an execution timeout has ended the task."""
    report_id = create(sandbox, gzip.compress(TEXT))
    task = ReportDocumentToS3Operator(task_id="move", s3_bucket=BUCKET, s3_key=key, report_id=report_id)

    sandbox.inject(Fault(operation="document", kind="stall", bytes=100, seconds=50))

    def expire():
        raise AirflowTaskTimeout

    with interrupted(expire, once=lambda: sandbox.count("document")), pytest.raises(AirflowTaskTimeout):
        task.execute({})
    task.on_kill()

    assert_nothing_there(s3, key)
    with pytest.raises(AmazonBusinessError):
        task.execute({})


def test_a_transfer_in_another_thread_than_the_kill_ends_too(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(random.Random(1).randbytes(30_000_000), 1))
    sandbox.inject(Fault(operation="document", kind="slow", bytes_per_second=8_000_000))
    task = ReportDocumentToS3Operator(task_id="move", s3_bucket=BUCKET, s3_key=key, report_id=report_id)

    def kill():
        deadline = time.monotonic() + 30
        while not sandbox.count("document") and time.monotonic() < deadline:
            time.sleep(0.01)
        task.on_kill()

    with ThreadPoolExecutor() as pool:
        pool.submit(kill)
        with pytest.raises(DocumentError, match="stopped"):
            task.execute({})

    assert_nothing_there(s3, key)


def test_without_aws_credentials_it_is_retried(sandbox, s3_server, key, monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)

    # Those of an instance or a pod may be missing for a moment.
    with pytest.raises(DocumentError, match="Unable to locate credentials") as caught:
        transfer(report_id=create(sandbox, gzip.compress(TEXT)), s3_key=key, aws_conn_id=None)
    assert not isinstance(caught.value, DocumentPermanentError)


def test_a_document_id_that_the_api_does_not_know_yet(sandbox, s3, key, monkeypatch):
    monkeypatch.setattr(base, "_DOCUMENT_GRACE", (0.1, 0.1))
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=400, times=2))

    transfer(report_id=report_id, s3_key=key)

    assert stored(s3, key) == TEXT
    with pytest.raises(InvalidInputError, match="Invalid reportDocumentId"):
        transfer(report_document_id="nothing", s3_key=key)


def test_a_document_that_may_not_be_read_is_not_waited_for(sandbox, s3, key):
    report_id = create(sandbox, gzip.compress(TEXT))
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=403, times=None))

    with pytest.raises(AccessDeniedError):
        transfer(report_id=report_id, s3_key=key)
    assert sandbox.count("getReportDocument") == 1


@pytest.mark.parametrize("encoding", ["klingon", "hex", 8])
def test_an_unknown_charset_shows_when_the_dag_is_read(encoding):
    with pytest.raises(InvalidInputError, match="encoding is"):
        ReportDocumentToS3Operator(task_id="move", report_id="1", s3_uri="s3://b/k", encoding=encoding)
