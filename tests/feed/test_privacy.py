"""Where the feed keeps buyers and payers, and that the page about personal data may be followed."""

from __future__ import annotations

import fnmatch
import gzip
import json

from airflow_provider_amzbiz.feed.documents import Rules
from airflow_provider_amzbiz.feed.names import DOCUMENT_TYPES
from airflow_provider_amzbiz.feed.run import FeedSettings
from tests.feed.test_company import world_of
from tests.feed.world import DAY, KEY, RowsApi, World, charge, invoice, line

US, DE, JP = "ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528"
PLACES = {
    "tables/transactions/*": "transactions",
    "tables/document_lines/*": "document_lines",
    "ledger/feed/account/runs/*/lines-*": "lines",
    "ledger/feed/account/runs/*/open-*": "open",
}


def run_for_days(world, after=lambda: None):
    while world.clock.now() < world.company.end + DAY:
        world.clock.advance(2 * DAY)
        world.run()
        after()


def places_of(world, values):
    """Return where in the store one of some strings stands, by the name of the place or the key."""
    found = set()
    for key, (body, *_) in world.store.objects.items():
        text = (gzip.decompress(body) if key.endswith(".gz") else body).decode()
        if any(each in text for each in values):
            found.add(next((name for pattern, name in PLACES.items() if fnmatch.fnmatch(key, pattern)), key))
    return found


def people_of(world):
    """Return ids, names and e-mail addresses as the API shows them, as JSON has them."""
    shown = list(world.api.get_transactions(world.company.start - DAY, world.company.end + DAY))
    people = [person for each in shown for person in (each.buyer, each.payer) if person]
    values = {value for each in people for value in (each.id, each.name, each.email) if value}
    assert len(values) > 2
    return {json.dumps(each, ensure_ascii=False)[1:-1] for each in values}


def test_without_the_parameter_nobody_is_named_anywhere():
    world = world_of(4, 12, {US, DE, JP}, days=4)
    run_for_days(world)
    assert places_of(world, people_of(world)) == set()


def test_with_it_people_are_in_two_tables_and_in_two_kinds_of_state():
    world = world_of(4, 12, {US, DE, JP}, days=4)
    world.settings = FeedSettings(KEY, Rules(DOCUMENT_TYPES), include_personal_data=True)
    run_for_days(world)
    assert places_of(world, people_of(world)) == set(PLACES.values())


def test_once_it_is_switched_off_open_lines_name_nobody_either():
    people = {"buyer": {"id": "p-1", "name": "Jane Roe"}, "payer": {"id": "p-2", "email": "joe@example.com"}}
    world = World(
        RowsApi([charge("T1", line(), **people)]), settings=FeedSettings(KEY, include_personal_data=True)
    )
    for number in range(2):
        world.clock.advance(10 * DAY)
        world.run(f"on-{number}")
    kept = dict(world.store.objects)
    assert places_of(world, ["Jane", "joe@"])
    world.settings = FeedSettings(KEY)
    for number in range(2):
        # Its transaction is out of the window by then.
        world.clock.advance(10 * DAY)
        world.run(f"off-{number}")
    world.api.details["O1", "L1", "S1"] = [invoice("N1")]
    world.clock.advance(10 * DAY)
    world.run("issued")
    assert [(row["document_number"], row["buyer"]) for row in world.tables.lines] == [("N1", None)]
    for key in kept:
        del world.store.objects[key]
    assert places_of(world, ["Jane", "joe@"]) == set()


def test_lines_of_ended_runs_may_be_deleted():
    world = world_of(1, 40, {US, DE, JP})

    def purge():
        cursor = json.loads(world.store.objects["ledger/feed/account/cursor.json"][0])
        for key in list(world.store.objects):
            name = key.rpartition("/")[2]
            if name.startswith("lines-") or (name.startswith("open-") and key not in cursor["open"]):
                del world.store.objects[key]

    run_for_days(world, purge)
    assert not [key for key in world.store.objects if "/lines-" in key]
    world.check_books()
