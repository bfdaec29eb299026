"""Big5 as the web defines it."""

from __future__ import annotations


def test_big5_has_the_characters_of_eten(host, copy, stored):
    # As the standard's table has them; Python's cp950 reads other ones from these bytes.
    host.content = bytes.fromhex("c6a1 c6cf c6de c6e7 c7a1 c7f2 a440")
    copy(encoding="Big5")
    assert stored()["document"].decode() == "①廴〃ぁゥヶ一"
