"""A ZIP archive: checked as a whole before anything of it is used, and read in bounded memory."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, TYPE_CHECKING

from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentStorageError,
    DocumentTooLargeError,
    TruncatedDocumentError,
    UnsupportedDocumentError,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from airflow_provider_amzbiz.documents.unwrap import Allowance

_CHUNK = 256 * 1024
_IN_MEMORY = 8 * 1024 * 1024
# zipfile reads the central directory at once; this much of it names some 100,000 entries.
_LONGEST_READ = 8 * 1024 * 1024
# The other two methods are decoded by zipfile without a bound on memory.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Entry:
    """One file of an archive.

    :ivar name: a relative path with forward slashes, safe to use in a key, and no other entry's.
    :ivar size: decoded bytes.
    """

    name: str
    size: int
    info: zipfile.ZipInfo = field(repr=False)


class Archive:
    """A ZIP archive of which every entry is known to be whole.

    It is spooled first: a ZIP says only at its end what it holds, and nothing of a damaged one may be stored.

    :ivar entries: its files, in their order; directories are left out.

    :param source: the archive's bytes.
    :param allowance: bounds what all entries decode to.
    :raises CorruptDocumentError: it is no whole ZIP, or an entry's checksum or length does not fit.
    :raises UnsupportedDocumentError: an entry is encrypted or compressed in an unknown way, or there is none.
    :raises DocumentTooLargeError: its entries are too large, or too many.
    """

    def __init__(self, source: io.RawIOBase, allowance: Allowance) -> None:
        self._spool = _Spool(max_size=_IN_MEMORY)
        try:
            with _spool_errors():
                _copy(source, self._spool.write)
            self._spool.seek(0)
            with _zip_errors("the archive"):
                self._zip = zipfile.ZipFile(self._spool)
            self.entries = _entries(self._zip.infolist())
            for entry in self.entries:
                self._verify(entry, allowance)
        except BaseException:
            self._spool.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._spool.close()

    def open(self, entry: Entry) -> io.RawIOBase:
        """Open an entry's decoded bytes; reading its last one checks its CRC-32.

        :raises CorruptDocumentError: (also while reading) the entry is damaged.
        :raises UnsupportedDocumentError: (also while reading) it cannot be decoded.
        """
        what = f"entry {entry.name!r}"
        with _zip_errors(what):
            return _Content(self._zip.open(entry.info), what)

    def _verify(self, entry: Entry, allowance: Allowance) -> None:
        if entry.info.flag_bits & _ENCRYPTED:
            raise UnsupportedDocumentError(f"Entry {entry.name!r} of the ZIP archive is encrypted")
        if entry.info.compress_type not in _METHODS:
            raise UnsupportedDocumentError(
                f"Entry {entry.name!r} of the ZIP archive has compression method {entry.info.compress_type}; only "
                "stored (0) and deflated (8) entries are read"
            )
        with self.open(entry) as content:
            size = _copy(content, lambda data: allowance.spend(len(data)))
        if size != entry.size:
            raise CorruptDocumentError(
                f"Entry {entry.name!r} of the ZIP archive has {size} bytes, its directory says {entry.size}"
            )


class _Content(io.RawIOBase):
    """Has zipfile's many kinds of error become ours, but not those of whoever reads from here."""

    def __init__(self, content: IO[bytes], what: str) -> None:
        super().__init__()
        self._content = content
        self._what = what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with _zip_errors(self._what):
            count: int = self._content.readinto(buffer)  # type: ignore[attr-defined]
            return count

    def close(self) -> None:
        self._content.close()
        super().close()


class _Spool(tempfile.SpooledTemporaryFile[bytes]):
    """Keeps zipfile from reading a huge central directory into memory."""

    def read(self, size: int = -1, /) -> bytes:
        if size > _LONGEST_READ:
            raise DocumentTooLargeError("The ZIP archive has too many entries")
        return super().read(size)


def _entries(infos: list[zipfile.ZipInfo]) -> list[Entry]:
    entries: list[Entry] = []
    taken: set[str] = set()
    for info in infos:
        if info.is_dir():
            continue
        name = _distinct(_safe(info.filename) or f"document-{len(entries) + 1}", taken)
        taken.add(name)
        entries.append(Entry(name, info.file_size, info))
    if not entries:
        raise UnsupportedDocumentError("The ZIP archive holds no files")
    return entries


def _safe(name: str) -> str:
    """Return what is left of an entry's name without anything that could lead out of a folder."""
    printable = "".join(character for character in name if character.isprintable())
    parts = (re.sub(r"^[A-Za-z]:", "", part).strip() for part in printable.replace("\\", "/").split("/"))
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _distinct(name: str, taken: set[str]) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".") if "." in last[1:] else (last, "", "")
    candidate, number = name, 2
    while candidate in taken:
        candidate = f"{folder}{slash}{stem}-{number}{dot}{extension}"
        number += 1
    return candidate


def _copy(source: io.RawIOBase, write: Callable[[memoryview], object]) -> int:
    buffer = memoryview(bytearray(_CHUNK))
    total = 0
    while count := source.readinto(buffer) or 0:
        write(buffer[:count])
        total += count
    return total


@contextmanager
def _spool_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DocumentStorageError(f"The ZIP archive does not fit the temporary folder: {error}") from error


@contextmanager
def _zip_errors(what: str) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise TruncatedDocumentError(f"The ZIP archive ends within {what}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedDocumentError(f"ZIP archive, {what}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError) as error:
        raise CorruptDocumentError(f"ZIP archive, {what}: {error}") from error
