"""The records of a ZIP that are damaged or too large."""

from __future__ import annotations

import errno
import gzip
import random
import struct
import tempfile
import zipfile

import pytest

from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
)
from tests.documents.samples import zipped

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20


MIB = 1024 * 1024


class TestDamagedLists:
    """ZIPs whose list of files leads zipfile astray."""

    def begins_later(self, archive):
        """Have the list declare a start 50 bytes later, so that files begin before the archive."""
        end = archive.rfind(b"PK\5\6")
        begins = int.from_bytes(archive[end + 16 : end + 20], "little") + 50
        return archive[: end + 16] + begins.to_bytes(4, "little") + archive[end + 20 :]

    def begins_nowhere(self, archive):
        """Have the only file begin at the last of 2**64 bytes."""
        entry, end = archive.rfind(b"PK\1\2"), archive.rfind(b"PK\5\6")
        extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
        name = archive[entry + 46 : end]
        listed = archive[entry : entry + 30] + struct.pack("<H", len(extra)) + archive[entry + 32 : entry + 42]
        listed += b"\xff" * 4 + name + extra
        return (
            archive[:entry]
            + listed
            + archive[end : end + 12]
            + struct.pack("<I", len(listed))
            + archive[end + 16 :]
        )

    @pytest.mark.parametrize("size", [10, 10 * MIB])
    @pytest.mark.parametrize("damage", ["begins_later", "begins_nowhere"])
    def test_are_errors(self, host, copy, nothing_left, damage, size):
        archive = zipped(("a.bin", random.Random(1).randbytes(size)), method=zipfile.ZIP_STORED)
        host.content = getattr(self, damage)(archive)
        with pytest.raises(CorruptDocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("large", [False, True])
    def test_of_too_many_files_are_refused(self, host, copy, nothing_left, large):
        """They would take some hundred bytes of memory for each file, of which there may be millions."""
        entry = zipped(("a", b""))
        entry = entry[entry.rfind(b"PK\1\2") : entry.rfind(b"PK\5\6")]
        count = 5 * MIB // len(entry)
        first, listed = b"PK\3\4" + bytes(26), entry * count
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(listed), len(first), 0)
        if large:
            record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(listed), len(first))
            locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(first) + len(listed), 1)
            end = record + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0, 0, 0)
        host.content = gzip.compress(first + listed + end)
        with pytest.raises(DocumentTooLargeError, match="list of files"):
            copy()
        nothing_left()

    def test_a_disk_that_is_full_is_an_error(self, host, copy, nothing_left, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
        host.content = zipped(("a.txt", TEXT))
        with pytest.raises(DocumentError, match="No space left"):
            copy()
        nothing_left()
