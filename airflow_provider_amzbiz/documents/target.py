"""One object in S3: how to address it, and what S3's errors about it mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from airflow_provider_amzbiz.documents.errors import DocumentStorageError, DocumentStorageRefusedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_REFUSALS = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidEncryptionAlgorithmError",
        "InvalidStorageClass",
        "InvalidTag",
        "KeyTooLongError",
        "NoSuchBucket",
        "NotImplemented",
        "SignatureDoesNotMatch",
    }
)
_REFUSED_BEFORE_SENDING = (NoCredentialsError, ParamValidationError, PartialCredentialsError)


@dataclass(frozen=True)
class Target:
    """One object in S3.

    :ivar s3: a boto3 client.
    :ivar extra_args: further parameters of ``PutObject`` and ``CreateMultipartUpload``, such as
        ``ServerSideEncryption``; those that other operations know too go to them as well.
    :ivar replace: whether an object that is there already may be overwritten.
    """

    s3: S3Client
    bucket: str
    key: str
    replace: bool = True
    content_type: str | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    def call(self, operation: str, **parameters: Any) -> Any:
        """Call an operation on this object.

        :param operation: its name in S3's API, such as ``PutObject``.
        :raises DocumentStorageRefusedError: S3 will not do it, however often it is asked.
        :raises DocumentStorageError: S3 did not do it this time, after botocore's own retries.
        """
        extra = dict(self.extra_args)
        if operation in ("PutObject", "CreateMultipartUpload"):
            extra |= {"ContentType": self.content_type} if self.content_type else {}
        else:
            shape = self.s3.meta.service_model.operation_model(operation).input_shape
            known = shape.members if shape else {}
            extra = {name: value for name, value in extra.items() if name in known}
        method = getattr(self.s3, re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower())
        with _translated(operation, self.uri):
            return method(**{**extra, "Bucket": self.bucket, "Key": self.key, **parameters})


@contextmanager
def _translated(operation: str, uri: str) -> Iterator[None]:
    # smart_open takes any ClientError of a put or of the start of an upload for a missing bucket, so it must
    # not meet one.
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", "")) or "an unknown error"
        kind = DocumentStorageRefusedError if code in _REFUSALS else DocumentStorageError
        raise kind(
            f"S3 answered {operation} of {uri} with {code}: {said.get('Message')}", code=code
        ) from error
    except _REFUSED_BEFORE_SENDING as error:
        raise DocumentStorageRefusedError(f"{operation} of {uri} cannot be sent: {error}") from error
    except BotoCoreError as error:
        raise DocumentStorageError(f"{operation} of {uri} failed: {error}") from error
