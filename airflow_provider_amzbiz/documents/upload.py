"""Writing one S3 object: whole and checked, or not at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.multipart import write_parts
from airflow_provider_amzbiz.documents.open_uploads import OpenUploads
from airflow_provider_amzbiz.documents.s3_object import ObjectExists, S3Object
from airflow_provider_amzbiz.documents.s3_objects import TakeBack, check_etag
from airflow_provider_amzbiz.documents.unwrap import CHUNK, Readable

# S3 takes 10,000 parts at most. A document starts with small parts, for little memory, unless it is known to be
# so large that they would not do.
PART_SIZE = 7 * 1024**2
_MOST_PARTS = 9000
# How many times a gzip of text may grow, to choose the part size by.
_GROWTH = 20


@dataclass(frozen=True)
class StoredObject:
    """An object as it lies in S3.

    :ivar bytes: size of the decoded content.
    :ivar sha256: hex, or None where it was not asked for.
    :ivar crc32: base64, as S3 keeps it for the whole object.
    :ivar rows: lines of text, None where they were not asked for; not part of the dict.
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


def part_size(raw_length: int | None, max_bytes: int) -> int:
    """Return the size of the upload's parts in bytes.

    :param raw_length: bytes of the compressed document, if known.
    :param max_bytes: above which the decoded one is refused.
    """
    most = max_bytes if raw_length is None else min(max_bytes, raw_length * _GROWTH)
    return max(PART_SIZE, -(-most // _MOST_PARTS))


def store(
    content: Readable,
    there: S3Object,
    *,
    size_of_part: int,
    sha256: bool,
    rows: bool,
    take_back: TakeBack,
    one_of_many: bool,
    uploads: OpenUploads,
    log: Log,
) -> StoredObject:
    """Write an object. What fits one part is sent as one PutObject, everything else as a multipart upload.

    :param take_back: told of an object that was not there before, so that a document's failure takes it back.
    :param one_of_many: whether it is one of the objects of a document, which are written all or none.
    :param uploads: told of open uploads.
    :return: the object; where it is not to be replaced, it may have been there before, the same.
    :raises DocumentStorageError: S3 did not take it; there is no open upload then.
    :raises DocumentExistsError: there is other content under the key, which is not to be replaced.
    """
    digest = Digest(sha256, rows)
    first = [_read_part(content, size_of_part, digest)]
    is_small = len(first[0]) < size_of_part
    is_new = (one_of_many or not there.replace) and not there.exists()
    try:
        if not there.replace and not is_new:
            # A server that speaks S3 may ignore the condition, so nothing is sent that it could write.
            _read_to_end(first.pop(), content, size_of_part, digest)
            raise ObjectExists
        if is_new:
            take_back.sending(there.key, digest)
        if is_small:
            _put(first.pop(), there, digest, take_back)
        else:
            write_parts(first, content, there, digest, size_of_part, take_back, uploads, log)
        if is_new:
            take_back.stored(there.key)
    except ObjectExists as found:
        if not found.ours:
            take_back.refused(there.key)
        there.verify_same_content(digest)
    except DocumentStorageError as error:
        if not error.unanswered:
            take_back.refused(there.key)
        raise
    return StoredObject(there.uri, digest.count, digest.sha256, digest.crc32, there.content_type, digest.rows)


def _put(content: bytearray, there: S3Object, digest: Digest, take_back: TakeBack) -> None:
    digest.update_sha256_and_rows(content)
    checksum = there.checksum(ChecksumCRC32=digest.crc32)
    sent = there.write(
        lambda: there.s3.put_object(
            **there.target,
            # What stands in for S3 in users' tests may take no other kind.
            Body=bytes(content),
            **checksum,
            **there.arguments,
            **there.condition,
        )
    )
    if checksum:
        return
    take_back.unverified(there.key)
    if not check_etag(sent, content, **there.names):
        there.check_size(digest.count)
    take_back.verified(there.key)


def _read_part(content: Readable, size: int, digest: Digest) -> bytearray:
    """Read as much as fits one part, less where the content ends."""
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
    """Read what is not to be sent, for its checksums."""
    while part:
        digest.update_sha256_and_rows(part)
        part = _read_part(content, size, digest) if len(part) == size else bytearray()
