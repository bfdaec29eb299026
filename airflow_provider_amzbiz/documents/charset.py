"""Text in another charset, made UTF-8 without losing a character unnoticed."""

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
# The longer ones first, because one begins with another.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LONGEST_MARK = 4


def codec_of(name: str) -> str:
    """Return Python's name of a charset, as the web understands the name.

    :param name: a label of the WHATWG's Encoding Standard, or any name that Python knows.
    :raises UnsupportedDocumentError: there is none of that name.
    """
    codec = find_codec(name)
    if codec is None:
        raise UnsupportedDocumentError(f"{name!r} is no charset that is known here")
    return codec


def declared_charset(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type names."""
    message = Message()
    message["Content-Type"] = content_type or ""
    charset = message.get_param("charset")
    return charset if isinstance(charset, str) else None


def marked_codec(head: bytes | bytearray) -> str | None:
    """Return Python's name of the charset whose byte order mark a text begins with."""
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def is_wide(codec: str | None) -> bool:
    """Tell whether a charset has NUL bytes in usual text."""
    return codec is not None and codec.startswith(("utf-16", "utf-32"))


class Utf8(io.RawIOBase):
    """A text in UTF-8, whatever charset it came in.

    A byte order mark counts more than the charset's name, as on the web, and is left out.

    :param charset: the name to show in errors, known to :func:`codec_of`.
    :param refuse_nul: whether a NUL byte shows that it is no text after all, in a charset that has none.
    :raises UndecodableDocumentError: on reading, some bytes are no character of the charset.
    """

    def __init__(self, stream: Readable, charset: str, *, refuse_nul: bool = False) -> None:
        super().__init__()
        self._stream = Prefixed(stream, _LONGEST_MARK)
        marked = marked_codec(self._stream.head)
        codec = marked or codec_of(charset)
        self._charset = f"{marked.upper()}, which its byte order mark says," if marked else charset
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
            # Python's UTF-7 lets them through, unlike its other codecs.
            raise UndecodableDocumentError(
                f"The document is no {self._charset} before byte {self._position} of its decoded content: "
                f"U+{ord(text[error.start]):04X} is half a surrogate pair, which is no character"
            ) from None

    def _decode(self, chunk: bytes) -> str:
        if self._refuse_nul and (at := chunk.find(b"\0")) >= 0:
            raise UndecodableDocumentError(
                f"The document is no text in {self._charset}: byte {self._position + at} of its decoded content "
                "is 00; without encoding, its bytes stay as they are"
            )
        self._position += len(chunk)
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            # What was decoded may begin with bytes of the chunk before, but ends with this one.
            at = self._position - len(error.object) + error.start
            found = error.object[error.start : error.end].hex(" ")
            raise UndecodableDocumentError(
                f"The document is no {self._charset} at byte {at} of its decoded content: {found}: {error.reason}"
            ) from None
        return text.translate(self._corrections) if self._corrections else text
