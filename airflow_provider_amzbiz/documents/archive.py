"""A whole ZIP: its records agree with each other, or it is damaged.

Python's ``zipfile`` reads what it finds and ignores the rest: files that the list has lost, bytes in front, a name
that turns a file into a folder. Here nothing may be lost, so all records are read and compared.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from isal import igzip_lib, isal_zlib

from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    UnsupportedDocumentError,
)
from airflow_provider_amzbiz.documents.gunzip import IsalError
from airflow_provider_amzbiz.documents.streams import CHUNK, Readable, check_size
from airflow_provider_amzbiz.documents.zip_records import (
    DEFLATED,
    ENCRYPTED,
    STORED,
    ZipRecord,
    check_local_records,
    read_records,
)

# Maximum bytes of an OpenDocument's entry ``mimetype``.
_MAX_TYPE = 100
_TYPE = re.compile(rb"application/[\w.+-]+")
# By the folder that contains the main part of an Office file.
_OFFICE = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_OTHER_PACKAGE = "application/vnd.openxmlformats-package"


@dataclass(frozen=True)
class _File:
    name: str
    record: ZipRecord


class Archive:
    """The files of a ZIP, all of them checked before the first one is returned.

    :param file: the whole ZIP.
    :param max_bytes: limit of the decoded bytes of all files together.
    :param raw_bytes: size of the document that contained the ZIP, for the ratio by which it expands.
    :param check: called while bytes are decoded; raises to stop.
    :raises CorruptDocumentError: the ZIP is damaged.
    :raises UnsupportedDocumentError: it has no files, or some that are encrypted or of an unknown compression.
    :raises DocumentTooLargeError: its files, or the list of them, are too large.
    """

    def __init__(
        self, file: IO[bytes], max_bytes: int, raw_bytes: int, check: Callable[[], None] = lambda: None
    ) -> None:
        self._file = file
        self._check = check
        records = read_records(file)
        #: The content type of an Office file or the like, which is a document, not an archive; otherwise None.
        self.document_type = self._document_type(records)
        self._files: list[_File] = []
        if self.document_type:
            return
        _check_supported(records)
        check_local_records(file, records)
        self._check_content(records, max_bytes, raw_bytes)
        files = [record for record in records if not record.is_folder]
        if not files:
            raise UnsupportedDocumentError("The document is a ZIP without any file in it")
        names = distinct([safe_name(record.name) for record in files])
        self._files = [_File(*each) for each in zip(names, files, strict=True)]

    @property
    def names(self) -> list[str]:
        """The files' safe and unique names."""
        return [each.name for each in self._files]

    def files(self) -> Iterator[tuple[str, Readable]]:
        """Yield each file's safe name and content."""
        for each in self._files:
            yield each.name, _Content(self._file, each.record, self._check)

    def _document_type(self, records: list[ZipRecord]) -> str | None:
        names = [record.name for record in records]
        if "[Content_Types].xml" in names:
            kinds = (kind for folder, kind in _OFFICE.items() if any(name.startswith(folder) for name in names))
            return next(kinds, _OTHER_PACKAGE)
        for record in records:
            readable = record.method in (STORED, DEFLATED) and not record.flags & ENCRYPTED
            if record.name == "mimetype" and 0 < record.size <= _MAX_TYPE and readable:
                content = _Content(self._file, record, self._check).readall()
                return content.strip().decode() if content and _TYPE.fullmatch(content.strip()) else None
        return None

    def _check_content(self, records: list[ZipRecord], max_bytes: int, raw_bytes: int) -> None:
        # By the sizes in the list, before anything is decoded; no content may differ from them.
        check_size(sum(record.size for record in records), max_bytes, lambda: raw_bytes)
        buffer = bytearray(CHUNK)
        for record in records:
            content = _Content(self._file, record, self._check)
            while content.readinto(buffer):
                pass


def _check_supported(records: list[ZipRecord]) -> None:
    for record in records:
        if record.flags & ENCRYPTED:
            raise UnsupportedDocumentError(
                f"The document's ZIP cannot be opened: {safe_name(record.name)} is encrypted"
            )
        if record.method not in (STORED, DEFLATED):
            raise UnsupportedDocumentError(
                f"The document's ZIP cannot be opened: {safe_name(record.name)} is compressed by method "
                f"{record.method}, but only 0 (stored) and 8 (deflate) are supported"
            )


class _Content(io.RawIOBase):
    """The content of one file of a ZIP, which ends in an error if it differs from the list.

    :raises CorruptDocumentError: on reading, the size, the checksum or the compressed format is wrong.
    """

    def __init__(self, file: IO[bytes], record: ZipRecord, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check
        self._file = file
        self._record = record
        self._left = record.compressed_size
        self._at = record.data_start(file)
        self._count = 0
        self._crc = 0
        deflated = record.method == DEFLATED
        self._inflater: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE) if deflated else None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read decoded bytes."""
        self._check()
        view = memoryview(buffer)
        decoded = self._inflate(len(view)) if self._inflater else self._take(min(CHUNK, len(view)))
        if not decoded:
            self._check_end()
            return 0
        view[: len(decoded)] = decoded
        self._count += len(decoded)
        self._crc = isal_zlib.crc32(decoded, self._crc)
        if self._count > self._record.size:
            raise self._damaged(f"has more than the {self._record.size} bytes in its list")
        return len(decoded)

    def _inflate(self, size: int) -> bytes:
        while not self._inflater.eof:
            compressed = self._take(CHUNK) if self._inflater.needs_input else b""
            if self._inflater.needs_input and not compressed:
                raise self._damaged("ends before its end marker")
            try:
                decoded: bytes = self._inflater.decompress(compressed, size)
            except IsalError as error:
                raise self._damaged(f"cannot be inflated: {error}") from error
            if decoded:
                return decoded
        return b""

    def _take(self, size: int) -> bytes:
        self._file.seek(self._at)
        taken = self._file.read(min(size, self._left))
        self._at += len(taken)
        self._left -= len(taken)
        return taken

    def _check_end(self) -> None:
        if self._count != self._record.size or self._crc != self._record.crc:
            raise self._damaged(
                f"has {self._count} bytes and CRC-32 {self._crc:08x}, but its list has {self._record.size} and "
                f"{self._record.crc:08x}"
            )
        if self._left or (self._inflater and self._inflater.unused_data):
            raise self._damaged("has more compressed bytes than its content")

    def _damaged(self, how: str) -> CorruptDocumentError:
        return CorruptDocumentError(f"The document's ZIP is damaged: {safe_name(self._record.name)} {how}")


def safe_name(name: str) -> str:
    """Return an archive entry's name as part of a key: relative, without ``..``, drives and control characters."""
    shown = "".join(each for each in name if unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    flat = re.sub(r"^[A-Za-z]:", "", shown.replace("\\", "/"))
    parts = [part for part in flat.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "unnamed"


def distinct(names: list[str]) -> list[str]:
    """Return the names, made unique: the second ``a.pdf`` becomes ``a-2.pdf``."""
    taken = set(names)
    seen: set[str] = set()
    # The last number tried for each name: counting from 2 each time would take hours for 65,535 equal names.
    numbers: dict[str, int] = {}
    result = []
    for name in names:
        own = name
        while own in seen:
            number = numbers[name] = numbers.get(name, 1) + 1
            path = PurePosixPath(name)
            numbered = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
            # Another file may have this name already.
            own = name if numbered in taken else numbered
        seen.add(own)
        result.append(own)
    return result
