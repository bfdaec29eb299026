"""Writing one S3 object: whole and checked, or not at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.multipart import write_parts
from airflow_provider_amzbiz.documents.rollback import Rollback
from airflow_provider_amzbiz.documents.s3_object import ObjectExists, S3Object
from airflow_provider_amzbiz.documents.s3_verification import (
    check_etag,
    check_size,
    object_exists,
    verify_same_content,
)
from airflow_provider_amzbiz.documents.streams import CHUNK, Readable

# S3 accepts at most 10,000 parts. Parts are small, to save memory, unless the document is so large that it would
# need more of them.
PART_SIZE = 7 * 1024**2
_MAX_PARTS = 9000
# How many times larger a gzip of text may become, and any text in UTF-8, to choose the part size by.
_GROWTH = 20
_GROWTH_OF_UTF8 = 3


@dataclass(frozen=True)
class StoredObject:
    """An object in S3.

    :ivar bytes: size of the decoded content.
    :ivar sha256: hex, or None if it was not computed.
    :ivar crc32: base64, as S3 keeps it for the whole object.
    :ivar rows: lines of text, None if they were not counted; not part of the dict.
    """

    uri: str
    bytes: int
    sha256: str | None
    crc32: str
    content_type: str
    rows: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def part_size(raw_length: int | None, max_bytes: int, *, converted: bool) -> int:
    """Return the size of the upload's parts in bytes.

    :param raw_length: bytes of the compressed document, if known.
    :param max_bytes: limit of the decoded one.
    :param converted: whether it is stored in another charset, which the limit does not count.
    """
    largest = max_bytes if raw_length is None else min(max_bytes, raw_length * _GROWTH)
    if converted:
        largest *= _GROWTH_OF_UTF8
    return max(PART_SIZE, -(-largest // _MAX_PARTS))


def store(
    content: Readable,
    s3_object: S3Object,
    *,
    size_of_part: int,
    count_rows: bool,
    rollback: Rollback,
    one_of_many: bool,
) -> StoredObject:
    """Write an object. Content that fits one part is sent as one PutObject, larger content as a multipart upload.

    :param rollback: deletes the object if the rest of its document fails.
    :param one_of_many: whether the document has more objects, which are written all or none.
    :return: the object; if it is not to be replaced, the same one may have existed before.
    :raises DocumentStorageError: S3 did not store it; no upload is left open.
    :raises DocumentExistsError: there is other content under the key, and it is not to be replaced.
    """
    replace = s3_object.target.options.replace
    digest = Digest(s3_object.target.options.sha256, count_rows)
    first = [_read_part(content, size_of_part, digest)]
    is_small = len(first[0]) < size_of_part
    is_new = (one_of_many or not replace) and not object_exists(s3_object)
    try:
        if not replace and not is_new:
            # A server that only speaks S3 may ignore the condition, so send nothing that it could write.
            _read_to_end(first.pop(), content, size_of_part, digest)
            raise ObjectExists
        if is_new:
            rollback.sending(s3_object, digest)
        if is_small:
            _put(first.pop(), s3_object, digest, rollback)
        else:
            write_parts(first, content, s3_object, digest, size_of_part, rollback)
        if is_new:
            rollback.stored(s3_object)
    except ObjectExists as found:
        if not found.ours:
            rollback.not_written(s3_object)
        verify_same_content(s3_object, digest)
    except DocumentStorageError as error:
        if not error.may_have_succeeded:
            rollback.not_written(s3_object)
        raise
    return StoredObject(
        s3_object.uri, digest.count, digest.sha256, digest.crc32, s3_object.content_type, digest.rows
    )


def _put(content: bytearray, s3_object: S3Object, digest: Digest, rollback: Rollback) -> None:
    digest.update_sha256_and_rows(content)
    # A bucket with Object Lock wants the algorithm, too.
    checksum = s3_object.checksum(ChecksumAlgorithm="CRC32", ChecksumCRC32=digest.crc32)
    response = s3_object.write(
        lambda: s3_object.s3.put_object(
            **s3_object.location,
            # The S3 mocks of users' tests may accept no other type.
            Body=bytes(content),
            **checksum,
            **s3_object.arguments,
            **s3_object.condition,
        )
    )
    if checksum:
        return
    rollback.unverified(s3_object)
    if not check_etag(response, content, s3_object):
        check_size(s3_object, digest.count)
    rollback.verified(s3_object)


def _read_part(content: Readable, size: int, digest: Digest) -> bytearray:
    """Read as much as fits one part, less at the end of the content."""
    part = bytearray()
    buffer = memoryview(bytearray(min(size, CHUNK)))
    while len(part) < size:
        count = content.readinto(buffer[: size - len(part)])
        if not count:
            break
        digest.update_crc32(buffer[:count])
        part += buffer[:count]
    return part


def _read_to_end(part: bytearray, content: Readable, size: int, digest: Digest) -> None:
    """Read what is not sent, for its checksums."""
    while part:
        digest.update_sha256_and_rows(part)
        part = _read_part(content, size, digest) if len(part) == size else bytearray()
