"""One object that is to be written to S3: what all of its requests share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.s3_objects import (
    check_size,
    exists,
    keeps_checksums,
    per_request_args,
    storage_errors,
    verify_same_content,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Response = TypeVar("Response")

# Seconds before each repetition of a request that S3 refused because another one to the same key was in progress.
CONFLICT_PAUSES = (0.2, 0.5, 1.0, 2.0)
_CONFLICT = 409
_PRECONDITION_FAILED = 412
# Bytes that go out with the headers, although S3 may refuse them: so many fit the buffers of a connection.
_AT_ONCE = 64 * 1024
_CHECKSUM_HEADER = "x-amz-checksum-crc32"


class ObjectExists(Exception):  # noqa: N818 - a signal between these modules, no error of a user's
    """There is an object under the key, and it is not to be replaced.

    :ivar ours: whether it may be this very write, whose first response was lost.
    """

    def __init__(self, ours: bool = False) -> None:
        super().__init__()
        self.ours = ours


@dataclass(frozen=True)
class S3Object:
    """Where an object goes, and how.

    :ivar extra_args: more parameters of S3's.
    :ivar replace: whether an object that is there is overwritten.
    """

    s3: S3Client
    bucket: str
    key: str
    content_type: str
    extra_args: Mapping[str, Any]
    replace: bool

    def __post_init__(self) -> None:
        # After botocore's own handler of this event, which sets what this one takes away.
        self.s3.meta.events.register_last("before-call.s3", _adapt_request, unique_id=__name__)

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def names(self) -> dict[str, str]:
        return {"bucket": self.bucket, "key": self.key}

    @property
    def target(self) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.key}

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters of the object itself."""
        return {**self.extra_args, "ContentType": self.content_type}

    @property
    def per_request_args(self) -> dict[str, Any]:
        """The parameters of each request for its bytes."""
        return per_request_args(self.extra_args)

    @property
    def args_without_content(self) -> dict[str, Any]:
        """The parameters of each request that is not about its bytes."""
        return per_request_args(self.extra_args, content=False)

    @property
    def condition(self) -> dict[str, Any]:
        return {} if self.replace else {"IfNoneMatch": "*"}

    @property
    def keeps_checksums(self) -> bool:
        return keeps_checksums(self.s3)

    def checksum(self, **parameters: str) -> dict[str, Any]:
        """Return the parameters of a checksum, none for a server that takes none."""
        return parameters if self.keeps_checksums else {}

    def exists(self) -> bool:
        """Tell whether there is an object under the key."""
        return exists(self.s3, self.bucket, self.key, self.extra_args)

    def verify_same_content(self, digest: Digest) -> None:
        """Accept the object that is there, if it has this content."""
        verify_same_content(self.s3, self.bucket, self.key, digest, self.extra_args)

    def check_size(self, count: int) -> None:
        """Check what was written without a checksum."""
        check_size(self.s3, self.bucket, self.key, count, self.extra_args)

    def send(self, request: Callable[[], Response]) -> Response:
        """Send a request that writes no object by itself.

        :raises DocumentStorageError: S3 did not carry it out, or did not say so.
        """
        with storage_errors(**self.target):
            return request()

    def write(self, request: Callable[[], Response]) -> Response:
        """Send the request that makes the object appear, again where another one to the key was in its way.

        :raises ObjectExists: there is one, and it is not to be replaced.
        :raises DocumentStorageError: S3 did not carry it out, or did not say so.
        """
        for pause in (*CONFLICT_PAUSES, None):
            try:
                return self.send(request)
            except DocumentStorageError as error:
                if error.status == _PRECONDITION_FAILED and not self.replace:
                    raise ObjectExists(error.unanswered) from error
                if error.status != _CONFLICT or pause is None:
                    raise
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311
        raise AssertionError("the loop ends in a return or an exception")


def _adapt_request(params: dict[str, Any], **_: Any) -> None:
    """Have botocore send a small body at once, and take a checksum that is given for one of its own making.

    It signs the SHA-256 of the body otherwise, by TLS too, which costs more than all the rest of sending it. And
    it waits to be told to go on with the body, for ever and busily if the connection breaks as it is being told.
    For a large one it has to: S3 may refuse the request, or send it to another region, and hang up meanwhile.
    """
    from botocore.utils import determine_content_length

    if (determine_content_length(params.get("body")) or 0) <= _AT_ONCE:
        params["headers"].pop("Expect", None)
    if _CHECKSUM_HEADER in params["headers"]:
        algorithm = {"algorithm": "crc32", "in": "header", "name": _CHECKSUM_HEADER}
        params["context"].setdefault("checksum", {})["request_algorithm"] = algorithm
