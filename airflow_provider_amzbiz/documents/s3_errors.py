"""S3's error responses, and what boto3 raises instead, as errors of ours that name the object and the reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentStorageError
from airflow_provider_amzbiz.documents.foreign_errors import unless_secret, without_secrets

# The IAM actions that an operation needs. Without ListBucket, S3 reports a missing object as forbidden.
_ACTIONS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "HeadObject": "s3:GetObject, and s3:ListBucket where there is no object",
    "GetObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
}
_DENIED = ("403", "AccessDenied", "AllAccessDisabled")
# A HEAD response has no body, so its code is the status.
_MISSING = ("404", "NoSuchKey")
# Python's own errors, which neither boto3 nor what it calls wraps.
_PYTHON_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextlib.contextmanager
def storage_errors(bucket: str, key: str) -> Iterator[None]:
    """Turn whatever a boto3 client raises into a :class:`.DocumentStorageError`."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        ParamValidationError,
        PartialCredentialsError,
    )

    uri = f"s3://{bucket}/{key}"
    try:
        yield
    except DocumentError:
        raise
    except ClientError as error:
        raise _error_of_response(uri, error) from error
    except (PartialCredentialsError, ParamValidationError) as error:
        raise DocumentStorageError(
            f"The S3 request for {uri} was not sent: {without_secrets(str(error))}", permanent=True
        ) from unless_secret(error)
    except BotoCoreError as error:
        raise DocumentStorageError(
            f"The S3 request for {uri} failed: {without_secrets(str(error))}",
            may_have_succeeded=isinstance(error, HTTPClientError),
        ) from unless_secret(error)
    except _PYTHON_ERRORS as error:
        # Such as a ValueError for an endpoint, or whatever a plugin for boto3's credentials raises.
        raise DocumentStorageError(
            f"The S3 request for {uri} failed: {type(error).__name__}: {without_secrets(str(error))}",
            may_have_succeeded=True,
        ) from unless_secret(error)


def require_header(value: str | None, bucket: str, key: str) -> str:
    """Return a header of S3's response, which is missing when the connection broke between two headers.

    :raises DocumentStorageError: it is missing.
    """
    if not value:
        raise DocumentStorageError(f"The S3 response for s3://{bucket}/{key} was cut", may_have_succeeded=True)
    return value


def is_missing(error: DocumentStorageError) -> bool:
    """Whether S3 responded that there is no such object."""
    return error.code in _MISSING


def _error_of_response(uri: str, error: Any) -> DocumentStorageError:
    code = str(error.response.get("Error", {}).get("Code"))
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode")
    action = _ACTIONS.get(error.operation_name)
    needed = f"; {error.operation_name} needs {action}" if code in _DENIED and action else ""
    return DocumentStorageError(
        f"The S3 request for {uri} failed: {code}: {without_secrets(str(error))}{needed}",
        code=code,
        status=status,
        # S3 may have carried out an earlier attempt of botocore's whose response was lost.
        may_have_succeeded=(status or 0) >= 500 or bool(metadata.get("RetryAttempts")),
    )
