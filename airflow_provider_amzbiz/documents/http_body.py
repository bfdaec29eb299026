"""The body of an HTTP/1.1 response by RFC 9112, so that truncation is always detected.

``http.client`` accepts a chunk of ``-5`` bytes, and a chunk size that was cut by the end of the connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_MAX_LINE = 8192
_MAX_TRAILERS = 100


class BrokenBodyError(Exception):
    """The body ended too early, or is not valid HTTP."""


class Source(Protocol):
    """The connection after the headers."""

    def readinto1(self, buffer: Any, /) -> int:
        """Read with at most one system call; 0 at the end of the connection."""

    def readline(self, size: int, /) -> bytes:
        """Read to the end of a line, at most ``size`` bytes."""


class Body(Protocol):
    """The body of a response."""

    def readinto(self, buffer: Any, /) -> int:
        """Read at least one byte, or return 0 at the end of the body.

        :raises BrokenBodyError: the body is broken.
        :raises OSError: the connection is broken.
        """


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the length that the headers announce; None if there is none, or none that is valid."""
    # A list of one repeated value is that value (RFC 9110, 8.6).
    values = {value.strip() for value in headers.get("Content-Length", "").split(",")}
    value = values.pop()
    return int(value) if not values and _LENGTH.fullmatch(value) else None


def is_chunked(headers: Mapping[str, str]) -> bool:
    """Whether the body is sent in chunks, and in no other transfer coding."""
    return headers.get("Transfer-Encoding", "").strip().lower() == "chunked"


def is_delimited(headers: Mapping[str, str]) -> bool:
    """Whether the end of the body can be distinguished from a cut connection."""
    return is_chunked(headers) or ("Transfer-Encoding" not in headers and content_length(headers) is not None)


def body_of(headers: Mapping[str, str], source: Source) -> Body:
    """Return the body that follows these headers."""
    if is_chunked(headers):
        return _Chunked(source)
    return _Plain(source, content_length(headers) if is_delimited(headers) else None)


class _Plain:
    """As many bytes as were announced, or all until the connection ends."""

    def __init__(self, source: Source, length: int | None) -> None:
        self._source = source
        self._left = length

    def readinto(self, buffer: Any) -> int:
        if self._left is None:
            return self._source.readinto1(buffer)
        if not self._left:
            return 0
        count = self._source.readinto1(memoryview(buffer)[: self._left])
        if not count:
            raise BrokenBodyError(f"ended {self._left} bytes too early")
        self._left -= count
        return count


class _Chunked:
    """Chunks, of which the last one has no bytes (RFC 9112, 7.1)."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0
        self._begun = False
        self._ended = False

    def readinto(self, buffer: Any) -> int:
        if not self._left and not self._ended:
            self._next_chunk()
        if self._ended:
            return 0
        count = self._source.readinto1(memoryview(buffer)[: self._left])
        if not count:
            raise BrokenBodyError("ended within a chunk")
        self._left -= count
        return count

    def _next_chunk(self) -> None:
        if self._begun and self._source.readline(_MAX_LINE) != b"\r\n":
            raise BrokenBodyError("has a chunk that does not end where it says")
        self._begun = True
        size = _CHUNK_SIZE.fullmatch(self._source.readline(_MAX_LINE))
        if size is None:
            raise BrokenBodyError("ended between chunks, or has one without a size")
        self._left = int(size[1], 16)
        if not self._left:
            self._skip_trailers()
            self._ended = True

    def _skip_trailers(self) -> None:
        # The last chunk is complete, so nothing is missing if the connection ends here.
        for _ in range(_MAX_TRAILERS):
            if self._source.readline(_MAX_LINE) in (b"\r\n", b""):
                return
        raise BrokenBodyError("has too many trailers")
