"""What S3 has under a key, compared with what was sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_amzbiz.client.clock import CLOCK_PRECISION
from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.s3_errors import is_missing, require_header, storage_errors
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.streams import CHUNK

_MD5 = re.compile("[0-9a-f]{32}")


def object_exists(s3_object: S3Object) -> bool:
    """Whether there is an object under the key.

    :raises DocumentStorageError: S3 does not say.
    """
    try:
        _head(s3_object)
    except DocumentStorageError as error:
        if not is_missing(error):
            raise
        return False
    return True


def check_etag(response: Mapping[str, Any], content: Any, s3_object: S3Object) -> bytes | None:
    """Check by the ETag that S3 received the bytes that were sent.

    :return: their MD5; None if the ETag is none, as for an object encrypted with a key of one's own, and on a
        server that chooses ETags freely.
    :raises DocumentStorageError: S3 received other bytes.
    """
    etag = str(response.get("ETag", "")).strip('"')
    by_key = response.get("SSECustomerAlgorithm") or str(response.get("ServerSideEncryption", "")).startswith(
        "aws:kms"
    )
    if by_key or not _MD5.fullmatch(etag):
        return None
    md5 = hashlib.md5(content, usedforsecurity=False)
    if etag != md5.hexdigest():
        raise DocumentStorageError(
            f"S3 did not store {s3_object.uri} as it was sent: its ETag is {etag}, but the MD5 of the "
            f"{len(content)} bytes is {md5.hexdigest()}",
            may_have_succeeded=True,
        )
    return md5.digest()


def check_size(s3_object: S3Object, count: int) -> None:
    """Check the size of an object that was written without a checksum.

    :raises DocumentStorageError: it is not the size of what was written.
    """
    response = _head(s3_object)
    require_header(response.get("ETag"), s3_object.target.bucket, s3_object.key)
    if (size := response["ContentLength"]) != count:
        raise DocumentStorageError(f"{s3_object.uri} has {size} bytes, but {count} were written")


def verify_same_content(s3_object: S3Object, digest: Digest) -> None:
    """Accept an existing object if it has the same content.

    :raises DocumentExistsError: it has other content.
    """
    size, crc32 = size_and_crc32(s3_object, digest)
    if (size, crc32) != (digest.count, digest.crc32):
        raise DocumentExistsError(
            f"{s3_object.uri} exists with {size} bytes and CRC32 {crc32}; the document has {digest.count} bytes "
            f"and CRC32 {digest.crc32}, and replace is False"
        )


def size_and_crc32(s3_object: S3Object, digest: Digest) -> tuple[int, str | None]:
    """Return the size and the CRC32 of what S3 has under the key.

    It is downloaded only if its size is the digest's and S3 keeps no checksum of the whole object.
    """
    mode = {"ChecksumMode": "ENABLED"} if s3_object.keeps_checksums else {}
    response = _head(s3_object, **mode)
    require_header(response.get("ETag"), s3_object.target.bucket, s3_object.key)
    size, crc32 = response["ContentLength"], response.get("ChecksumCRC32")
    if size == digest.count and (crc32 is None or response.get("ChecksumType") == "COMPOSITE"):
        # Another tool wrote it, without a checksum of the whole.
        crc32 = _downloaded_crc32(s3_object, size)
    return size, crc32


def is_written_since(s3_object: S3Object) -> bool:
    """Whether another write has replaced or deleted what S3 has confirmed.

    One within a second cannot be told apart: the ETag would not tell one of the same content either.

    :raises DocumentStorageError: S3 does not say.
    """
    try:
        there = _head(s3_object)
    except DocumentStorageError as error:
        if not is_missing(error):
            raise
        return True
    date = s3_object.confirmation.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    # Both are S3's time, in whole seconds, and its servers may differ a little.
    return bool(date) and there["LastModified"] > parsedate_to_datetime(date) + CLOCK_PRECISION


def _downloaded_crc32(s3_object: S3Object, size: int) -> str:
    found = Digest(sha256=False)
    with storage_errors(s3_object.target.bucket, s3_object.key):
        response = s3_object.s3.get_object(**s3_object.location, **s3_object.per_request_args)
        for chunk in response["Body"].iter_chunks(CHUNK):
            found.update_crc32(memoryview(chunk))
    if found.count != size:
        raise DocumentStorageError(f"{s3_object.uri} has {size} bytes, but {found.count} were read")
    return found.crc32


def _head(s3_object: S3Object, **arguments: Any) -> Mapping[str, Any]:
    with storage_errors(s3_object.target.bucket, s3_object.key):
        return s3_object.s3.head_object(**s3_object.location, **s3_object.per_request_args, **arguments)
