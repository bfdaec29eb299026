"""Uploads that an attempt left open are aborted by the next one, and no others."""

from __future__ import annotations

import gzip
import random
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from airflow_provider_amzbiz.exceptions import (
    DocumentError,
)
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.deferring import Store, context
from tests.transfers.transferring import (
    BUCKET,
    create,
    open_uploads,
)


def failing(operator, *operations):
    """Give an operator a client for which S3 refuses some operations."""
    client = operator.s3_client()

    def refuse(model, **_):
        if model.name in operations:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "No."}}, model.name)

    client.meta.events.register("before-call.s3", refuse)
    operator.s3_client = lambda: client
    return operator


@pytest.fixture
def left(sandbox, s3, key):
    """A first attempt that could not abort its upload, and the uploads of others to the same key and another."""
    others = {
        s3.create_multipart_upload(Bucket=BUCKET, Key=each)["UploadId"]: each for each in (key, f"{key}.other")
    }
    report_id = create(sandbox, gzip.compress(random.Random(4).randbytes(9 * 1024**2), 1))

    def make():
        return ReportDocumentToS3Operator(task_id="move", report_id=report_id, s3_bucket=BUCKET, s3_key=key)

    store = Store()
    with pytest.raises(DocumentError, match="AccessDenied"):
        failing(make(), "UploadPart", "AbortMultipartUpload").execute(context(store))
    assert len(open_uploads(s3)) == 3
    yield SimpleNamespace(store=store, make=make, others=others)
    for upload_id, each in open_uploads(s3).items():
        s3.abort_multipart_upload(Bucket=BUCKET, Key=each, UploadId=upload_id)


def test_a_retry_aborts_what_a_previous_attempt_left_open_and_no_more(s3, left):
    left.make().execute(context(left.store, try_number=2))

    assert open_uploads(s3) == left.others
    assert left.store == {}


def test_without_a_record_of_it_no_upload_is_aborted(s3, left):
    """Before Airflow 3.3 nothing shows whose an upload is; another task may be using it."""
    left.make().execute(context(try_number=2))

    assert len(open_uploads(s3)) == 3


def test_a_retry_that_may_not_abort_uploads_continues_and_keeps_the_record(s3, left, caplog, capsys):
    (result,) = failing(left.make(), "AbortMultipartUpload").execute(context(left.store, try_number=2))

    assert result["bytes"] == 9 * 1024**2
    assert "s3:AbortMultipartUpload" in caplog.text + capsys.readouterr().out
    left.make().execute(context(left.store, try_number=3))
    assert open_uploads(s3) == left.others


def test_a_store_that_fails_does_not_fail_the_transfer(s3, left, caplog, capsys):
    class Broken(Store):
        def get(self, key, default=None):
            raise RuntimeError("the API server is away")

        set = delete = get

    (result,) = left.make().execute(context(Broken(), try_number=2))

    assert result["bytes"] == 9 * 1024**2
    assert "the API server is away" in caplog.text + capsys.readouterr().out
