"""Charsets by the names that documents use for them, with the meaning of these names on the web.

The labels are those of the WHATWG's Encoding Standard. Senders often mean a larger charset than the one they name:
Shift_JIS means Windows-31J, and ISO-8859-1 means Windows-1252.
"""

from __future__ import annotations

import codecs

# The standard decodes GBK as the larger GB 18030. Of Python's codecs of Big5, only Microsoft's has the euro sign
# at the code of the standard.
_LARGER = {"gbk": "gb18030", "big5hkscs": "cp950"}
# Python's names that the standard lacks. UTF-32 without a byte order mark is little-endian here; a mark overrides
# any name.
_MEANT = {"utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
# Labels of the standard: one has another meaning for each page, and one rejects all bytes, because pages could
# misuse charsets such as ISO-2022-KR, which Python can decode.
_NO_MEANING = {"x-user-defined", "replacement"}
# Codecs from text to text, or for a part of a text.
_NO_CHARSETS = {"charmap", "idna", "punycode", "raw-unicode-escape", "raw_unicode_escape", "unicode-escape",
                "unicode_escape", "undefined"}  # fmt: skip


def find_codec(label: str) -> str | None:
    """Return Python's name of the charset that a label means, None if there is none."""
    import webencodings

    found = webencodings.lookup(label)
    if found is not None and found.name not in _NO_MEANING:
        codec: str = found.codec_info.name
        return _LARGER.get(codec, codec)
    try:
        codec = codecs.lookup(label.strip().lower()).name
        # Raises for a codec that is no charset, such as hex.
        "".encode(codec)
    except (LookupError, ValueError):
        return None
    if codec in _NO_CHARSETS:
        return None
    # Python has more spellings of the standard's charsets, such as Cp1252 and MS932.
    known = webencodings.lookup(codec)
    return _MEANT.get(codec, codec) if known is None else _LARGER.get(known.codec_info.name, known.codec_info.name)
