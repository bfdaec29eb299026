"""Keys that are known only when documents arrive: each belongs to one item of the batch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    An item that stores its document again, after a crash or in another attempt, finds its own claim. The claim of
    what an earlier batch has delivered counts in this attempt only, because the next one asks the ledger again.

    :param parts: where they lie.
    :param attempt: names the attempt.
    :param is_active: index of an item to whether it is in today's list: one that no longer is holds no key.
    """

    def __init__(self, parts: Parts, attempt: str, is_active: Callable[[int], bool]) -> None:
        self._parts = parts
        self._attempt = attempt
        self._is_active = is_active

    def claim(self, item: Item, key: str) -> None:
        """Take a key for an item.

        :raises KeyTakenError: another item has it.
        """
        for holder in self._claim(item, key, {}):
            self._refuse(item, key, holder)

    def claim_existing(self, item: Item, objects: Iterable[Mapping[str, Any]], bucket: str) -> None:
        """Take the keys of what an earlier batch has delivered, whoever claimed them earlier."""
        for key in _keys_in(objects, bucket):
            for _ in self._claim(item, key, {"attempt": self._attempt}):
                pass

    def check(self, item: Item, key: str) -> None:
        """Refuse a key that another item has, without taking it.

        :raises KeyTakenError: another item has it.
        """
        generation = 0
        while (holder := self._parts.find(_name(key, generation))) is not None:
            self._refuse(item, key, holder)
            generation += 1

    def _claim(self, item: Item, key: str, more: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Take a key once all who hold it were seen, which are yielded."""
        mine = {"index": item.index, "request": item.label, "key": key, **more}
        generation, held = 0, False
        while True:
            name = _name(key, generation)
            holder = self._parts.find(name) if held else self._put(name, mine)
            if holder is None:
                return
            held = held or (holder["index"] == item.index and self._is_current(holder))
            yield holder
            # Whoever came after an item that is in the list no more may be in it.
            generation += 1

    def _is_current(self, holder: Mapping[str, Any]) -> bool:
        return bool(holder.get("attempt", self._attempt) == self._attempt)

    def _refuse(self, item: Item, key: str, holder: Mapping[str, Any]) -> None:
        if holder["index"] == item.index or not self._is_current(holder) or not self._is_active(holder["index"]):
            return
        remedy = (
            "an option of the request instead of {index}"
            if "attempt" in holder
            else "{report_id}, {index} or an option of the request"
        )
        raise KeyTakenError(
            f"Its document would have the key {key!r}, which is that of the document of {holder['request']}, so "
            f"nothing was overwritten; put {remedy} into s3_key"
        )

    def _put(self, name: str, mine: dict[str, Any]) -> dict[str, Any] | None:
        """Write a claim; return the one that is there, if there is another one."""
        try:
            self._parts.put_as(name, mine)
        except RecordTakenError:
            holder: dict[str, Any] = self._parts.get(name)
            return holder
        return None


def _name(key: str, generation: int) -> str:
    hashed = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"key-{hashed}-{generation}"


def claim_stored(parts: Parts, items: Iterable[Item]) -> None:
    """Claim the keys of what was stored without claims, because all keys were known then."""
    # What is stored has its key, whoever claimed it earlier.
    claims = KeyClaims(parts, parts.token, lambda _: False)
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
    claims = KeyClaims(parts, parts.token, lambda _: False)
    found = {
        item.index: item
        for item, key in _delivered_keys(finished, bucket)
        if any(key[:length] in beginnings for length in lengths)
    }
    in_threads(lambda item: claims.claim_existing(item, item.objects or (), bucket), found.values())


def _delivered_keys(items: Iterable[Item], bucket: str) -> Iterator[tuple[Item, str]]:
    for item in items:
        if item.already_delivered:
            yield from ((item, key) for key in _keys_in(item.objects or (), bucket))


def _keys_in(objects: Iterable[Mapping[str, Any]], bucket: str) -> Iterator[str]:
    for each in objects:
        located = split_s3_uri(each["uri"])
        if located and located[0] == bucket:
            yield located[1]
