"""The record of a batch in S3: exact after any crash, written by one process at a time, linear in its size.

The head lies at the manifest's key from the first process on, and becomes the manifest at the end. Beside it, in
the folder ``<manifest key>.parts/``, lie immutable parts: the plan in chunks, snapshots of the live items,
segments of finished ones, and a log.

The log decides who may write. Its entries are numbered by stint (the work of one process between two waits) and by
entry, and each is written only where there is none. So a process that was given up for lost, and was not, fails at
its next entry: another one has continued the log. An entry is written before requests are sent, after reports were
created, and at the end; that last one has all that the stint has changed, and the head lists it as a delta. Every
few stints the deltas are merged into one, or replaced by a snapshot if they have grown as large as the last one.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from airflow_provider_amzbiz.batch.errors import RecordMissingError, RecordTakenError
from airflow_provider_amzbiz.batch.head import COMPLETE, Head, damaged
from airflow_provider_amzbiz.batch.item import Item, newest_report
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed
from airflow_provider_amzbiz.batch.parts import Log, Objects, Parts
from airflow_provider_amzbiz.batch.state import BatchState, Counts

# Requests in one part of the plan, and items in one segment of a new attempt.
CHUNK = 500
# Entries of the log that are listed as deltas before they are merged: each costs a resume one read.
_DELTAS = 16
# Names of segments that the head has itself; more are put in a part of their own, or it would grow with the batch.
NAMES = 64
_LIST = "names"


class Record:
    """The record, as one process sees it.

    :param key: of the manifest.
    :param owner: whose it is: a JSON-safe dict.
    """

    def __init__(self, objects: Objects, key: str, owner: Mapping[str, Any]) -> None:
        self.key = key
        self.owner = dict(owner)
        self.parts = Parts(objects, folder_of(key), secrets.token_hex(6))
        self._objects = objects
        self._etag: str | None = None
        self._dropped: tuple[str | None, frozenset[int]] | None = None

    @property
    def uri(self) -> str:
        """Where the head, and in the end the manifest, lies."""
        return self._objects.uri(self.key)

    def read(self) -> tuple[Head, dict[str, Any]] | None:
        """Return the head and all that the manifest has, None where a batch has not begun.

        :raises RecordMissingError: there is none, but the batch has begun.
        """
        found = self._objects.get(self.key)
        if found is None:
            if Log(self.parts, 1).has_begun():
                raise RecordMissingError(
                    f"{self.uri} is missing, although {self.parts.uri} shows that the batch has begun: restore "
                    "it, or delete that folder to begin again, which creates all reports again"
                )
            return None
        self._etag = found.etag
        return Head.from_bytes(found.body, self.uri, self.owner)

    def manifest_items(self, content: Mapping[str, Any]) -> list[Item]:
        """Return the items of a complete manifest.

        :raises RecordDamagedError: they cannot be read.
        """
        try:
            return [Item.from_dict(each) for each in content["items"]]
        except (KeyError, TypeError, AttributeError):
            raise damaged(self.uri) from None

    def load(self, head: Head) -> BatchState:
        """Return the live part, as of the last stint that has ended."""
        state = BatchState(
            requested=head.requested, cursor=head.cursor, planned=head.planned, rotation=head.rotation
        )
        names = [head.snapshot, *head.deltas] if head.snapshot else head.deltas
        contents = list(self.parts.get_all(names))
        if head.snapshot:
            items = map(Item.from_part, contents.pop(0))
            state.live = {item.index: item for item in items}
        for name, delta in zip(head.deltas, contents, strict=True):
            state.apply(delta["items"], delta["cursor"])
            if Log.is_entry(name):
                state.unmerged.update(map(int, delta["items"]))
        state.counts = Counts(**head.counts)
        return state

    def planned(self, head: Head, start: int, count: int | None = None) -> list[Item]:
        """Return some of the plan's requests.

        :param start: how many to leave out.
        :param count: how many to return at most; by default all.
        """
        first = start // CHUNK
        last = len(head.plan) if count is None else -(-(start + count) // CHUNK)
        parts = [part for content in self.parts.get_all(head.plan[first:last]) for part in content]
        chosen = islice(parts, start - first * CHUNK, None if count is None else start - first * CHUNK + count)
        return [Item.from_part(part) for part in chosen]

    def segments(self, head: Head) -> list[Item]:
        """Return the finished items on record, each as it was last."""
        latest: dict[int, Item] = {}
        for content in self.parts.get_all(list(self._named(head.segments))):
            latest.update((item.index, item) for item in map(Item.from_part, content))
        return list(latest.values())

    def _named(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if name.startswith(f"{_LIST}-"):
                yield from self._named(self.parts.get(name))
            else:
                yield name

    def dropped(self, head: Head) -> frozenset[int]:
        """Return the indexes of items that an earlier list had."""
        if self._dropped is None or self._dropped[0] != head.dropped:
            groups = self.parts.get(head.dropped) if head.dropped else []
            self._dropped = head.dropped, frozenset(part["index"] for group in groups for part in group["items"])
        return self._dropped[1]

    def put_items(self, kind: str, items: Sequence[Item]) -> list[str]:
        """Write items in parts of equal length, and return their names."""
        return [
            self.parts.put(kind, [item.to_part() for item in items[start : start + CHUNK]])[0]
            for start in range(0, len(items), CHUNK)
        ]

    def write_head(self, head: Head, **more: Any) -> None:
        """Write the head, if nobody else has since this process read or wrote it.

        :param more: what a manifest has beside.
        :raises RecordTakenError: another process has.
        :raises RecordMissingError: somebody has deleted it.
        """
        body = head.to_bytes(**more)
        condition = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        try:
            self._etag = self._objects.put(self.key, body, content_type="application/json", **condition)
        except PreconditionFailed:
            there = self._objects.get(self.key)
            if there is None:
                raise RecordMissingError(
                    f"{self.uri} was deleted while the batch ran: restore it, or delete {self.parts.uri} to begin "
                    "again, which creates all reports again"
                ) from None
            # boto3 repeats a write whose response was lost; then it is our own that is there.
            if there.body != body:
                raise RecordTakenError(
                    f"{self.uri} was written by another process: this one stops, so that nothing is created twice"
                ) from None
            self._etag = there.etag


def folder_of(key: str) -> str:
    """Return the folder of a manifest's parts."""
    return f"{key}.parts/"


class Stint:
    """One process's turn with the record, from its first entry of the log to its last one.

    :param known: indexes of items that the record has whole.
    """

    def __init__(self, record: Record, head: Head, state: BatchState, log: Log | None = None) -> None:
        self._record = record
        self.head = head
        self.state = state
        self._log = log or Log(record.parts, head.stint + 1)
        self._known = {*state.live, *state.fresh}
        self._noted: set[int] = set()
        self._touched: dict[int, Item] = {}
        self._lock = threading.Lock()
        self._adding = threading.Lock()
        self._waiting: dict[int, Item] = {}

    def open(self, items: Iterable[Item]) -> None:
        """Put on record what is about to be sent.

        :raises RecordTakenError: another process continues.
        """
        begun = list(items)
        self.touch(begun)
        self._log.write(self._changes(begun), self.state.cursor)

    def touch(self, items: Iterable[Item]) -> None:
        """Have items written when the stint is closed."""
        self._touched.update((item.index, item) for item in items)

    def note(self, item: Item) -> None:
        """Put an item on record now; several threads may call this, and those that wait share one entry.

        :raises RecordTakenError: another process continues.
        """
        with self._adding:
            self._waiting[item.index] = item
        with self._lock:
            with self._adding:
                due, self._waiting = self._waiting, {}
            if not due:
                # Whoever held the lock has written this item, too.
                return
            self.touch(due.values())
            self._log.write(self._changes(due.values()), self.state.cursor)

    def close(self) -> None:
        """Put all changes on record, and hand over to the next stint.

        :raises RecordTakenError: another process continues.
        """
        head, state = self.head, self.state
        state.finish(list(self._touched.values()))
        self._noted.clear()
        name, size = self._log.write(self._changes(self._touched.values()), state.cursor)
        self._known |= set(self._touched)
        state.unmerged.update(self._touched)
        head.deltas.append(name)
        head.sizes[1] += size
        if sum(map(Log.is_entry, head.deltas)) >= _DELTAS:
            self._merge()
        head.stint, head.rotation = self._log.stint, state.rotation
        head.cursor = state.cursor
        head.counts = state.counts.to_dict()
        self._record.write_head(head)
        self._touched = {}
        self._log = Log(self._record.parts, head.stint + 1)

    def newest_report(self, without: Container[str] = ()) -> str | None:
        """Return the id of the report that was asked for last, None where there is none.

        :param without: ids that are left out.
        """
        at_hand = newest_report([*self.state.live.values(), *self.state.fresh.values()], without)
        return at_hand or newest_report(self._record.segments(self.head), without)

    def _changes(self, items: Iterable[Item]) -> dict[str, Any]:
        there = self._known | self._noted
        changes = {str(item.index): item.to_part(whole=item.index not in there) for item in items}
        self._noted |= {int(index) for index in changes}
        return changes

    def _merge(self) -> None:
        """Keep the number of deltas small, and what is written linear, however many items are live."""
        head, state = self.head, self.state
        if head.sizes[1] >= head.sizes[0]:
            self._compact()
        else:
            changed = [state.live.get(index) or state.fresh[index] for index in sorted(state.unmerged)]
            delta = {"items": {str(item.index): item.to_part() for item in changed}, "cursor": state.cursor}
            name, _ = self._record.parts.put("delta", delta)
            head.deltas = [*(each for each in head.deltas if not Log.is_entry(each)), name]
        state.unmerged.clear()

    def _compact(self) -> None:
        """Write a snapshot, which replaces the deltas."""
        head, state = self.head, self.state
        if state.fresh:
            if len(head.segments) >= NAMES:
                head.segments = [self._record.parts.put(_LIST, head.segments)[0]]
            head.segments += self._record.put_items("segment", list(state.fresh.values()))
            self._known -= set(state.fresh)
            state.fresh = {}
        head.snapshot, size = self._record.parts.put("snapshot", [item.to_part() for item in state.live.values()])
        head.deltas, head.sizes = [], [size, 0]

    def complete(self) -> list[Item]:
        """Write the manifest, and return its items."""
        dropped = self._record.dropped(self.head)
        latest = {item.index: item for item in self._record.segments(self.head)}
        latest.update(self.state.fresh)
        items = [latest[index] for index in sorted(latest) if index not in dropped]
        head = replace(self.head, state=COMPLETE)
        self._record.write_head(head, items=[item.to_dict() for item in items])
        return items
