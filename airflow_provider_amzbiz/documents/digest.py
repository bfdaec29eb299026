"""Size, checksums and number of lines of what is sent to S3."""

from __future__ import annotations

import base64
import hashlib

from isal import isal_zlib

from airflow_provider_amzbiz.documents.lines import LineCounter


class Digest:
    """Size, checksums and number of lines of what has been read.

    :ivar count: number of bytes.
    """

    def __init__(self, sha256: bool, rows: bool = False) -> None:
        self.count = 0
        self._lines = LineCounter() if rows else None
        self._crc = 0
        self._sha256 = hashlib.sha256() if sha256 else None

    def update_crc32(self, chunk: memoryview) -> None:
        """Count a chunk and add it to the CRC32."""
        self.count += len(chunk)
        self._crc = isal_zlib.crc32(chunk, self._crc)

    def update_sha256_and_rows(self, block: bytearray) -> None:
        """Add a whole block to the SHA-256 and the number of lines.

        The SHA-256 takes as long as everything else, so callers do this in another thread, in order.
        """
        if self._sha256:
            self._sha256.update(block)
        if self._lines:
            self._lines.update(block)

    @property
    def crc32(self) -> str:
        return to_base64(self._crc)

    @property
    def rows(self) -> int | None:
        return self._lines.count if self._lines else None

    @property
    def sha256(self) -> str | None:
        return self._sha256.hexdigest() if self._sha256 else None


def to_base64(crc32: int) -> str:
    """Return a CRC32 in S3's form."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()
