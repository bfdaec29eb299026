"""Objects that lie in S3 already, and S3's refusals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.unwrap import CHUNK

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Of the parameters of an object, those that S3 wants again with each request for it or its parts.
REPEATED = (
    "ExpectedBucketOwner",
    "RequestPayer",
    "SSECustomerAlgorithm",
    "SSECustomerKey",
    "SSECustomerKeyMD5",
)
# And of these, those that it takes when uploads are listed and aborted, and objects deleted.
_OF_NO_CONTENT = ("ExpectedBucketOwner", "RequestPayer")


def repeated(arguments: Mapping[str, Any], *, content: bool = True) -> dict[str, Any]:
    """Return the parameters that go with each request.

    :param content: whether the request is about an object's bytes.
    """
    return {name: arguments[name] for name in (REPEATED if content else _OF_NO_CONTENT) if name in arguments}


@contextlib.contextmanager
def storage_errors(Bucket: str, Key: str) -> Iterator[None]:  # noqa: N803
    """Turn boto3's errors into one that names the object and S3's reason."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        ParamValidationError,
        PartialCredentialsError,
    )

    what = f"s3://{Bucket}/{Key}"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        raise DocumentStorageError(f"S3 did not take {what}: {code}: {error}", code=code) from error
    except (PartialCredentialsError, ParamValidationError) as error:
        raise DocumentStorageError(f"S3 was not asked to take {what}: {error}", permanent=True) from error
    except BotoCoreError as error:
        unanswered = isinstance(error, HTTPClientError)
        raise DocumentStorageError(f"S3 did not take {what}: {error}", unanswered=unanswered) from error


def answered(value: str | None, bucket: str, key: str) -> str:
    """Return a part of S3's answer, which a connection that broke between two headers has not brought."""
    if not value:
        raise DocumentStorageError(f"S3 did not take s3://{bucket}/{key}: its answer was cut")
    return value


def check_same(s3: S3Client, bucket: str, key: str, digest: Digest, arguments: Mapping[str, Any]) -> None:
    """Accept an object that is there already, if it has the same content.

    :raises DocumentExistsError: it has other content.
    """
    size, crc32 = size_and_crc32(s3, bucket, key, digest, arguments)
    if (size, crc32) != (digest.count, digest.crc32):
        raise DocumentExistsError(
            f"s3://{bucket}/{key} exists with {size} bytes and CRC32 {crc32}; the document has {digest.count} "
            f"bytes and CRC32 {digest.crc32}, and replace is False"
        )


def size_and_crc32(
    s3: S3Client, bucket: str, key: str, digest: Digest, arguments: Mapping[str, Any]
) -> tuple[int, str | None]:
    """Return what S3 has under the key; it is read only where it may be the same and S3 keeps no such checksum."""
    what = {"Bucket": bucket, "Key": key, **repeated(arguments)}
    with storage_errors(bucket, key):
        there = s3.head_object(**what, ChecksumMode="ENABLED")
        answered(there.get("ETag"), bucket, key)
        size, crc32 = there["ContentLength"], there.get("ChecksumCRC32")
        if size == digest.count and (crc32 is None or there.get("ChecksumType") == "COMPOSITE"):
            # Another tool wrote it, without a checksum of the whole.
            found = Digest(sha256=False)
            for chunk in s3.get_object(**what)["Body"].iter_chunks(CHUNK):
                found.update(memoryview(chunk))
            if found.count != size:
                raise DocumentStorageError(f"s3://{bucket}/{key} has {size} bytes, but {found.count} were read")
            crc32 = found.crc32
    return size, crc32


def exists(s3: S3Client, bucket: str, key: str, arguments: Mapping[str, Any]) -> bool:
    """Tell whether there is an object.

    :raises DocumentStorageError: S3 does not tell.
    """
    try:
        with storage_errors(bucket, key):
            s3.head_object(Bucket=bucket, Key=key, **repeated(arguments))
    except DocumentStorageError as error:
        if error.code != "404":
            raise
        return False
    return True
