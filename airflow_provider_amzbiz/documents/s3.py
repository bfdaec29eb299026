"""One stream becomes one S3 object, or none."""

from __future__ import annotations

import io
import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import smart_open
from isal import isal_zlib

from airflow_provider_amzbiz.documents.errors import DocumentExistsError, DocumentStorageError
from airflow_provider_amzbiz.documents.parts import Digest, Upload, encode_crc, part_size
from airflow_provider_amzbiz.documents.target import Target

_CHUNK = 256 * 1024
_MIB = 1024 * 1024
# Seconds between two progress lines.
_PROGRESS = 30.0
# S3 says these when an object is there already: because it was before, because another writer is just now
# publishing one, or because our own first request succeeded and only its answer was lost.
_MAY_BE_THERE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"})


@dataclass(frozen=True)
class StoredObject:
    """An object that lies whole in S3.

    :ivar uri: ``s3://bucket/key``.
    :ivar bytes: its size.
    :ivar sha256: hex, or None where nobody asked for it.
    :ivar crc32: of the whole object, as S3 keeps it: the base64 of its four bytes.
    :ivar content_type: the Content-Type it was written with.
    :ivar existed: True where the same content lay there already and was left alone.
    """

    uri: str
    bytes: int
    sha256: str | None
    crc32: str
    content_type: str
    existed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        return {
            "uri": self.uri,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "crc32": self.crc32,
            "content_type": self.content_type,
        }


def store(
    source: io.RawIOBase, target: Target, *, most: int, sha256: bool, log: logging.Logger
) -> StoredObject:
    """Write all of a stream to an object, with a CRC-32 that S3 checks and keeps.

    :param most: bytes that the stream may have; the size of parts follows from it.
    :param sha256: whether to compute a SHA-256 too.
    :raises DocumentExistsError: other content is there, and the target is not to be replaced.
    :raises DocumentStorageError: S3 did not take it; no part of it is left behind.
    """
    started = time.monotonic()
    size_of_part = part_size(most)
    with Upload(target, size_of_part=size_of_part, sha256=sha256, log=log) as upload:
        try:
            _write(source, target, upload, size_of_part, log)
            existed = False
        except DocumentStorageError as error:
            if error.code not in _MAY_BE_THERE or not _is_there(target, upload.digest, error):
                raise
            existed = True
    digest = upload.digest
    seconds = time.monotonic() - started
    log.info(
        "%s %s: %d bytes in %.1f s (%.1f MiB/s)",
        "Found the same content at" if existed else "Stored",
        *(target.uri, digest.size, seconds, digest.size / _MIB / max(seconds, 1e-6)),
    )
    return StoredObject(
        target.uri, digest.size, digest.sha256, digest.crc32, target.content_type or "", existed
    )


def _write(
    source: io.RawIOBase, target: Target, upload: Upload, size_of_part: int, log: logging.Logger
) -> None:
    head = bytearray()
    while len(head) <= size_of_part and (more := source.read(_CHUNK)):
        head += more
    several = len(head) > size_of_part
    parameters: dict[str, Any] = {"client": upload, "multipart_upload": several}
    if several:
        parameters |= {"min_part_size": size_of_part, "writebuffer": upload.buffers}
    # The Upload knows the exact key; in a URI, smart_open would read a meaning into "?versionId=" and "@".
    uri = f"s3://{target.bucket}/{quote(target.key)}"
    writer = smart_open.open(uri, "wb", compression="disable", transport_params=parameters)
    try:
        writer.write(head)
        written = len(head)
        del head
        if several:
            written += _pump(source, writer, target, log)
        upload.seal()
        # Not by a with statement: smart_open aborts nothing where closing itself fails.
        writer.close()
    except BaseException:
        writer.terminate()
        raise
    if upload.digest.size != written:
        raise DocumentStorageError(f"{written} bytes of {target.uri} were written, {upload.digest.size} sent")


def _pump(source: io.RawIOBase, writer: Any, target: Target, log: logging.Logger) -> int:
    buffer = memoryview(bytearray(_CHUNK))
    total, said = 0, time.monotonic()
    while count := source.readinto(buffer) or 0:
        writer.write(buffer[:count])
        total += count
        if time.monotonic() - said > _PROGRESS:
            said = time.monotonic()
            log.info("Storing %s: %d MiB so far", target.uri, total // _MIB)
    return total


def _is_there(target: Target, ours: Digest, refusal: DocumentStorageError) -> bool:
    """Tell whether our content lies at the target.

    :raises DocumentExistsError: other content does, and it is not to be replaced.
    """
    try:
        found = target.call("HeadObject", ChecksumMode="ENABLED")
    except DocumentStorageError as error:
        if error.code == "404":
            return False
        raise
    theirs = found.get("ChecksumCRC32") if found.get("ChecksumType") == "FULL_OBJECT" else None
    if theirs is None and found["ContentLength"] == ours.size:
        theirs = _crc32_of(target)
    if (found["ContentLength"], theirs) == (ours.size, ours.crc32):
        return True
    if target.replace:
        return False
    raise DocumentExistsError(
        f"{target.uri} exists with other content ({found['ContentLength']} bytes, CRC32 {theirs or 'unknown'}) "
        f"than the document's ({ours.size} bytes, CRC32 {ours.crc32}), and replace is False"
    ) from refusal


def _crc32_of(target: Target) -> str:
    """Return the checksum of an object for which S3 keeps none, by reading it."""
    crc = 0
    for chunk in target.call("GetObject")["Body"].iter_chunks(_CHUNK):
        crc = isal_zlib.crc32(chunk, crc)
    return encode_crc(crc)
