"""Text in another charset, made UTF-8 without losing a character unnoticed."""

from __future__ import annotations

import codecs
import io
from email.message import Message
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.errors import UndecodableDocumentError, UnsupportedDocumentError

if TYPE_CHECKING:
    from airflow_provider_amzbiz.documents.unwrap import Readable

DECLARED = "declared"
# Names that documents have been seen to declare (facts, section 8) and Python does not know.
_NAMES = {"windows-31j": "cp932"}
_CHUNK = 256 * 1024


def codec_of(name: str) -> str:
    """Return Python's name of a charset.

    :raises UnsupportedDocumentError: there is none of that name.
    """
    known = _NAMES.get(name.lower(), name)
    try:
        # Refuses what is a codec but no charset, such as hex.
        "".encode(known)
        return codecs.lookup(known).name
    except (LookupError, ValueError):
        raise UnsupportedDocumentError(f"{name!r} is no charset that is known here") from None


def declared_charset(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type names."""
    message = Message()
    message["Content-Type"] = content_type or ""
    charset = message.get_param("charset")
    return charset if isinstance(charset, str) else None


class Utf8(io.RawIOBase):
    """A text in UTF-8, whatever charset it came in.

    :param charset: the name to show in errors, known to :func:`codec_of`.
    :raises UndecodableDocumentError: on reading, some bytes are no character of the charset.
    """

    def __init__(self, stream: Readable, charset: str) -> None:
        super().__init__()
        self._stream = stream
        self._charset = charset
        self._decoder = codecs.getincrementaldecoder(codec_of(charset))("strict")
        self._chunk = memoryview(bytearray(_CHUNK))
        self._left = memoryview(b"")
        self._position = 0
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes of UTF-8."""
        while not self._left and not self._ended:
            count = self._stream.readinto(self._chunk) or 0
            self._ended = count == 0
            self._left = memoryview(self._decode(self._chunk[:count]).encode())
        count = min(len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _decode(self, chunk: memoryview) -> str:
        # Bytes of a character that began in the chunk before.
        held = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(bytes(chunk), final=self._ended)
        except UnicodeDecodeError as error:
            raise UndecodableDocumentError(
                f"The document is no {self._charset} at byte {self._position - held + error.start} of its decoded "
                f"content: {error.reason}"
            ) from None
        self._position += len(chunk)
        return text
