"""Keys that are known only when documents arrive: each belongs to one item of the batch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from airflow_provider_amzbiz.batch.errors import KeyTakenError, RecordTakenError
from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.object_store import in_threads
from airflow_provider_amzbiz.batch.parts import Parts
from airflow_provider_amzbiz.batch.plan import Keys, is_late, names, symbolic
from airflow_provider_amzbiz.documents.s3_location import split_s3_uri

log = logging.getLogger(__name__)


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


def refuse_delivered_keys(items: Sequence[Item], bucket: str, keys: Keys) -> None:
    """Fail items that would replace the object of a request of the same list that an earlier batch delivered.

    It has the key that it had there, such as another index's.
    """
    delivered = {key: item for item, key in _delivered_keys(items, bucket)}
    if not delivered:
        return
    for item in items:
        if item.is_finished or is_late(item):
            continue
        holder = delivered.get(key := keys.render(item.key, names(item)))
        if holder is not None:
            error = KeyTakenError(
                f"Its document would have the key {key!r}, under which an earlier batch has delivered the "
                f"document of {holder.label}, so nothing was created; put an option of the request instead of "
                "{index} into s3_key"
            )
            log.warning("%s failed: %s", item.label, error)
            item.fail(str(error), permanent=error.permanent)


def claim_delivered(parts: Parts, finished: Sequence[Item], others: Iterable[Item], bucket: str) -> None:
    """Claim the keys of what an earlier batch has delivered, as far as other documents may turn out to have them.

    :param others: items that are not finished.
    """
    beginnings = {symbolic(item).partition("{")[0] for item in others if is_late(item)}
    lengths = {len(each) for each in beginnings}
    # What is delivered has its key, whoever claimed it earlier.
    claims = KeyClaims(parts, lambda _: False)
    found = [
        (item, key)
        for item, key in _delivered_keys(finished, bucket)
        if any(key[:length] in beginnings for length in lengths)
    ]
    in_threads(lambda pair: claims.claim(*pair), found)


def _delivered_keys(items: Iterable[Item], bucket: str) -> Iterator[tuple[Item, str]]:
    for item in items:
        for each in item.objects or () if item.already_delivered else ():
            located = split_s3_uri(each["uri"])
            if located and located[0] == bucket:
                yield item, located[1]
