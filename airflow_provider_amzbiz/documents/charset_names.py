"""Charsets by the names that documents call them, with the meaning that the web gives these names.

The labels are those of the WHATWG's Encoding Standard. Many name a charset of which senders use a larger one: what
is called Shift_JIS is Windows-31J, and what is called ISO-8859-1 is Windows-1252.
"""

from __future__ import annotations

import codecs

# The standard decodes GBK as the larger GB 18030; and of Python's codecs of Big5, Microsoft's is the one with the
# euro sign, as the standard has it.
_LARGER = {"gbk": "gb18030", "big5hkscs": "cp950"}
# Names of Python's that the standard has not, such as UTF-32's without a byte order mark, which counts more than
# any name.
_MEANT = {"utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
# Of the standard's, one that has another meaning for each page, and one that refuses all bytes: browsers keep some
# charsets that Python can read, such as ISO-2022-KR, from being misused by a page.
_NO_MEANING = {"x-user-defined", "replacement"}
# Codecs from text to text, or of a part of a text.
_NO_CHARSETS = {"charmap", "idna", "punycode", "raw-unicode-escape", "raw_unicode_escape", "unicode-escape",
                "unicode_escape", "undefined"}  # fmt: skip


def find_codec(label: str) -> str | None:
    """Return Python's name of the charset that a label means; None where there is none."""
    import webencodings

    found = webencodings.lookup(label)
    if found is not None and found.name not in _NO_MEANING:
        codec: str = found.codec_info.name
        return _LARGER.get(codec, codec)
    try:
        codec = codecs.lookup(label.strip().lower()).name
        # Refuses what is a codec but no charset, such as hex.
        "".encode(codec)
    except (LookupError, ValueError):
        return None
    if codec in _NO_CHARSETS:
        return None
    # Python has more spellings, such as Cp1252 and MS932, of what the standard knows.
    known = webencodings.lookup(codec)
    return _MEANT.get(codec, codec) if known is None else _LARGER.get(known.codec_info.name, known.codec_info.name)
