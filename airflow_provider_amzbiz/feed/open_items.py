"""Lines without a document: the list that people chase, and what the next run asks for again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from airflow_provider_amzbiz.feed.lines import Line, document_type_of, iso, open_key, text_of

OPEN, EXPIRED = "open", "expired"
_EXPIRED = "no longer asked for, after {days} days: {reason}"
Key = tuple[str, str, str, str, str, str]


@dataclass
class OpenItem:
    """A document that is still to come.

    :ivar key: as :func:`.open_key` gives it.
    :ivar asked: by transaction, when a run first asked for it, as ISO 8601 in UTC, and how many runs have.
    """

    key: Key
    asked: dict[str, tuple[str, int]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    lines: list[Line] = field(default_factory=list)
    is_expired: bool = False

    def row(self, asked_at: str, open_for: timedelta) -> dict[str, Any]:
        """Return it as a row of the table ``open_items``."""
        first = min(self.lines, key=lambda line: line["transaction_date"] or "~")
        own = [line for line in self.lines if document_type_of(line) == self.key[4]]
        totals = [line["total"] for line in own if line["total"] is not None]
        reason = "; ".join(dict.fromkeys(self.reasons))
        if self.is_expired:
            reason = _EXPIRED.format(days=open_for.days, reason=reason)
        copied = ("order_id", "order_line_item_id", "shipment_id", "transaction_date", "feed_date", "currency")
        more = ("legal_entity", "group_name", "po_number", "payment_instrument_type", "marketplace_id")
        return {
            **{name: first[name] for name in (*copied, *more)},
            "reason": reason,
            "status": EXPIRED if self.is_expired else OPEN,
            "document_type": self.key[4],
            "document_numbers": sorted(self.numbers),
            "transaction_ids": sorted({line["transaction_id"] for line in self.lines}),
            "total": text_of(sum(map(Decimal, totals), Decimal())) if totals else None,
            "first_asked_at": min(first for first, _ in self.asked.values()),
            "last_asked_at": asked_at,
            "times_asked": max(times for _, times in self.asked.values()),
        }

    def state(self) -> Iterator[dict[str, Any]]:
        """Yield what the next run needs to ask for it again."""
        for line in self.lines:
            first_asked, asked = self.asked[line["transaction_id"]]
            yield {"key": list(self.key), "first_asked": first_asked, "asked": asked, "line": line}


def open_items(
    planned: Iterable[Mapping[str, Any]],
    failure: Callable[[int], tuple[str, str, str] | None],
    asked_at: datetime,
    open_for: timedelta,
) -> Iterator[OpenItem]:
    """Yield the open items of a run.

    :param planned: lines of the plan, those with the same ids in a row.
    :param failure: a document's type, number and the reason why it was not delivered, None where it was.
    :param asked_at: when the run began.
    :param open_for: for how long an item is asked for.
    """
    now = iso(asked_at) or ""
    for _, group in groupby(planned, key=lambda each: open_key(each["line"], "")):
        found: dict[Key, OpenItem] = {}
        for each in group:
            for kind, reason, number in _reasons(each, failure):
                key = open_key(each["line"], kind)
                first_asked, times = each["marks"].get(kind) or (now, 0)
                item = found.setdefault(key, OpenItem(key))
                item.asked[each["line"]["transaction_id"]] = first_asked, times + 1
                item.reasons.append(reason)
                item.numbers |= {number} if number else set()
                if each["line"] not in item.lines:
                    item.lines.append(each["line"])
        for item in found.values():
            # Such as a refund of an order line that had another one before.
            latest = max(first for first, _ in item.asked.values())
            item.is_expired = datetime.fromisoformat(latest) + open_for < asked_at
            yield item


def _reasons(
    planned: Mapping[str, Any], failure: Callable[[int], tuple[str, str, str] | None]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield why a line is open: type of the document, reason, and its number."""
    if planned["reason"]:
        yield document_type_of(planned["line"]), planned["reason"], None
    documents: Sequence[tuple[int, bool]] = planned["documents"]
    for document, _ in documents:
        if failed := failure(document):
            kind, number, reason = failed
            yield kind, reason, number
