"""Undoing gzip and ZIP, by what the bytes are."""

from __future__ import annotations

import io
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol, cast

from isal import igzip_lib

from airflow_provider_amzbiz.documents.download import Log
from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
    TruncatedDocumentError,
    UnsupportedDocumentError,
)

# The stubs take it for an instance.
_IsalError = cast("type[Exception]", igzip_lib.IsalError)

CHUNK = 256 * 1024
GZIP_MAGIC = b"\x1f\x8b"
# The first of an archive, and of an archive without entries.
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
# Deflate itself cannot grow more than 1,032 times, so what does is several layers of it: a bomb.
_RATIO = 1100
_RATIO_FROM = 64 * 1024**2
# Bytes of an archive's list of files: some ten thousands of them.
_MOST_DIRECTORY = 4 * 1024**2
# Bytes of its end record, of that with the longest comment, and of what large archives have before it.
_END = 22
_END_AND_COMMENT = _END + 65535 + 76
_LARGE_END = 76
# Bytes of an archive that are kept in memory; a larger one goes to a temporary file.
_SPOOL = 8 * 1024**2


class Readable(Protocol):
    """What a decoder reads from and what it is."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill a part of the buffer; 0 at the end."""


class Prefixed(io.RawIOBase):
    """A stream whose first bytes have been read already, and are put back before it."""

    def __init__(self, stream: Readable, size: int) -> None:
        super().__init__()
        self._stream = stream
        self.head = _read_up_to(stream, size)
        self._left = memoryview(self.head)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give the first bytes, then the rest."""
        if self._left:
            count = min(len(self._left), len(buffer))
            buffer[:count] = self._left[:count]
            self._left = self._left[count:]
            return count
        return self._stream.readinto(buffer) or 0


class Gunzipped(io.RawIOBase):
    """The content of a gzip of one or many members; every checksum and length is checked.

    Zeros after the last member are padding; anything else there is damage.

    :raises TruncatedDocumentError: on reading, the gzip ends too early.
    :raises CorruptDocumentError: on reading, a checksum, a length or the format is wrong, or other bytes follow
        the last member.
    """

    def __init__(self, stream: Readable) -> None:
        super().__init__()
        self._stream = stream
        self._buffer = bytearray(CHUNK)
        self._input = b""
        self._member: Any = None
        self._members = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read decoded bytes."""
        while self._member is not None or self._next_member():
            if self._member.needs_input and not self._input and not self._fill():
                raise TruncatedDocumentError("The document's gzip ends before its end marker")
            given, self._input = self._input, b""
            try:
                decoded = self._member.decompress(given, len(buffer))
            except _IsalError as error:
                raise CorruptDocumentError(f"The document's gzip is damaged: {error}") from error
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = None
            if decoded:
                buffer[: len(decoded)] = decoded
                return len(decoded)
        return 0

    def _next_member(self) -> bool:
        """Begin the next member; False at the end of the document."""
        if self._members:
            self._input = self._input.lstrip(b"\0")
            while not self._input and self._fill():
                self._input = self._input.lstrip(b"\0")
            if not self._input:
                return False
            if not self._input.startswith(GZIP_MAGIC[: len(self._input)]):
                raise CorruptDocumentError("The document's gzip is damaged: other bytes follow its end")
        self._members += 1
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return True

    def _fill(self) -> bool:
        count = self._stream.readinto(self._buffer) or 0
        self._input = bytes(memoryview(self._buffer)[:count])
        return count > 0


class Limited(io.RawIOBase):
    """Counts decoded bytes and refuses too many.

    :param raw_bytes: says how many bytes they were made from so far.
    :raises DocumentTooLargeError: on reading.
    """

    def __init__(self, stream: Readable, max_bytes: int, raw_bytes: Callable[[], int]) -> None:
        super().__init__()
        self._stream = stream
        self._max_bytes = max_bytes
        self._raw_bytes = raw_bytes
        self.count = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read and count."""
        count = self._stream.readinto(buffer) or 0
        self.count += count
        if self.count > self._max_bytes:
            raise DocumentTooLargeError(f"The decoded document has more than max_bytes={self._max_bytes} bytes")
        if self.count > _RATIO_FROM and self.count > _RATIO * self._raw_bytes():
            raise DocumentTooLargeError(
                f"{self._raw_bytes()} bytes grew to more than {self.count}: more than {_RATIO} times, as only a "
                "decompression bomb does"
            )
        return count


def gunzip(stream: Readable, announced: str | None, log: Log) -> Readable:
    """Undo gzip where there is one; say so where that is not what was announced.

    :param announced: the API's ``compressionAlgorithm``.
    :raises TruncatedDocumentError: a gzip was announced, and not a single byte came.
    """
    prefixed = Prefixed(stream, len(GZIP_MAGIC))
    if prefixed.head == GZIP_MAGIC:
        if announced is None:
            log.info("The document is compressed with gzip, though the API did not say so")
        return Gunzipped(prefixed)
    if announced and GZIP_MAGIC.startswith(prefixed.head):
        count = len(prefixed.head)
        raise TruncatedDocumentError(f"The document was announced as {announced}, but has {count} bytes")
    if announced:
        log.warning("The document was announced as %s, but is not: keeping its bytes as they are", announced)
    return prefixed


def spooled(stream: Readable) -> IO[bytes]:
    """Copy an archive to where it can be read in any order.

    :raises DocumentError: there is no space for it.
    """
    file = tempfile.SpooledTemporaryFile(_SPOOL)  # noqa: SIM115
    buffer = bytearray(CHUNK)
    while count := stream.readinto(buffer):
        try:
            file.write(memoryview(buffer)[:count])
        except OSError as error:
            raise DocumentError(f"The archive does not fit {tempfile.gettempdir()}: {error}") from error
    file.seek(0)
    return file


class Archive:
    """The files of a ZIP, checked before the first of them is given out.

    :param max_bytes: decoded bytes of all files together.
    :raises CorruptDocumentError: the ZIP is damaged.
    :raises UnsupportedDocumentError: it has no files, or some that are encrypted or of an unknown compression.
    :raises DocumentTooLargeError: its files are too large.
    """

    def __init__(self, file: IO[bytes], max_bytes: int, raw_bytes: int) -> None:
        try:
            # zipfile keeps all of it in memory, some hundred bytes for each file.
            if (size := _directory_size(file)) > _MOST_DIRECTORY:
                raise DocumentTooLargeError(f"The document is a ZIP whose list of files has {size} bytes")
            self._zip = zipfile.ZipFile(file)
            self._entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
            if not self._entries:
                raise UnsupportedDocumentError("The document is a ZIP without any file in it")
            self._check(max_bytes, raw_bytes)
        except (NotImplementedError, RuntimeError) as error:
            # What zipfile raises for an unknown compression, and for an entry that needs a password.
            raise UnsupportedDocumentError(f"The document's ZIP cannot be opened: {error}") from error
        except (
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            EOFError,
            OSError,
            OverflowError,
            ValueError,
        ) as error:
            raise CorruptDocumentError(f"The document's ZIP is damaged: {error}") from error

    def files(self) -> Iterator[tuple[str, Readable]]:
        """Yield each file's safe name and content."""
        for entry in self._entries:
            with self._zip.open(entry) as content:
                yield safe_name(entry.filename), cast("Readable", content)

    @property
    def names(self) -> list[str]:
        """The files' safe names."""
        return [safe_name(entry.filename) for entry in self._entries]

    def _check(self, max_bytes: int, raw_bytes: int) -> None:
        left = max_bytes
        buffer = bytearray(CHUNK)
        for entry in self._entries:
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile inflates the others without any bound on memory.
                raise NotImplementedError(f"{safe_name(entry.filename)} is compressed by another way than deflate")
            with self._zip.open(entry) as content:
                limited = Limited(cast("Readable", content), left, lambda: raw_bytes)
                while limited.readinto(buffer):
                    pass
            left -= limited.count


def _directory_size(file: IO[bytes]) -> int:
    """Return the size of a ZIP's list of files, as its end record tells it; 0 where there is none."""
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - _END_AND_COMMENT))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + _END:
        return 0
    # What large archives have before it, where zipfile looks for it.
    large = tail[max(0, at - _LARGE_END) : at]
    if len(large) == _LARGE_END and large.startswith(b"PK\6\6"):
        return int.from_bytes(large[40:48], "little")
    return int.from_bytes(tail[at + 12 : at + 16], "little")


def safe_name(name: str) -> str:
    """Return an archive entry's name as a part of a key: relative, without ``..``, drives and control signs."""
    flat = re.sub(r"[\x00-\x1f\x7f]", "", name.replace("\\", "/"))
    flat = re.sub(r"^[A-Za-z]:", "", flat)
    parts = [part for part in flat.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "unnamed"


def _read_up_to(stream: Readable, size: int) -> bytes:
    head = bytearray()
    buffer = bytearray(size)
    while len(head) < size:
        count = stream.readinto(memoryview(buffer)[: size - len(head)])
        if not count:
            break
        head += buffer[:count]
    return bytes(head)
