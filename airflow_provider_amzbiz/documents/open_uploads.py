"""Multipart uploads that are neither completed nor aborted, and the record of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.s3_errors import storage_errors
from airflow_provider_amzbiz.documents.s3_requests import per_request_args

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from airflow_provider_amzbiz.documents.upload_target import UploadTarget


class OpenUpload(NamedTuple):
    """A multipart upload that is neither completed nor aborted."""

    bucket: str
    key: str
    upload_id: str


class OpenUploads(Protocol):
    """Records a task's open uploads, for the attempt that follows one that was killed."""

    def from_previous_attempt(self) -> Collection[OpenUpload]:
        """Return those that a previous attempt left open; none on the second call."""

    def add(self, upload: OpenUpload) -> None:
        """Record one."""

    def remove(self, upload: OpenUpload) -> None:
        """Delete its record."""


class NoRecord:
    """Records nothing."""

    def from_previous_attempt(self) -> Collection[OpenUpload]:
        """Return none."""
        return ()

    def add(self, upload: OpenUpload) -> None:
        """Do nothing."""

    def remove(self, upload: OpenUpload) -> None:
        """Do nothing."""


def abort_upload(s3: S3Client, upload: OpenUpload, extra_args: Mapping[str, Any]) -> None:
    """Abort an upload; one that S3 does not know has ended.

    :raises DocumentStorageError: S3 did not confirm it.
    """
    try:
        with storage_errors(upload.bucket, upload.key):
            s3.abort_multipart_upload(
                Bucket=upload.bucket,
                Key=upload.key,
                UploadId=upload.upload_id,
                **per_request_args(extra_args, content=False),
            )
    except DocumentStorageError as error:
        if error.code != "NoSuchUpload":
            raise


def abort_previous_uploads(target: UploadTarget) -> None:
    """Abort what a previous attempt of the task left open; log what cannot be aborted."""
    for upload in target.uploads.from_previous_attempt():
        uri = f"s3://{upload.bucket}/{upload.key}"
        try:
            abort_upload(target.s3, upload, target.options.extra_args)
        except DocumentStorageError as error:
            target.log.warning("The upload %s to %s could not be aborted: %s", upload.upload_id, uri, error)
        else:
            target.log.info("Aborted the upload to %s that a previous attempt left open", uri)
            target.uploads.remove(upload)
