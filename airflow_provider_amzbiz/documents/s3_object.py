"""One object that is to be written to S3: what all of its requests share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.s3_errors import storage_errors
from airflow_provider_amzbiz.documents.s3_requests import adapt_requests, keeps_checksums, per_request_args
from airflow_provider_amzbiz.documents.upload_target import UploadTarget

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Response = TypeVar("Response")

# Seconds before each retry of a write that S3 rejected because another write to the same key was in progress.
CONFLICT_PAUSES = (0.2, 0.5, 1.0, 2.0)
_CONFLICT = 409
_PRECONDITION_FAILED = 412


class ObjectExists(Exception):  # noqa: N818 - a signal between these modules, never an error for a user
    """There is an object under the key, and it is not to be replaced.

    :ivar ours: whether this very write may have created it, if its first response was lost.
    """

    def __init__(self, ours: bool = False) -> None:
        super().__init__()
        self.ours = ours


@dataclass(frozen=True, eq=False)
class S3Object:
    """An object of the upload's target, under its key.

    :ivar confirmation: S3's response to the write that made it appear, empty until then.
    """

    target: UploadTarget
    key: str
    content_type: str
    confirmation: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        adapt_requests(self.s3)

    @property
    def s3(self) -> S3Client:
        return self.target.s3

    @property
    def uri(self) -> str:
        return f"s3://{self.target.bucket}/{self.key}"

    @property
    def location(self) -> dict[str, Any]:
        """The parameters that name it in each request."""
        return {"Bucket": self.target.bucket, "Key": self.key}

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters of the object itself."""
        return {**self.target.options.extra_args, "ContentType": self.content_type}

    @property
    def per_request_args(self) -> dict[str, Any]:
        """The parameters of each request that reads or writes its bytes."""
        return per_request_args(self.target.options.extra_args)

    @property
    def condition(self) -> dict[str, Any]:
        """The parameters of a write that may not replace another object."""
        return {} if self.target.options.replace else {"IfNoneMatch": "*"}

    @property
    def keeps_checksums(self) -> bool:
        return keeps_checksums(self.s3)

    def checksum(self, **parameters: str) -> dict[str, Any]:
        """Return the parameters of a checksum, none for a server that accepts none."""
        return parameters if self.keeps_checksums else {}

    def send(self, request: Callable[[], Response]) -> Response:
        """Send a request that writes no object by itself.

        :raises DocumentStorageError: S3 did not carry it out, or did not confirm it.
        """
        with storage_errors(self.target.bucket, self.key):
            return request()

    def write(self, request: Callable[[], Response]) -> Response:
        """Send the request that makes the object appear; retry while it conflicts with another write to the key.

        :raises ObjectExists: there is one, and it is not to be replaced.
        :raises DocumentStorageError: S3 did not carry it out, or did not confirm it.
        """
        for pause in (*CONFLICT_PAUSES, None):
            try:
                response = self.send(request)
            except DocumentStorageError as error:
                if error.status == _PRECONDITION_FAILED and not self.target.options.replace:
                    raise ObjectExists(error.may_have_succeeded) from error
                if error.status != _CONFLICT or pause is None:
                    raise
            else:
                self.confirmation.update(cast("dict[str, Any]", response))
                return response
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311
        raise AssertionError("the loop ends in a return or an exception")
