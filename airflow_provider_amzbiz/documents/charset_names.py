"""Charsets by the names that documents call them, with the meaning that the web gives these names.

The labels are those of the WHATWG's Encoding Standard. Many name a charset of which senders use a larger one: what
is called Shift_JIS is Windows-31J, and what is called ISO-8859-1 is Windows-1252. Only what Python's own aliases
lack, or understand in the narrow sense, stands here.
"""

from __future__ import annotations

import codecs

# Python's names of charsets, and of those that are meant by them.
_MEANT = {
    "ascii": "cp1252",
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "tis-620": "cp874",
    # Without a byte order mark, which counts more than any name.
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
    "utf-8-sig": "utf-8",
}
# Labels that Python does not know.
_LABELS = {
    "cp1250": ("x-cp1250",),
    "cp1251": ("x-cp1251",),
    "cp1252": ("iso88591", "x-cp1252"),
    "cp1253": ("x-cp1253",),
    "cp1254": ("iso88599", "x-cp1254"),
    "cp1255": ("x-cp1255",),
    "cp1256": ("x-cp1256",),
    "cp1257": ("x-cp1257",),
    "cp1258": ("x-cp1258",),
    "cp874": ("dos-874", "iso885911", "windows-874"),
    "cp932": ("windows-31j", "x-sjis"),
    "cp950": ("cn-big5", "x-x-big5"),
    "cp949": ("cseuckr", "csksc56011987", "iso-ir-149", "ks_c_5601-1989", "ksc_5601", "windows-949"),
    "euc_jp": ("cseucpkdfmtjapanese", "x-euc-jp"),
    "gb18030": ("csgb2312", "gb_2312", "gb_2312-80", "x-gbk"),
    "iso8859-2": ("iso88592",),
    "iso8859-3": ("iso88593",),
    "iso8859-4": ("iso88594",),
    "iso8859-5": ("iso88595",),
    "iso8859-6": ("csiso88596e", "csiso88596i", "iso-8859-6-e", "iso-8859-6-i", "iso88596"),
    "iso8859-7": ("iso88597", "sun_eu_greek"),
    "iso8859-8": (
        "csiso88598e", "csiso88598i", "iso-8859-8-e", "iso-8859-8-i", "iso88598", "logical", "visual",
    ),
    "iso8859-10": ("iso885910",),
    "iso8859-13": ("iso885913",),
    "iso8859-14": ("iso885914",),
    "iso8859-15": ("csisolatin9", "iso885915"),
    "koi8-r": ("koi", "koi8"),
    "koi8-u": ("koi8-ru",),
    "mac-cyrillic": ("x-mac-cyrillic", "x-mac-ukrainian"),
    "mac-roman": ("csmacintosh", "mac", "x-mac-roman"),
    "utf-8": ("unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"),
    "utf-16-be": ("unicodefffe",),
    "utf-16-le": ("csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff"),
}  # fmt: skip
_BY_LABEL = {label: codec for codec, labels in _LABELS.items() for label in labels}
# Codecs from text to text, or of a part of a text.
_NO_CHARSETS = {"charmap", "idna", "punycode", "raw-unicode-escape", "raw_unicode_escape", "unicode-escape",
                "unicode_escape", "undefined"}  # fmt: skip


def find_codec(label: str) -> str | None:
    """Return Python's name of the charset that a label means; None where there is none."""
    label = label.strip().lower()
    try:
        codec = _BY_LABEL.get(label) or codecs.lookup(label).name
        # Refuses what is a codec but no charset, such as hex.
        "".encode(codec)
    except (LookupError, ValueError):
        return None
    return None if codec in _NO_CHARSETS else _MEANT.get(codec, codec)
