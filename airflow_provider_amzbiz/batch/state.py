"""What a batch has come to: items under way, counts of those that are finished, and requests not yet begun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_amzbiz.batch.item import Item


@dataclass
class Counts:
    """Finished items, by how they ended.

    :ivar failed: of these, ``permanent`` cannot be helped by a retry.
    :ivar bytes: of the documents that this batch has stored, decoded.
    """

    stored: int = 0
    already_delivered: int = 0
    skipped: int = 0
    failed: int = 0
    permanent: int = 0
    bytes: int = 0

    @property
    def finished(self) -> int:
        """All of them."""
        return self.stored + self.already_delivered + self.skipped + self.failed

    def add(self, item: Item) -> None:
        """Count a finished item."""
        self.stored += item.is_stored
        self.already_delivered += item.already_delivered
        self.skipped += item.skipped
        self.failed += item.error is not None
        self.permanent += item.error is not None and item.permanent
        if item.is_stored:
            self.bytes += sum(each["bytes"] for each in item.objects or ())

    def to_dict(self) -> dict[str, int]:
        """Return a JSON-safe dict."""
        return asdict(self)


@dataclass
class Pending:
    """Items with something left to do, by what that is.

    :ivar creates: reports that are still to be created, those of requests that were not begun included.
    :ivar to_create: items that were begun, but have no report.
    :ivar running: items whose report has not ended.
    :ivar to_store: items whose document waits to be stored.
    """

    creates: int
    to_create: list[Item] = field(default_factory=list)
    running: list[Item] = field(default_factory=list)
    to_store: list[Item] = field(default_factory=list)


@dataclass
class BatchState:
    """The live part of a batch; what is finished and on record is only counted.

    :ivar requested: requests in all.
    :ivar live: items that were begun and are not finished, by index.
    :ivar fresh: items that were finished since the record's last segment, by index.
    :ivar unmerged: indexes of items that have changed since the record's last snapshot or merged delta.
    :ivar cursor: planned requests that were begun, of those that the attempt's plan lists.
    :ivar planned: requests that it lists.
    :ivar rotation: index of the last report that the latest trigger was given, where it was not given all.
    """

    requested: int = 0
    live: dict[int, Item] = field(default_factory=dict)
    fresh: dict[int, Item] = field(default_factory=dict)
    unmerged: set[int] = field(default_factory=set)
    counts: Counts = field(default_factory=Counts)
    cursor: int = 0
    planned: int = 0
    rotation: int = -1

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.live and self.cursor >= self.planned

    @property
    def unfinished(self) -> int:
        """Requests for which something is left to do."""
        return len(self.live) + self.planned - self.cursor

    def pending(self) -> Pending:
        """Return what is left to do now.

        In one pass, for a caller that needs several parts of it: thousands of reports may be running.
        """
        found = Pending(creates=self.planned - self.cursor)
        for item in self.live.values():
            if item.is_finished:
                continue
            if item.report_id is None:
                found.to_create.append(item)
            elif item.report_document_id is None:
                found.running.append(item)
            else:
                found.to_store.append(item)
        found.creates += len(found.to_create)
        return found

    def begin(self, items: Iterable[Item]) -> None:
        """Begin the next planned items."""
        for item in items:
            self.live[item.index] = item
            self.cursor += 1

    def finish(self, items: Iterable[Item]) -> None:
        """Count those that are finished now, and put them aside."""
        for item in items:
            if item.is_finished and self.live.pop(item.index, None) is not None:
                self.fresh[item.index] = item
                self.counts.add(item)

    def apply(self, changes: Mapping[str, Mapping[str, Any]], cursor: int) -> None:
        """Take over what a process has put on record."""
        self.cursor = max(self.cursor, cursor)
        changed = []
        for index, part in changes.items():
            item = self.live.get(int(index)) or self.fresh.get(int(index))
            if item is None:
                item = Item.from_part(part)
                self.live[item.index] = item
            elif item.index in self.live:
                item.update(part)
            changed.append(item)
        self.finish(changed)
