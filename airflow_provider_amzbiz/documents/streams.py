"""The streams that a document passes through, and the limits of what comes out of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Protocol

from airflow_provider_amzbiz.documents.errors import DocumentTooLargeError

CHUNK = 256 * 1024
# Deflate itself expands at most 1,032 times, so a higher ratio means several layers of it: a bomb.
MAX_RATIO = 1100
# The ratio is ignored up to so many decoded bytes: a short document in a few layers is harmless.
RATIO_FROM = 64 * 1024**2


class Log(Protocol):
    """Where progress is reported: a logger of the standard library or of structlog."""

    def info(self, message: str, /, *arguments: Any) -> Any:
        """Log what a user would ask about."""

    def warning(self, message: str, /, *arguments: Any) -> Any:
        """Log what a user should check."""


class Readable(Protocol):
    """What a decoder reads from, and what it is itself."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill a part of the buffer; 0 at the end."""


class Prefixed(io.RawIOBase):
    """A stream whose first bytes are read in advance, and returned again by the first reads.

    :ivar head: these bytes, fewer than asked for if the stream is shorter.
    """

    def __init__(self, stream: Readable, size: int) -> None:
        super().__init__()
        self._stream = stream
        self.head = _read_up_to(stream, size)
        self._left = memoryview(self.head)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Return the first bytes, then the rest."""
        if self._left:
            count = min(len(self._left), len(buffer))
            buffer[:count] = self._left[:count]
            self._left = self._left[count:]
            return count
        return self._stream.readinto(buffer) or 0


class Limited(io.RawIOBase):
    """Counts decoded bytes and refuses too many.

    :param raw_bytes: returns how many compressed bytes they came from so far.
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
        check_size(self.count, self._max_bytes, self._raw_bytes)
        return count


def check_size(count: int, max_bytes: int, raw_bytes: Callable[[], int]) -> None:
    """Refuse decoded content that is too large, or that expanded as only a bomb does.

    :param count: decoded bytes of the whole document so far.
    :raises DocumentTooLargeError: there are too many.
    """
    if count > max_bytes:
        raise DocumentTooLargeError(f"The decoded document has more than max_bytes={max_bytes} bytes")
    if count > RATIO_FROM and count > MAX_RATIO * raw_bytes():
        raise DocumentTooLargeError(
            f"{raw_bytes()} bytes grew to {count} or more: more than {MAX_RATIO} times, as only a decompression "
            "bomb does"
        )


def _read_up_to(stream: Readable, size: int) -> bytes:
    head = bytearray()
    buffer = bytearray(size)
    while len(head) < size:
        count = stream.readinto(memoryview(buffer)[: size - len(head)])
        if not count:
            break
        head += buffer[:count]
    return bytes(head)
