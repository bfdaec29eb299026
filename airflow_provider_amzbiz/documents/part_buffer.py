"""The memory of a large upload, which does not depend on the upload's size."""

from __future__ import annotations

import io
from queue import SimpleQueue
from typing import Any


class PartBuffer(io.RawIOBase):
    """The buffer in which smart-open collects a part: one block fills while each sender sends one; all are reused.

    New buffers for every part would fragment the heap, and take more than twice the memory.

    :param size: of a part, in bytes.
    :param senders: number of parts that are sent at once.
    """

    def __init__(self, size: int, senders: int) -> None:
        super().__init__()
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._size = size
        self._not_allocated = senders
        self._block = bytearray(size)
        self._filled = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Do nothing: smart-open rewinds for a client that reads, but ours takes the block."""
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
        """Return the filled part of the block, without a copy."""
        del self._block[self._filled :]
        return self._block

    def next_block(self) -> None:
        """Start a block that no sender uses; wait for one if necessary."""
        if self._not_allocated:
            self._not_allocated -= 1
            self._block = bytearray(self._size)
        else:
            self._block = self._free.get()

    def release(self, block: bytearray) -> None:
        """Make a block available again that has been sent."""
        self._free.put(block)
