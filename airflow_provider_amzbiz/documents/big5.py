"""Big5 as the web has it, where Python's codec reads other characters than everybody writes."""

from __future__ import annotations

import functools

# Of ETEN's extension, those that Python's codec of HKSCS leaves out because they stand elsewhere, too.
_TWICE = {0xC6CF: "廴", 0xC6D3: "无", 0xC6D5: "癶", 0xC6D7: "隶", 0xC6DE: "〃", 0xC6DF: "仝"}


@functools.cache
def eten_characters() -> dict[int, str]:
    """Return what the characters are that Python's cp950 reads from the bytes of ETEN's extension.

    Kana, Cyrillic and circled digits are there. The codec takes them from an old table, in which a の is another
    character. It gives these characters for no other bytes.
    """
    right: dict[int, str] = {}
    for code in range(0xC6A1, 0xC7FF):
        pair = code.to_bytes(2, "big")
        read = pair.decode("cp950", "ignore")
        if len(read) == 1 and ord(read) > 0x7F:
            right[ord(read)] = _TWICE.get(code) or pair.decode("big5hkscs")
    return right
