"""Small objects beside the data: read, written on a condition, listed and deleted."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.s3_errors import require_header, storage_errors
from airflow_provider_amzbiz.documents.s3_location import is_bucket, split_s3_uri
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.s3_requests import per_request_args
from airflow_provider_amzbiz.documents.upload_options import UploadOptions
from airflow_provider_amzbiz.documents.upload_target import UploadTarget

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Given = TypeVar("Given")
Result = TypeVar("Result")

# Of ``extra_args``, those that decide who can read an object and who pays; the others, such as a storage class, a
# retention or tags, are meant for the documents.
_ARGUMENTS = (
    "ACL",
    "BucketKeyEnabled",
    "ExpectedBucketOwner",
    "GrantFullControl",
    "GrantRead",
    "GrantReadACP",
    "GrantWriteACP",
    "RequestPayer",
    "SSECustomerAlgorithm",
    "SSECustomerKey",
    "SSECustomerKeyMD5",
    "SSEKMSEncryptionContext",
    "SSEKMSKeyId",
    "ServerSideEncryption",
)
_UNKNOWN = datetime.fromtimestamp(0, timezone.utc)
_MISSING = ("NoSuchKey", "404")
_MISSING_STATUS = 404
_PRECONDITION_FAILED = 412
# Whole reads of an object; botocore does not repeat one whose connection broke within the body.
_READS = 3
# Calls at the same time; boto3's connection pool has ten.
_THREADS = 8


class PreconditionFailed(Exception):  # noqa: N818 - a signal between these modules, no error of a user's
    """The object is not as the condition says, which may be this very write, whose first response was lost."""


@dataclass(frozen=True)
class StoredBytes:
    """A whole object.

    :ivar etag: changes with each write of it.
    """

    body: bytes
    etag: str
    last_modified: datetime


@dataclass(frozen=True)
class Listed:
    """An object as a listing shows it."""

    key: str
    etag: str
    last_modified: datetime


class ObjectStore:
    """A bucket, with the parameters that each request needs.

    :param extra_args: more parameters of S3's; only those of access and encryption apply.
    """

    def __init__(self, s3: S3Client, bucket: str, extra_args: Mapping[str, Any] | None = None) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.arguments = {name: value for name, value in (extra_args or {}).items() if name in _ARGUMENTS}

    def uri(self, key: str) -> str:
        """Return where an object lies."""
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> StoredBytes | None:
        """Return an object, None where there is none.

        :raises DocumentStorageError: S3 did not give it.
        """
        for read in range(1, _READS + 1):
            response = None
            try:
                with storage_errors(self.bucket, key):
                    response = self.s3.get_object(Bucket=self.bucket, Key=key, **per_request_args(self.arguments))
                    body = response["Body"].read()
                    etag = require_header(response.get("ETag"), self.bucket, key)
                if len(body) == response["ContentLength"]:
                    # Stand-ins for S3 may leave it out.
                    return StoredBytes(body, etag, response.get("LastModified", _UNKNOWN))
            except DocumentStorageError as error:
                if error.code in _MISSING:
                    return None
                if response is None or read == _READS:
                    raise
        raise DocumentStorageError(f"{self.uri(key)} was not read to its end, {_READS} times")

    def put(self, key: str, body: bytes, *, content_type: str, **condition: str) -> str:
        """Write an object, and return its ETag.

        :param condition: ``IfNoneMatch="*"`` or ``IfMatch=<ETag>``.
        :raises PreconditionFailed: the condition does not hold.
        :raises DocumentStorageError: S3 did not take it, or did not say so.
        """
        # Imported late, because they load isal.
        from airflow_provider_amzbiz.documents.digest import to_base64
        from airflow_provider_amzbiz.documents.s3_verification import check_etag

        options = UploadOptions(extra_args=self.arguments)
        s3_object = S3Object(UploadTarget(self.s3, self.bucket, options), key, content_type)
        # A bucket with Object Lock requires the name of the algorithm, too.
        checksum = s3_object.checksum(ChecksumAlgorithm="CRC32", ChecksumCRC32=to_base64(zlib.crc32(body)))
        # The condition is passed here, because S3Object has only that of a new object.
        parameters: dict[str, Any] = {**s3_object.location, **s3_object.arguments, **checksum, **condition}
        try:
            response: Any = s3_object.write(lambda: self.s3.put_object(Body=body, **parameters))
        except DocumentStorageError as error:
            changed = error.status == _PRECONDITION_FAILED
            missing = error.status == _MISSING_STATUS and error.code in _MISSING
            if condition and (changed or missing):
                raise PreconditionFailed from error
            raise
        etag = require_header(response.get("ETag"), self.bucket, key)
        if not checksum:
            check_etag(response, body, s3_object)
        return etag

    def pages(self, prefix: str) -> Iterator[list[Listed]]:
        """List the objects under a prefix, in the order of their keys, a call for each page of up to 1,000."""
        more: dict[str, Any] = {}
        arguments = per_request_args(self.arguments, content=False)
        while True:
            with storage_errors(self.bucket, prefix):
                page = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **arguments, **more)
            yield [Listed(each["Key"], each["ETag"], each["LastModified"]) for each in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def folders(self, prefix: str) -> list[str]:
        """List what follows a prefix up to the next slash."""
        found: list[str] = []
        arguments = per_request_args(self.arguments, content=False)
        with storage_errors(self.bucket, prefix):
            pages = self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/", **arguments
            )
            for page in pages:
                found += (each["Prefix"][len(prefix) : -1] for each in page.get("CommonPrefixes", ()))
        return found

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        with storage_errors(self.bucket, key):
            arguments = per_request_args(self.arguments, content=False)
            self.s3.delete_object(Bucket=self.bucket, Key=key, **arguments)


def split_uri(name: str, uri: object) -> tuple[str, str]:
    """Return bucket and key, or prefix, of an S3 URI.

    :param name: of the parameter, for the error.
    :raises InvalidParameterError: it is none.
    """
    found = split_s3_uri(uri) if isinstance(uri, str) else None
    if found is None or not is_bucket(found[0]):
        raise InvalidParameterError(f"{name} is {uri!r}, but must be an S3 URI such as s3://my-bucket/folder/")
    return found


def in_threads(call: Callable[[Given], Result], given: Iterable[Given]) -> list[Result]:
    """Call a function that mostly waits for S3 for each of many values, and return the results in their order.

    :raises Exception: the first error; what has not begun by then is not begun.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="amzbiz-objects") as pool:
        return list(pool.map(call, given))
