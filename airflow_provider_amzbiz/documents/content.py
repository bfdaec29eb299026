"""What a document is: by its bytes first, then by what its host or its archive says about it."""

from __future__ import annotations

import mimetypes
import re
import zlib
from pathlib import PurePosixPath

from airflow_provider_amzbiz.documents.charset import declared_charset, is_wide, marked_codec
from airflow_provider_amzbiz.documents.charset_names import find_codec

UNKNOWN = "binary/octet-stream"
# Bytes at the beginning of a document that are inspected.
SNIFFED = 4096
# What a host sends if it does not know the type.
_MEANINGLESS = ("application/octet-stream", UNKNOWN, "application/gzip", "application/x-gzip")
# What S3 accepts as a header, with a length that a sender could mean.
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}[ \t]*(?:;[\t -~]{0,255})?", re.ASCII)
_CONTAINERS = ("application/zip", "application/x-ole-storage")
_MAGICS = (
    (b"\x1f\x8b", "application/gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"PK\x06\x06", "application/zip"),
    (b"PK\x07\x08", "application/zip"),
    # Office files before 2007, and Outlook's messages.
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"%!PS", "application/postscript"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x04\x22\x4d\x18", UNKNOWN),  # LZ4
    (b"\x1f\x9d", UNKNOWN),  # compress
    (b"Obj\x01", UNKNOWN),  # Avro
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\x7fELF", UNKNOWN),
)
# Text may begin with these, too, such as a CSV with the column ORCID.
_PRINTABLE_MAGICS = (
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"ORC", UNKNOWN),
)
# With the first block, or with the end of a stream that has none.
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
# By its levels. Two bytes that text may begin with, in some charset.
_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
# By the ending of a file's name. Those of Python itself, not those of the machine: workers would differ.
_TYPES = {
    **mimetypes.MimeTypes().types_map[True],
    # Not in Python.
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    # Other in some versions of Python, or not there.
    ".js": "text/javascript",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".rst": "text/x-rst",
    # It names its charset itself, so it must not be converted.
    ".rtf": "application/rtf",
    ".webp": "image/webp",
}
# PDF readers search for its beginning in so many bytes.
_PDF = re.compile(rb"%PDF-\d\.\d")
_PDF_WITHIN = 1024
# Bytes that do not occur in text, in all charsets but UTF-16 and UTF-32; the NUL is searched for separately.
_CONTROLS = bytes([*range(0x01, 0x09), 0x0E, 0x0F, *range(0x10, 0x1A), *range(0x1C, 0x20), 0x7F])
# Maximum share of them in text, which may have a few stray ones; in compressed or encrypted bytes it is a tenth.
_MAX_CONTROLS = 0.04


def document_type(head: bytes, announced: str | None, charset: str | None, *, assume_text: bool) -> str:
    """Return a document's content type.

    :param head: the first :data:`SNIFFED` bytes of what is stored.
    :param announced: the type that its host sends, which may be that of the compressed document.
    :param charset: its charset, if it is known.
    :param assume_text: whether it is text if its bytes look like text, whatever its host sends.
    """
    declared = (announced or "").strip()
    known = is_media_type(declared) and declared.split(";")[0].strip().lower() not in _MEANINGLESS
    kind = _resolved(head, declared if known else None, charset)
    if assume_text and not is_text(kind) and not _magic(head) and _looks_like_text(head, charset):
        # Hosts declare a CSV as application/vnd.ms-excel or application/x-download, too.
        return "text/plain"
    return kind


def file_type(head: bytes, name: str, charset: str | None) -> str:
    """Return the content type of a file in an archive; it is text only if its name says so."""
    return _resolved(head, _TYPES.get(PurePosixPath(name).suffix.lower()), charset)


def is_media_type(value: str) -> bool:
    """Whether a string can be sent to S3 as a content type."""
    return _MEDIA_TYPE.fullmatch(value) is not None


def is_text(content_type: str) -> bool:
    """Whether a content type is that of text."""
    kind = content_type.split(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+json", "+xml"))


_TEXTS = ("application/json", "application/xml", "application/csv", "application/x-ndjson", "application/jsonl")


def has_lines(content_type: str, head: bytes) -> bool:
    """Whether lines can be counted.

    :param content_type: of the object.
    :param head: the first bytes of the object.
    """
    if not content_type.lower().startswith("text/") or _magic(head):
        return False
    declared = declared_charset(content_type)
    # Without a mark, the order of the two bytes is not known.
    return marked_codec(head) is not None or not is_wide(find_codec(declared) if declared else None)


def _resolved(head: bytes, declared: str | None, charset: str | None) -> str:
    magic = _magic(head)
    if magic:
        # For a container the declared type may say more, such as that of an Excel file.
        return declared if declared and magic in _CONTAINERS and not is_text(declared) else magic
    kind = declared or UNKNOWN
    return UNKNOWN if is_text(kind) and not _looks_like_text(head, charset or declared_charset(kind)) else kind


def _magic(head: bytes) -> str | None:
    if _PDF.search(head, 0, _PDF_WITHIN):
        return "application/pdf"
    if _BZIP2.match(head):
        return "application/x-bzip2"
    if _is_zlib(head):
        return UNKNOWN
    magics = _MAGICS if _looks_like_text(head, None) else (*_MAGICS, *_PRINTABLE_MAGICS)
    return next((kind for magic, kind in magics if head.startswith(magic)), None)


def _is_zlib(head: bytes) -> bool:
    if not head.startswith(_ZLIB):
        return False
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(head)
    except zlib.error:
        return False
    # A few bytes of text may be the beginning of a stream, but not a whole one with its checksum.
    return inflater.eof or len(head) >= SNIFFED


def _looks_like_text(head: bytes, charset: str | None) -> bool:
    codec = marked_codec(head) or (find_codec(charset) if charset else None)
    if codec and is_wide(codec):
        return "\0" not in head.decode(codec, "replace")
    # Some charsets, such as ISO-2022-KR, switch between their character sets with these.
    shifts = b"\x0e\x0f" if codec and codec.startswith("iso2022") else b""
    controls = len(head) - len(head.translate(None, _CONTROLS.translate(None, shifts)))
    return b"\0" not in head and controls <= len(head) * _MAX_CONTROLS
