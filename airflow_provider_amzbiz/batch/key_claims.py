"""Keys that are known only when documents arrive: each belongs to one item of the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_amzbiz.batch.errors import KeyTakenError, RecordTakenError
from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.object_store import in_threads
from airflow_provider_amzbiz.batch.parts import Parts
from airflow_provider_amzbiz.documents.s3_location import split_s3_uri


class KeyClaims:
    """Claims of keys, an object for each, so that no process needs to know them all.

    An item that stores its document again, after a crash or in another attempt, finds its own claim.

    :param parts: where they lie.
    :param is_active: index of an item to whether it is in today's list: one that no longer is holds no key.
    """

    def __init__(self, parts: Parts, is_active: Callable[[int], bool]) -> None:
        self._parts = parts
        self._is_active = is_active

    def claim(self, item: Item, key: str) -> None:
        """Take a key for an item.

        :raises KeyTakenError: another item has it.
        """
        hashed = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        mine = {"index": item.index, "request": item.label, "key": key}
        generation, held = 0, False
        while True:
            name = f"key-{hashed}-{generation}"
            holder = self._parts.find(name) if held else self._put(name, mine)
            if holder is None:
                return
            held = held or holder["index"] == item.index
            if holder["index"] != item.index and self._is_active(holder["index"]):
                raise KeyTakenError(
                    f"Its document would have the key {key!r}, which is that of the document of "
                    f"{holder['request']}, so nothing was overwritten; put {{report_id}}, {{index}} or an option "
                    "of the request into s3_key"
                )
            # Whoever came after an item that is in the list no more may be in it.
            generation += 1

    def _put(self, name: str, mine: dict[str, Any]) -> dict[str, Any] | None:
        """Write a claim; return the one that is there, if there is another one."""
        try:
            self._parts.put_as(name, mine)
        except RecordTakenError:
            holder: dict[str, Any] = self._parts.get(name)
            return holder
        return None


def claim_stored(parts: Parts, items: Iterable[Item]) -> None:
    """Claim the keys of what was stored without claims, because all keys were known then."""
    # What is stored has its key, whoever claimed it earlier.
    claims = KeyClaims(parts, lambda _: False)
    found = [
        (item, located[1])
        for item in items
        if item.is_stored
        for each in item.objects or ()
        if (located := split_s3_uri(each["uri"]))
    ]
    in_threads(lambda pair: claims.claim(*pair), found)
