"""The memory that a large upload needs, whatever its size."""

from __future__ import annotations

import io
from queue import SimpleQueue
from typing import Any


class PartBuffer(io.RawIOBase):
    """What smart-open gathers a part in: one block fills while each sender sends one, and all are used again.

    New buffers for every part would leave the heap in holes, at twice the memory and more.

    :param size: of a part, in bytes.
    :param senders: how many parts are sent at once.
    """

    def __init__(self, size: int, senders: int) -> None:
        super().__init__()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._size = size
        self._unmade = senders
        self._block = bytearray(size)
        self._filled = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Do nothing: smart-open rewinds for a client that reads, and ours takes the block."""
        return self._filled

    def tell(self) -> int:
        return self._filled

    def truncate(self, size: int | None = None) -> int:
        self._filled = size or 0
        return self._filled

    def write(self, chunk: Any) -> int:
        end = self._filled + len(chunk)
        self._block[self._filled : end] = chunk
        self._filled = end
        return len(chunk)

    def content(self) -> bytearray:
        """Return the block that was filled, as long as it is filled; no copy."""
        del self._block[self._filled :]
        return self._block

    def next_block(self) -> None:
        """Take a block that nobody sends from; wait for one if need be."""
        if self._unmade:
            self._unmade -= 1
            self._block = bytearray(self._size)
        else:
            self._block = self._free.get()

    def release(self, block: bytearray) -> None:
        """Take a block back that has been sent."""
        self._free.put(block)
