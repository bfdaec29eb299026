"""The records of a ZIP: its end record, its list of files (central directory), and each file's local record."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import IO

from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentTooLargeError,
    UnsupportedDocumentError,
)

# Maximum bytes and entries of the list of files: each entry takes a few hundred bytes of memory.
MAX_DIRECTORY = 4 * 1024**2
MAX_ENTRIES = 65_535
STORED, DEFLATED = 0, 8
# Encrypted, strongly encrypted, with encrypted headers.
ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_PATCH = 0x0020
_DESCRIPTOR = 0x0008
_UTF8 = 0x0800
# The MS-DOS attribute of a folder.
_FOLDER = 0x10

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_LARGE_END = struct.Struct("<4sQ2H2L4Q")
_LISTED = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR_MAGIC = b"PK\x07\x08"
_MAX_COMMENT = 0xFFFF
_IN_EXTRA_16, _IN_EXTRA_32 = 0xFFFF, 0xFFFFFFFF
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """The entry of one file in the list.

    :ivar raw_name: the name's bytes, which the file's local record must repeat.
    :ivar start: position of the file's local record.
    """

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    compressed_size: int
    size: int
    attributes: int
    start: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder: its name ends in a slash, and it has no content."""
        return self.name.endswith("/") and not self.size

    @property
    def contradicts_itself(self) -> bool:
        """Whether it has the name of a folder, but the content and the attributes of a file.

        Its name is damaged then. Without attributes, or with those of a folder, the name is what its writer meant.
        """
        folder = self.attributes & _FOLDER or stat.S_ISDIR(self.attributes >> 16)
        return self.name.endswith("/") and self.size > 0 and self.attributes != 0 and not folder

    def data_start(self, file: IO[bytes]) -> int:
        """Return the position of its compressed bytes.

        :raises CorruptDocumentError: there is no local record at its start.
        """
        header = _unpack(
            _LOCAL, b"PK\x03\x04", _read(file, self.start, _LOCAL.size), "a file has no record of its own"
        )
        return self.start + _LOCAL.size + header[9] + header[10]


@dataclass(frozen=True)
class _End:
    """What the end record says about the list of files.

    :ivar at: position of the end records, where the list must end.
    """

    entries: int
    size: int
    start: int
    at: int


def read_records(file: IO[bytes]) -> list[ZipRecord]:
    """Read the list of files.

    :raises CorruptDocumentError: it is damaged, or contradicts the end record.
    :raises DocumentTooLargeError: it is too large to keep in memory.
    """
    end = _read_end(file)
    directory = _read(file, end.start, end.size)
    records = []
    at = 0
    while at < len(directory):
        record, at = _read_listed(directory, at)
        records.append(record)
    if len(records) != end.entries:
        raise damaged(f"its list has {len(records)} entries, but its end record says {end.entries}")
    return records


def check_local_records(file: IO[bytes], records: list[ZipRecord]) -> None:
    """Compare the list with the local record of each file, and check that there is nothing else.

    :raises CorruptDocumentError: they differ, files overlap, or there are bytes that belong to no file.
    """
    end = _read_end(file).start
    reached = 0
    for record in sorted(records, key=lambda each: each.start):
        if record.start < reached:
            raise damaged("files overlap")
        _check_unused(file, reached, record.start)
        reached = _check_local(file, record)
    if reached > end:
        raise damaged("a file overlaps the list of files")
    _check_unused(file, reached, end)


def damaged(how: str) -> CorruptDocumentError:
    """Return the error for a damaged ZIP."""
    return CorruptDocumentError(f"The document's ZIP is damaged: {how}")


def _read_end(file: IO[bytes]) -> _End:
    at, record = _find_end(file)
    _, disk, list_disk, entries_here, entries, size, start, _ = record
    end = _read_large_end(file, at, record)
    # The end record's own size as well: whichever of the two a reader uses must not be too large.
    largest = max(end.size, 0 if size == _IN_EXTRA_32 else size)
    if largest > MAX_DIRECTORY:
        raise DocumentTooLargeError(
            f"The document is a ZIP whose list of files has {largest} bytes, but may have at most {MAX_DIRECTORY}"
        )
    if end.entries > MAX_ENTRIES:
        raise DocumentTooLargeError(
            f"The document is a ZIP whose list of files has {end.entries} entries, but may have at most "
            f"{MAX_ENTRIES}"
        )
    large = end.at != at
    for own, whole, placeholder in (
        (entries, end.entries, _IN_EXTRA_16),
        (entries_here, end.entries, _IN_EXTRA_16),
        (size, end.size, _IN_EXTRA_32),
        (start, end.start, _IN_EXTRA_32),
        (disk, 0, _IN_EXTRA_16),
        (list_disk, 0, _IN_EXTRA_16),
    ):
        if own != whole and not (large and own == placeholder):
            raise damaged("its end records do not agree")
    if end.start + end.size != end.at:
        raise damaged("its list of files does not end where the end record begins")
    return end


def _find_end(file: IO[bytes]) -> tuple[int, tuple[int, ...]]:
    """Find the one end record whose comment ends with the file."""
    whole = file.seek(0, io.SEEK_END)
    begins = max(0, whole - _END.size - _MAX_COMMENT)
    tail = _read(file, begins, whole - begins)
    found = []
    at = tail.find(b"PK\x05\x06")
    while at >= 0:
        if len(tail) - at >= _END.size:
            record = _END.unpack_from(tail, at)
            if at + _END.size + record[7] == len(tail):
                found.append((begins + at, record))
        at = tail.find(b"PK\x05\x06", at + 1)
    if not found:
        raise damaged("it has no end record, or other bytes follow that")
    if len(found) > 1:
        # Such as one within the comment of another: readers differ in which one they use.
        raise damaged("it has more than one end record")
    return found[0]


def _read_large_end(file: IO[bytes], at: int, record: tuple[int, ...]) -> _End:
    """Return the Zip64 end record if there is one, otherwise the ordinary one."""
    _, _, _, _, entries, size, start, _ = record
    locator_at = at - _LOCATOR.size
    locator = _read(file, locator_at, _LOCATOR.size) if locator_at >= 0 else b""
    if not locator.startswith(b"PK\x06\x07"):
        return _End(entries, size, start, at)
    _, disk, large_at, disks = _LOCATOR.unpack(locator)
    if large_at + _LARGE_END.size > locator_at:
        raise damaged("its Zip64 locator points outside the file")
    values = _unpack(
        _LARGE_END, b"PK\x06\x06", _read(file, large_at, _LARGE_END.size), "it has no Zip64 end record"
    )
    _, length, _, _, this_disk, list_disk, entries_here, entries, size, start = values
    if large_at + 12 + length != locator_at:
        raise damaged("its Zip64 end record does not have the size that it declares")
    if disk or this_disk or list_disk or disks > 1 or entries_here != entries:
        raise damaged("it is a part of an archive of several")
    return _End(entries, size, start, large_at)


def _read_listed(directory: bytes, at: int) -> tuple[ZipRecord, int]:
    """Return an entry of the list, and the position of the next one."""
    values = _unpack(_LISTED, b"PK\x01\x02", directory[at : at + _LISTED.size], "its list of files is no list")
    flags, method, crc, compressed, size = values[3], values[4], *values[7:10]
    name_size, extra_size, comment_size, disk, _, attributes, start = values[10:]
    name_at = at + _LISTED.size
    extra_at = name_at + name_size
    following = extra_at + extra_size + comment_size
    if following > len(directory):
        raise damaged("an entry of its list is cut")
    raw_name, extra = directory[name_at:extra_at], _extra(directory[extra_at : extra_at + extra_size])
    fields = (
        (size, _IN_EXTRA_32, 8),
        (compressed, _IN_EXTRA_32, 8),
        (start, _IN_EXTRA_32, 8),
        (disk, _IN_EXTRA_16, 4),
    )
    size, compressed, start, disk = _large(extra, *fields)
    if disk:
        raise damaged("it is a part of an archive of several")
    if flags & _PATCH:
        raise UnsupportedDocumentError("The document's ZIP cannot be opened: it holds patches, not files")
    name = _decoded(raw_name, flags, extra)
    record = ZipRecord(raw_name, name, flags, method, crc, compressed, size, attributes, start)
    if record.contradicts_itself:
        raise damaged(f"{name!r} is the name of a folder, but it has the content and the attributes of a file")
    return record, following


def _check_local(file: IO[bytes], record: ZipRecord) -> int:
    """Compare a local record with the list; return where its file ends."""
    header = _read(file, record.start, _LOCAL.size)
    values = _unpack(_LOCAL, b"PK\x03\x04", header, "a file has no record of its own")
    _, _, flags, method, _, _, crc, compressed, size, name_size, extra_size = values
    name_at = record.start + _LOCAL.size
    name = _read(file, name_at, name_size)
    extra = _extra(_read(file, name_at + name_size, extra_size))
    size, compressed = _large(extra, (size, _IN_EXTRA_32, 8), (compressed, _IN_EXTRA_32, 8))
    encrypted = (flags ^ record.flags) & ENCRYPTED
    if encrypted or (name, method) != (record.raw_name, record.method):
        raise damaged(f"the record before {record.name!r} does not agree with the list")
    known = (record.crc, record.compressed_size, record.size)
    described = bool(flags & _DESCRIPTOR)
    for own, listed in zip((crc, compressed, size), known, strict=True):
        if own != listed and not (described and own == 0):
            raise damaged(f"the record before {record.name!r} does not agree with the list")
    ends = name_at + name_size + extra_size + record.compressed_size
    return ends + _descriptor_size(file, ends, known) if described else ends


def _descriptor_size(file: IO[bytes], at: int, known: tuple[int, int, int]) -> int:
    """Return the size of the record after a file; its form is known only by matching it."""
    crc, compressed, size = known
    forms = [struct.pack("<LQQ", crc, compressed, size)]
    if max(compressed, size) <= _IN_EXTRA_32:
        forms.append(struct.pack("<3L", crc, compressed, size))
    there = _read_at_most(file, at, 24)
    for form in forms:
        for prefix in (_DESCRIPTOR_MAGIC, b""):
            if there.startswith(prefix + form):
                return len(prefix + form)
    raise damaged("the record after a file does not agree with the list")


def _check_unused(file: IO[bytes], start: int, end: int) -> None:
    """Check that bytes which belong to no file are padding: a file that is not listed would be lost there."""
    file.seek(start)
    left = end - start
    while left > 0:
        block = file.read(min(left, 64 * 1024))
        if not block or block.strip(b"\0"):
            raise damaged("it has bytes that belong to none of its files")
        left -= len(block)


def _extra(data: bytes) -> dict[int, bytes]:
    """Return the extra fields by their ids; a remainder that is too short for one is padding."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("<2H", data, at)
        # The first of a kind is used.
        fields.setdefault(kind, data[at + 4 : at + 4 + size])
        at += 4 + size
    return fields


def _large(extra: dict[int, bytes], *values: tuple[int, int, int]) -> list[int]:
    """Return the values, and those from the Zip64 field for values that are the placeholder.

    :param values: the value, its placeholder, and its size in the Zip64 field.
    """
    field = extra.get(_ZIP64)
    if field is None:
        return [value for value, _, _ in values]
    result = []
    for value, placeholder, width in values:
        if value == placeholder:
            if len(field) < width:
                raise damaged("a Zip64 field is cut")
            value, field = int.from_bytes(field[:width], "little"), field[width:]
        result.append(value)
    return result


def _decoded(name: bytes, flags: int, extra: dict[int, bytes]) -> str:
    """Return a name as a string: UTF-8 if possible, with or without the flag, otherwise in PKZIP's charset."""
    field = extra.get(_UNICODE_PATH, b"")
    # Version 1, with the checksum of this name.
    if field[:1] == b"\x01" and int.from_bytes(field[1:5], "little") == zlib.crc32(name):
        name, flags = field[5:], flags | _UTF8
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8", "replace") if flags & _UTF8 else name.decode("cp437")


def _unpack(form: struct.Struct, magic: bytes, data: bytes, problem: str) -> tuple[int, ...]:
    if len(data) < form.size or not data.startswith(magic):
        raise damaged(problem)
    return form.unpack(data)


def _read(file: IO[bytes], at: int, size: int) -> bytes:
    data = _read_at_most(file, at, size)
    if len(data) < size:
        raise damaged("it is cut")
    return data


def _read_at_most(file: IO[bytes], at: int, size: int) -> bytes:
    try:
        file.seek(at)
    except (OSError, OverflowError, ValueError):
        raise damaged("a file begins outside of it") from None
    return file.read(size)
