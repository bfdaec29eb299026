"""Text in another charset, converted to UTF-8 without losing a character unnoticed."""

from __future__ import annotations

import codecs
import io
from email.message import Message
from typing import Any

from airflow_provider_amzbiz.documents.big5 import eten_characters
from airflow_provider_amzbiz.documents.charset_names import find_codec
from airflow_provider_amzbiz.documents.errors import UndecodableDocumentError, UnsupportedDocumentError
from airflow_provider_amzbiz.documents.streams import CHUNK, Prefixed, Readable

DECLARED = "declared"
# UTF-32 first, because its mark begins with the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAX_MARK = 4


def codec_of(name: str) -> str:
    """Return Python's name of a charset, by the meaning of the name on the web.

    :param name: a label of the WHATWG's Encoding Standard, or any name that Python knows.
    :raises UnsupportedDocumentError: there is no such charset.
    """
    codec = find_codec(name)
    if codec is None:
        raise UnsupportedDocumentError(f"{name!r} is not a known charset")
    return codec


def declared_charset(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type names."""
    message = Message()
    message["Content-Type"] = content_type or ""
    charset = message.get_param("charset")
    return charset if isinstance(charset, str) else None


def marked_codec(head: bytes | bytearray) -> str | None:
    """Return Python's name of the charset whose byte order mark the content begins with."""
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def is_wide(codec: str | None) -> bool:
    """Whether ordinary text in a charset has NUL bytes."""
    return codec is not None and codec.startswith(("utf-16", "utf-32"))


class Utf8(io.RawIOBase):
    """Text in UTF-8, whatever charset it came in.

    A byte order mark overrides the charset's name, as on the web, and is removed.

    :param charset: the name to show in errors, known to :func:`codec_of`.
    :param refuse_nul: whether a NUL byte proves that the content is not text, in a charset that has none.
    :raises UndecodableDocumentError: on reading, some bytes are not a character of the charset.
    """

    def __init__(self, stream: Readable, charset: str, *, refuse_nul: bool = False) -> None:
        super().__init__()
        self._stream = Prefixed(stream, _MAX_MARK)
        marked = marked_codec(self._stream.head)
        codec = marked or codec_of(charset)
        self._charset = f"{marked.upper()} (its byte order mark)" if marked else charset
        self._refuse_nul = refuse_nul and not is_wide(codec)
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._corrections = eten_characters() if codec == "cp950" else None
        self._chunk = memoryview(bytearray(CHUNK))
        self._left = memoryview(b"")
        self._position = 0
        self._ended = False
        if marked:
            self._skip_mark(next(mark for mark, codec in _MARKS if codec == marked))

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes of UTF-8."""
        while not self._left and not self._ended:
            count = self._stream.readinto(self._chunk) or 0
            self._ended = count == 0
            self._left = memoryview(self._encode(self._decode(bytes(self._chunk[:count]))))
        count = min(len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _skip_mark(self, mark: bytes) -> None:
        self._stream.readinto(self._chunk[: len(mark)])
        self._position = len(mark)

    def _encode(self, text: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            # Python's codec of UTF-7 decodes them, unlike its other codecs.
            raise UndecodableDocumentError(
                f"The document is not {self._charset} before byte {self._position} of its decoded content: "
                f"U+{ord(text[error.start]):04X} is half a surrogate pair, not a character"
            ) from None

    def _decode(self, chunk: bytes) -> str:
        if self._refuse_nul and (at := chunk.find(b"\0")) >= 0:
            raise UndecodableDocumentError(
                f"The document is not text in {self._charset}: byte {self._position + at} of its decoded content "
                "is 00; without encoding, its bytes are kept"
            )
        self._position += len(chunk)
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            # What was decoded may begin with bytes of the previous chunk, but ends with this one.
            at = self._position - len(error.object) + error.start
            found = error.object[error.start : error.end].hex(" ")
            raise UndecodableDocumentError(
                f"The document is not {self._charset} at byte {at} of its decoded content: {found}: {error.reason}"
            ) from None
        return text.translate(self._corrections) if self._corrections else text
