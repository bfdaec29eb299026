"""Decompressing gzip by RFC 1952: any header, any number of members, read in pieces of any size."""

from __future__ import annotations

import io
import zlib
from typing import Any, cast

from isal import igzip_lib

from airflow_provider_amzbiz.documents.errors import CorruptDocumentError, TruncatedDocumentError
from airflow_provider_amzbiz.documents.streams import CHUNK, Readable

# The stubs declare it as an instance.
IsalError = cast("type[Exception]", igzip_lib.IsalError)

GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE = 8
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0
# Maximum bytes of a member's header; RFC 1952 does not limit its name and its comment.
_MAX_HEADER = 1024**2
# Maximum zeros after the members, in total: tapes and block devices pad to their block size, a few MiB at most.
MAX_PADDING = 16 * 1024**2
# Compressed bytes that a member gets first. What it does not use is copied, so many small members would copy a
# large piece again and again.
_FIRST_PIECE = 4096


class Gunzipped(io.RawIOBase):
    """The content of a gzip of one or many members; every checksum and length is checked.

    Zeros after the last member are padding; anything else there is damage.

    :raises TruncatedDocumentError: on reading, the gzip ends too early.
    :raises CorruptDocumentError: on reading, a checksum, a length or the format is wrong, or other bytes follow
        the last member.
    """

    def __init__(self, stream: Readable) -> None:
        super().__init__()
        self._source = _Source(stream)
        self._member: Any = None
        self._piece = _FIRST_PIECE
        self._members = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read decoded bytes."""
        while self._member is not None or self._next_member():
            decoded = self._decode(len(buffer))
            if decoded:
                buffer[: len(decoded)] = decoded
                return len(decoded)
        return 0

    def _decode(self, size: int) -> bytes:
        compressed = b""
        if self._member.needs_input:
            compressed = self._source.take(self._piece)
            self._piece = CHUNK
            if not compressed:
                raise TruncatedDocumentError("The document's gzip ends before its end marker")
        try:
            decoded: bytes = self._member.decompress(compressed, size)
        except IsalError as error:
            raise CorruptDocumentError(f"The document's gzip is damaged: {error}") from error
        if self._member.eof:
            self._source.put_back(self._member.unused_data)
            self._member = None
        return decoded

    def _next_member(self) -> bool:
        """Start the next member; return False at the end of the document."""
        if self._members:
            self._source.skip_zeros()
            following = self._source.peek(len(GZIP_MAGIC))
            if not following:
                return False
            if not following.startswith(GZIP_MAGIC[: len(following)]):
                raise CorruptDocumentError("The document's gzip is damaged: other bytes follow its end")
        self._members += 1
        _read_header(self._source)
        self._piece = _FIRST_PIECE
        # Headers are read here: isal loses optional fields of a header that arrives in pieces.
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP_NO_HDR_VER)
        return True


class _Source:
    """Compressed bytes, in pieces of the sizes that are asked for."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._buffer = bytearray(CHUNK)
        self._block = b""
        self._at = 0
        self._zeros = 0

    def take(self, size: int) -> bytes:
        """Return some bytes, at most ``size``; none at the end."""
        if self._at == len(self._block) and not self._fill():
            return b""
        taken = self._block[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def put_back(self, data: bytes) -> None:
        """Return the end of what was taken last, to be taken again."""
        if len(data) <= self._at:
            self._at -= len(data)
        else:
            # A part of it is from the previous block.
            self._block = data + self._block[self._at :]
            self._at = 0

    def peek(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end, without taking them."""
        head = self.take(size)
        while len(head) < size and (more := self.take(size - len(head))):
            head += more
        self.put_back(head)
        return head

    def exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes of a header.

        :raises TruncatedDocumentError: there are fewer.
        """
        taken = b""
        while len(taken) < size:
            piece = self.take(size - len(taken))
            if not piece:
                raise TruncatedDocumentError("The document's gzip ends in a header")
            taken += piece
        return taken

    def skip_zeros(self) -> None:
        """Skip padding.

        :raises CorruptDocumentError: there is more of it than :data:`MAX_PADDING`.
        """
        while self.peek(1) == b"\0":
            left = self._block[self._at :].lstrip(b"\0")
            self._zeros += len(self._block) - self._at - len(left)
            self._at = len(self._block) - len(left)
            if self._zeros > MAX_PADDING:
                raise CorruptDocumentError(
                    f"The document's gzip is damaged: more than {MAX_PADDING} zeros follow its members"
                )

    def _fill(self) -> bool:
        count = self._stream.readinto(self._buffer) or 0
        self._block = bytes(memoryview(self._buffer)[:count])
        self._at = 0
        return count > 0


def _read_header(source: _Source) -> None:
    """Read a member's header with all its optional fields.

    :raises CorruptDocumentError: it is not valid by RFC 1952.
    """
    header = bytearray(source.exactly(10))
    if header[:2] != GZIP_MAGIC or header[2] != _DEFLATE:
        raise CorruptDocumentError(
            f"The document's gzip is damaged: a header begins with {bytes(header[:3]).hex()}, not with 1f8b08"
        )
    flags = header[3]
    if flags & _RESERVED:
        raise CorruptDocumentError(f"The document's gzip is damaged: reserved flags are set (0x{flags:02x})")
    if flags & _FEXTRA:
        header += source.exactly(2)
        header += source.exactly(int.from_bytes(header[-2:], "little"))
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            _read_string(source, header)
    if flags & _FHCRC:
        expected = zlib.crc32(header) & 0xFFFF
        if int.from_bytes(source.exactly(2), "little") != expected:
            raise CorruptDocumentError("The document's gzip is damaged: the checksum of a header is wrong")


def _read_string(source: _Source, header: bytearray) -> None:
    """Append a field that ends with a zero to the header."""
    while len(header) <= _MAX_HEADER:
        piece = source.take(256)
        if not piece:
            raise TruncatedDocumentError("The document's gzip ends in a header")
        field, zero, rest = piece.partition(b"\0")
        header += field + zero
        if zero:
            source.put_back(rest)
            return
    raise CorruptDocumentError(f"The document's gzip is damaged: a header has more than {_MAX_HEADER} bytes")
