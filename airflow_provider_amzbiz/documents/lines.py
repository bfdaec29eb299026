"""Counting the lines of a text."""

from __future__ import annotations

import codecs

from airflow_provider_amzbiz.documents.charset import is_wide, marked_codec


class LineCounter:
    """Counts lines that end in LF, CR or CR LF, and a last line without an end.

    The charset is any superset of ASCII, or UTF-16 or UTF-32 with a byte order mark.
    """

    def __init__(self) -> None:
        self._ends = 0
        self._last: str = ""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False

    def update(self, block: bytearray) -> None:
        """Add the next bytes of the text; the first ones contain all of its byte order mark."""
        if not block:
            return
        if not self._begun:
            self._begun = True
            codec = marked_codec(block)
            if codec and is_wide(codec):
                # This codec reads the mark itself.
                self._decoder = codecs.getincrementaldecoder(codec[:6])("replace")
            elif block == codecs.BOM_UTF8:
                return
        if self._decoder:
            self._add_text(self._decoder.decode(bytes(block)))
        else:
            self._add_bytes(block)

    @property
    def count(self) -> int:
        """The number of lines so far."""
        return self._ends + (self._last not in ("", "\n", "\r"))

    def _add_text(self, text: str) -> None:
        self._add(text.count("\n"), text.count("\r"), text.count("\r\n"), text[:1], text[-1:])

    def _add_bytes(self, block: bytearray) -> None:
        feeds, returns = block.count(b"\n"), block.count(b"\r")
        both = block.count(b"\r\n") if returns else 0
        self._add(feeds, returns, both, chr(block[0]), chr(block[-1]))

    def _add(self, feeds: int, returns: int, both: int, first: str, last: str) -> None:
        self._ends += feeds + returns - both
        # One line end that was split between two blocks.
        self._ends -= self._last == "\r" and first == "\n"
        self._last = last or self._last
