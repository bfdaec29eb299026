"""Objects that are in S3 already, S3's error responses, and what a failed transfer takes back."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import DocumentError, DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.foreign_errors import unless_secret, without_secrets
from airflow_provider_amzbiz.documents.interrupts import despite_interrupts
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
# What a policy must allow for an operation. Without ListBucket, S3 says of a missing object that it is forbidden.
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
_MD5 = re.compile("[0-9a-f]{32}")
# Python's own errors, which boto3 and what it calls do not turn into theirs.
_OF_PYTHON = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def per_request_args(arguments: Mapping[str, Any], *, content: bool = True) -> dict[str, Any]:
    """Return the parameters that go with each request.

    :param content: whether the request is about an object's bytes.
    """
    return {name: arguments[name] for name in (REPEATED if content else _OF_NO_CONTENT) if name in arguments}


def keeps_checksums(s3: S3Client) -> bool:
    """Tell whether requests may have checksum headers: not where botocore is told ``when_required``."""
    return getattr(s3.meta.config, "request_checksum_calculation", None) != "when_required"


@contextlib.contextmanager
def storage_errors(Bucket: str, Key: str) -> Iterator[None]:  # noqa: N803
    """Turn whatever a boto3 client raises into an error that names the object and the reason."""
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
    except DocumentError:
        raise
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        response = error.response.get("ResponseMetadata", {})
        status = response.get("HTTPStatusCode")
        raise DocumentStorageError(
            f"S3 did not take {what}: {code}: {without_secrets(str(error))}{_missing_action(code, error)}",
            code=code,
            status=status,
            # An earlier request of botocore's may have been carried out, and its response lost.
            unanswered=(status or 0) >= 500 or bool(response.get("RetryAttempts")),
        ) from error
    except (PartialCredentialsError, ParamValidationError) as error:
        raise DocumentStorageError(
            f"S3 was not asked to take {what}: {without_secrets(str(error))}", permanent=True
        ) from unless_secret(error)
    except BotoCoreError as error:
        raise DocumentStorageError(
            f"S3 did not take {what}: {without_secrets(str(error))}", unanswered=isinstance(error, HTTPClientError)
        ) from unless_secret(error)
    except _OF_PYTHON as error:
        # Such as a ValueError of an endpoint, or what a plugin of boto3's credentials raises.
        raise DocumentStorageError(
            f"S3 did not take {what}: {type(error).__name__}: {without_secrets(str(error))}", unanswered=True
        ) from unless_secret(error)


def _missing_action(code: str, error: Any) -> str:
    action = _ACTIONS.get(error.operation_name)
    return f"; {error.operation_name} needs {action}" if code in _DENIED and action else ""


def require_header(value: str | None, bucket: str, key: str) -> str:
    """Return a part of S3's answer, which a connection that broke between two headers has not brought."""
    if not value:
        raise DocumentStorageError(f"S3 did not take s3://{bucket}/{key}: its answer was cut", unanswered=True)
    return value


def check_etag(sent: Mapping[str, Any], content: Any, bucket: str, key: str) -> bytes | None:
    """Check that S3 has received the bytes that were sent, where its ETag tells; return their MD5, None where not.

    It does not for an object that is encrypted by a key of one's own, nor on a server that chooses ETags freely.

    :raises DocumentStorageError: S3 has received other bytes.
    """
    etag = str(sent.get("ETag", "")).strip('"')
    by_key = sent.get("SSECustomerAlgorithm") or str(sent.get("ServerSideEncryption", "")).startswith("aws:kms")
    if by_key or not _MD5.fullmatch(etag):
        return None
    md5 = hashlib.md5(content, usedforsecurity=False)
    if etag != md5.hexdigest():
        raise DocumentStorageError(
            f"S3 did not take s3://{bucket}/{key} as it was sent: its ETag is {etag}, but the MD5 of the "
            f"{len(content)} bytes is {md5.hexdigest()}",
            unanswered=True,
        )
    return md5.digest()


def check_size(s3: S3Client, bucket: str, key: str, count: int, arguments: Mapping[str, Any]) -> None:
    """Check the size of an object that was written without a checksum.

    :raises DocumentStorageError: it is not that of what was written.
    """
    with storage_errors(bucket, key):
        there = s3.head_object(Bucket=bucket, Key=key, **per_request_args(arguments))
    require_header(there.get("ETag"), bucket, key)
    if (size := there["ContentLength"]) != count:
        raise DocumentStorageError(f"s3://{bucket}/{key} has {size} bytes, but {count} were written")


def verify_same_content(s3: S3Client, bucket: str, key: str, digest: Digest, arguments: Mapping[str, Any]) -> None:
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
    what: dict[str, Any] = {"Bucket": bucket, "Key": key, **per_request_args(arguments)}
    with storage_errors(bucket, key):
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if keeps_checksums(s3) else {}
        there = s3.head_object(**what, **mode)
        require_header(there.get("ETag"), bucket, key)
        size, crc32 = there["ContentLength"], there.get("ChecksumCRC32")
        if size == digest.count and (crc32 is None or there.get("ChecksumType") == "COMPOSITE"):
            # Another tool wrote it, without a checksum of the whole.
            found = Digest(sha256=False)
            for chunk in s3.get_object(**what)["Body"].iter_chunks(CHUNK):
                found.update_crc32(memoryview(chunk))
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
            s3.head_object(Bucket=bucket, Key=key, **per_request_args(arguments))
    except DocumentStorageError as error:
        if error.code not in ("404", "NoSuchKey"):
            raise
        return False
    return True


class TakeBack:
    """Deletes what a transfer has written, if that fails: all objects of a document, or none.

    Only keys belong here under which there was no object before: what was there is not the transfer's to delete.

    :param arguments: of the objects.
    """

    def __init__(self, s3: S3Client, bucket: str, arguments: Mapping[str, Any], log: Log) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._arguments = arguments
        self._log = log
        self._stored: list[str] = []
        # Of these, S3's response may be lost.
        self._sent: dict[str, Digest] = {}

    def sending(self, key: str, digest: Digest) -> None:
        """Take note that a request goes out which may write an object."""
        self._sent[key] = digest

    def stored(self, key: str) -> None:
        """Take note that S3 has written the object."""
        self._stored.append(key)
        self._sent.pop(key, None)

    def unverified(self, key: str) -> None:
        """Take note that there is an object which may not be what was sent: it goes, whatever was there before."""
        self._stored.append(key)

    def verified(self, key: str) -> None:
        """Take note that it is what was sent."""
        self._stored.remove(key)

    def refused(self, key: str) -> None:
        """Take note that S3 has not written it."""
        self._sent.pop(key, None)

    def __enter__(self) -> TakeBack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            despite_interrupts(self._run)

    def _run(self) -> None:
        while self._stored:
            self._delete(self._stored[-1])
            self._stored.pop()
        while self._sent:
            key, digest = next(iter(self._sent.items()))
            if self._is_ours(key, digest):
                self._delete(key)
            del self._sent[key]

    def _is_ours(self, key: str, digest: Digest) -> bool:
        """Tell whether a request without a response has written the object; another task may have, since."""
        try:
            there = size_and_crc32(self._s3, self._bucket, key, digest, self._arguments)
        except DocumentStorageError as error:
            if error.code not in ("404", "NoSuchKey"):
                self._log.warning("Whether s3://%s/%s was written is not known: %s", self._bucket, key, error)
            return False
        return there == (digest.count, digest.crc32)

    def _delete(self, key: str) -> None:
        try:
            with storage_errors(self._bucket, key):
                more = per_request_args(self._arguments, content=False)
                self._s3.delete_object(Bucket=self._bucket, Key=key, **more)
        except DocumentStorageError as error:
            # Not raised: it would hide why the object is taken back.
            self._log.warning(
                "s3://%s/%s stays, although the rest of its document is missing: %s", self._bucket, key, error
            )
