"""Big5 as the web defines it: Python's codec maps some bytes to characters that nobody means by them."""

from __future__ import annotations

import functools

# The characters of ETEN's extension that Python's codec of HKSCS omits, because they have a second code.
_DUPLICATES = {0xC6CF: "廴", 0xC6D3: "无", 0xC6D5: "癶", 0xC6D7: "隶", 0xC6DE: "〃", 0xC6DF: "仝"}


@functools.cache
def eten_characters() -> dict[int, str]:
    """Return the right character for each wrong one that Python's cp950 decodes from ETEN's extension.

    The extension has kana, Cyrillic and circled digits. The codec uses an old table, in which a の is another
    character. It decodes no other bytes to these characters.
    """
    right: dict[int, str] = {}
    for code in range(0xC6A1, 0xC7FF):
        pair = code.to_bytes(2, "big")
        wrong = pair.decode("cp950", "ignore")
        if len(wrong) == 1 and ord(wrong) > 0x7F:
            right[ord(wrong)] = _DUPLICATES.get(code) or pair.decode("big5hkscs")
    return right
