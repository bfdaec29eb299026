"""The ledger as a feed uses it: a report may bring several documents, and is due while one of them is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import translated_errors
from airflow_provider_amzbiz.feed.arrivals import joined
from airflow_provider_amzbiz.transfers.batch_actions import Deliveries, described

if TYPE_CHECKING:
    from airflow_provider_amzbiz.batch.item import Item
    from airflow_provider_amzbiz.batch.ledger import Delivery, Ledger
    from airflow_provider_amzbiz.feed.plan import Plan
    from airflow_provider_amzbiz.transfers.batch_actions import Objects


class FeedDeliveries(Deliveries):
    """The ledger of a feed.

    :param verify: whether what it has must still be in S3.
    :param by: the name of the feed's run.
    """

    def __init__(self, ledger: Ledger, *, verify: bool, by: str) -> None:
        super().__init__(ledger, verify=verify, by=by)
        self._of_feed = ledger
        self._plan: Plan | None = None
        self._numbers: dict[str, int] = {}
        self._identities: dict[str, list[str]] = {}

    def use_plan(self, plan: Plan) -> None:
        """Learn from a plan which documents each request brings."""
        self._plan = plan
        self._numbers = {plan.fingerprint(number): number for number in plan.due}
        self._identities = {name: plan.identities(number) for name, number in self._numbers.items()}

    def load_documents(self, identities: Iterable[str]) -> Mapping[str, Delivery]:
        """Return the deliveries of documents that were delivered, and are still in S3."""
        from airflow_provider_amzbiz.batch.object_store import in_threads

        with translated_errors():
            found = self._of_feed.load(identities)
            # Documents that came together have one delivery each, of the same objects.
            distinct = {self._content(each): (identity, each) for identity, each in found.items()}
            there = dict(zip(distinct, in_threads(self._is_there, distinct.values()), strict=True))
        return {identity: each for identity, each in found.items() if there[self._content(each)]}

    def load(self, items: Sequence[Item]) -> dict[str, Objects]:
        """Return what was delivered of many items, by identity: of those whose documents were, all of them."""
        known = self.load_documents(identity for item in items for identity in self._identities[item.identity])
        found = {item.identity: self._objects(known, item) for item in items}
        return {identity: objects for identity, objects in found.items() if objects is not None}

    def find(self, item: Item) -> Objects | None:
        """Return what was delivered of an item: another run may have, since it was planned."""
        return self._objects(self.load_documents(self._identities[item.identity]), item)

    def record(self, item: Item, objects: Objects) -> None:
        """Record a delivery, for each document that is among the objects."""
        brought = self._brought(item, objects)
        for identity in brought:
            self._record(self._of_feed, identity, self._delivery(item, objects))
        request = self._known_plan.request_identity(self._numbers[item.identity])
        if brought and request:
            self._record_request(request, self._delivery(item, objects))

    def _record_request(self, identity: str, delivery: Delivery) -> None:
        """Record what a request has brought so far, in all runs: what is new in the next one is told by it."""
        with translated_errors():
            there = self._of_feed.find(identity)
            if there is not None and identity not in self._lost:
                delivery = replace(delivery, objects=tuple(joined(there.objects, delivery.objects)))
            if there != delivery:
                self._of_feed.record(identity, delivery, replaces=there)

    def index(self, items: Iterable[Item]) -> None:
        """Add all that was stored to the index, which makes the next :meth:`load` quick."""
        stored = {
            identity: self._delivery(item, item.objects or [])
            for item in items
            if item.is_stored
            for identity in self._brought(item, item.objects or [])
        }
        if stored:
            with translated_errors():
                self._of_feed.index(stored)

    def _objects(self, known: Mapping[str, Delivery], item: Item) -> Objects | None:
        found = [each for each in map(known.get, self._identities[item.identity]) if each]
        if not found or len(found) < len(self._identities[item.identity]):
            return None
        found.sort(key=lambda each: each.delivered_at)
        item.delivered = described(found[-1])
        # Documents of one request may have come one after the other.
        objects: list[Mapping[str, Any]] = []
        for each in found:
            objects = joined(objects, each.objects)
        return [dict(each) for each in objects]

    def _brought(self, item: Item, objects: Objects) -> list[str]:
        return self._known_plan.brought(self._numbers[item.identity], objects)

    @property
    def _known_plan(self) -> Plan:
        if self._plan is None:
            raise AssertionError("the plan is known before its requests are created")
        return self._plan

    @staticmethod
    def _content(delivery: Delivery) -> tuple[str, ...]:
        return tuple(each["uri"] for each in delivery.objects)
