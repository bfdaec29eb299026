"""What a listing shows of the other requests of a batch, so that none is given the report of another one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.record import Record, Stint


class Siblings:
    """The requests of a batch, as they are when a round begins. Safe to use in several threads.

    :param record: read only if a search needs it, and then once.
    """

    def __init__(self, record: Record, stint: Stint) -> None:
        self._record = record
        self._stint = stint
        self._lock = threading.Lock()
        self._ids: frozenset[str] | None = None
        # This round may create their reports before a search sees those that were lost.
        self._open = [item for item in stint.state.live.values() if _is_open(item)]

    def report_ids(self) -> frozenset[str]:
        """Return the ids of all reports that the record has: of other requests, for one that has none."""
        return self._read()

    def has_open_like(self, item: Item) -> bool:
        """Tell whether a lost process may have sent another request, too, that looks the same in a listing."""
        self._read()
        return any(each is not item and _shown(each) == _shown(item) for each in self._open)

    def _read(self) -> frozenset[str]:
        with self._lock:
            if self._ids is None:
                state = self._stint.state
                others = [*state.fresh.values(), *self._record.segments(self._stint.head), *self._dropped()]
                self._open += filter(_is_open, others)
                # What is created in this round is known to the client.
                items = [*state.live.values(), *others]
                self._ids = frozenset(item.report_id for item in items if item.report_id)
            return self._ids

    def _dropped(self) -> Iterator[Item]:
        head = self._stint.head
        for group in self._record.parts.get(head.dropped) if head.dropped else ():
            yield from map(Item.from_part, group["items"])


def _is_open(item: Item) -> bool:
    # One that has failed, too: its last response may have been lost.
    return item.report_id is None and item.sent_at is not None


def _shown(item: Item) -> str:
    """Return what a listing shows of an item's report."""
    body = {name: value for name, value in item.body.items() if name != "reportOptions"}
    return json.dumps({**body, "marketplaceIds": sorted(set(body["marketplaceIds"]))}, sort_keys=True)
