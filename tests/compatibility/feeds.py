"""Two days of a feed. What an earlier version began with them is continued with the same."""

from __future__ import annotations

import base64
from datetime import datetime

from airflow_provider_amzbiz.batch.delivery import Delivery
from tests.feed.world import DAY, START, RowsApi, World, charge, invoice, line

DE, US = "A1PA6795UKMFR9", "ATVPDKIKX0DER"


def first_day():
    """Return a world with an invoice of an order in Europe, and a line whose invoice has no number yet."""
    details = {("O1", "L1", "S1"): [invoice("N1")], ("O2", "L1", "S1"): [invoice("Pending")]}
    transactions = [charge("T1", line(), marketplace=DE), charge("T2", line(order="O2", total="7.00"))]
    world = World(RowsApi(transactions, details))
    world.clock.advance(DAY)
    return world


def second_day(world):
    """Let the order have a second invoice, and the line its number."""
    world.clock.advance(DAY)
    world.api.details["O1", "L2", "S2"] = [invoice("N2")]
    world.api.details["O2", "L1", "S1"] = [invoice("N9")]
    later = line(item="L2", shipment="S2", total="5.00")
    world.api.transactions.append(charge("T3", later, marketplace=DE, feed_date=START + 1.5 * DAY))


def recorded_feed():
    """Return what a feed has left after its first day, and with the plan of its second one."""
    world = first_day()
    world.run("first")
    between = _state_of(world)
    second_day(world)
    world.begin("second").plan(world.api, world.ledger)
    return {"between": between, "planned": _state_of(world)}


def restored(state):
    """Return the world of the first day with the state of a feed."""
    world = first_day()
    for key, (body, etag, time) in state["objects"].items():
        world.store.objects[key] = base64.b64decode(body), etag, datetime.fromisoformat(time)
    world.ledger.entries.update({name: Delivery.from_dict(each) for name, each in state["ledger"].items()})
    return world


def _state_of(world):
    return {
        "objects": {
            key: [base64.b64encode(body).decode(), etag, time.isoformat()]
            for key, (body, etag, time) in world.store.objects.items()
        },
        "ledger": {name: delivery.to_dict() for name, delivery in world.ledger.entries.items()},
    }
