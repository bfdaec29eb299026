"""Creating a multipart upload without leaving others open: botocore may send several requests for one call."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.interrupts import despite_interrupts
from airflow_provider_amzbiz.documents.open_uploads import OpenUpload, abort_upload
from airflow_provider_amzbiz.documents.s3_errors import require_header, storage_errors
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.s3_requests import per_request_args

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class UploadCreation:
    """Creates an upload, and aborts those that were created besides it.

    :ivar upload: the upload, as long as it is open.
    """

    def __init__(self, s3_object: S3Object) -> None:
        self._object = s3_object
        self._target = s3_object.target
        self.upload: OpenUpload | None = None
        # Why open uploads could not be listed.
        self._listing_error: DocumentStorageError | None = None

    @property
    def upload_id(self) -> str:
        """Its id, empty if it is not open."""
        return self.upload.upload_id if self.upload else ""

    def create(self) -> str:
        """Create the upload, record that it is open, and return its id.

        :raises DocumentStorageError: S3 did not create it.
        """
        s3_object = self._object
        checksum = s3_object.checksum(ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        before = self._open_upload_ids()
        responses = _CreationResponses(s3_object.s3)
        try:
            with responses:
                created = s3_object.send(
                    lambda: s3_object.s3.create_multipart_upload(
                        **s3_object.location, **checksum, **s3_object.arguments
                    )
                )
        except BaseException:
            despite_interrupts(lambda: self._abort_surplus(responses, before))
            raise
        upload_id = created.get("UploadId")
        if upload_id:
            self.upload = OpenUpload(self._target.bucket, s3_object.key, upload_id)
            self._target.uploads.add(self.upload)
        self._abort_surplus(responses, before)
        return require_header(upload_id, self._target.bucket, s3_object.key)

    def _open_upload_ids(self) -> set[str] | None:
        """Return the ids of all open uploads to the key, also of other tasks; None if S3 does not list them."""
        key = self._object.key
        try:
            with storage_errors(self._target.bucket, key):
                pages = self._object.s3.get_paginator("list_multipart_uploads").paginate(
                    Bucket=self._target.bucket,
                    Prefix=key,
                    **per_request_args(self._target.options.extra_args, content=False),
                )
                found = [each for page in pages for each in page.get("Uploads", [])]
        except DocumentStorageError as error:
            self._listing_error = error
            return None
        return {each["UploadId"] for each in found if each["Key"] == key}

    def _abort_surplus(self, responses: _CreationResponses, before: set[str] | None) -> None:
        """Abort uploads that a retry of botocore's, or a request whose response was lost, created besides ours.

        :param before: ids of the uploads that were open before.
        """
        for upload_id in responses.upload_ids - {self.upload_id}:
            self._abort(upload_id)
        if not responses.lost:
            return
        after = None if before is None else self._open_upload_ids()
        if before is None or after is None:
            reason: object = self._listing_error
        else:
            lost = after - before - responses.upload_ids
            if len(lost) <= responses.lost:
                for upload_id in lost:
                    self._abort(upload_id)
                return
            reason = "another task has created one at the same time"
        self._target.log.warning(
            "An upload to %s may stay open, because S3's response to its creation was lost: %s",
            self._object.uri, reason,
        )  # fmt: skip

    def _abort(self, upload_id: str) -> None:
        abort_or_warn(self._object, OpenUpload(self._target.bucket, self._object.key, upload_id))


def abort_or_warn(s3_object: S3Object, upload: OpenUpload) -> None:
    """Abort an upload and delete its record; log it if S3 does not confirm that."""
    target = s3_object.target
    try:
        abort_upload(target.s3, upload, target.options.extra_args)
    except DocumentStorageError as error:
        # Not raised: it would hide why the upload is aborted, or end another one that can be completed.
        target.log.warning("The upload %s to %s could not be aborted: %s", upload.upload_id, s3_object.uri, error)
    else:
        target.uploads.remove(upload)


class _CreationResponses:
    """Records S3's responses to the requests that create an upload: botocore may send several for one call.

    :ivar upload_ids: of the uploads that were created.
    :ivar lost: how many more may have been created.
    """

    _EVENT = "response-received.s3.CreateMultipartUpload"

    def __init__(self, s3: S3Client) -> None:
        self._events = s3.meta.events
        self._thread = threading.get_ident()
        self.upload_ids: set[str] = set()
        self.lost = 0

    def __enter__(self) -> _CreationResponses:
        self._events.register(self._EVENT, self._received)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._events.unregister(self._EVENT, self._received)
        if kind is not None and not issubclass(kind, Exception):
            # The task is ended while a request may be in progress.
            self.lost += 1

    def _received(self, parsed_response: Any = None, exception: Any = None, **_: Any) -> None:
        from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

        if threading.get_ident() != self._thread:
            # Another transfer uses the same client.
            return
        if exception is not None:
            self.lost += not isinstance(exception, (ConnectTimeoutError, EndpointConnectionError))
        elif upload_id := parsed_response.get("UploadId"):
            self.upload_ids.add(upload_id)
        else:
            # Headers that were cut, or an internal error of S3's; a 503 and any 4xx create nothing.
            status = parsed_response["ResponseMetadata"]["HTTPStatusCode"]
            self.lost += status < 300 or (status >= 500 and status != 503)
