"""Uploads that a previous attempt of the task left open."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.open_uploads import (
    NoRecord,
    OpenUpload,
    abort_previous_uploads,
    abort_upload,
)
from airflow_provider_amzbiz.documents.upload_target import UploadTarget
from tests.documents.s3_faults import fail, rejection


class Record(NoRecord):
    """A record of uploads in memory."""

    def __init__(self, *uploads):
        self.uploads = list(uploads)

    def from_previous_attempt(self):
        return tuple(self.uploads)

    def remove(self, upload):
        self.uploads.remove(upload)


@pytest.fixture
def upload(s3, bucket):
    created = s3.create_multipart_upload(Bucket=bucket, Key="document")
    return OpenUpload(bucket, "document", created["UploadId"])


def test_are_aborted_and_removed_from_the_record(s3, bucket, upload, nothing_left):
    record = Record(upload)
    abort_previous_uploads(UploadTarget(s3, bucket, uploads=record))
    assert record.uploads == []
    nothing_left()


def test_that_cannot_be_aborted_stay_in_the_record(s3, bucket, upload, caplog):
    record = Record(upload)
    undo = fail(s3, "AbortMultipartUpload", rejection("AccessDenied", "AbortMultipartUpload"))
    abort_previous_uploads(UploadTarget(s3, bucket, uploads=record))
    undo()
    assert record.uploads == [upload]
    assert f"The upload {upload.upload_id} to s3://{bucket}/document could not be aborted" in caplog.text


def test_one_that_s3_does_not_know_has_ended(s3, bucket):
    abort_upload(s3, OpenUpload(bucket, "document", "00000000-0000-0000-0000-000000000000"), {})


def test_another_error_is_raised(s3, upload):
    fail(s3, "AbortMultipartUpload", rejection("AccessDenied", "AbortMultipartUpload"))
    with pytest.raises(DocumentStorageError, match="AccessDenied"):
        abort_upload(s3, upload, {})
