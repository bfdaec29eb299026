"""A ledger has one feed of each account: another one would pass documents that the first never reads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.feed.documents import Rules
from airflow_provider_amzbiz.feed.run import FeedSettings
from tests.feed.world import DAY, KEY, START, RowsApi, World, charge, invoice, line

CURSOR = "ledger/feed/account/cursor.json"
BOTH = ("Invoice", "CreditMemo")


def settings_of(*types, **more):
    return FeedSettings(KEY, Rules(types), bucket="bucket", **more)


@pytest.fixture
def world():
    """Ten days with a refund each, of which a feed of invoices has read all."""
    days = range(10)
    refunds = [
        charge(f"R{day}", line(f"O{day}", total="-5.00"), kind="REFUND", feed_date=START + day * DAY)
        for day in days
    ]
    details = {(f"O{day}", "L1", "S1"): [invoice(f"I{day}"), invoice(f"C{day}", "CREDIT_MEMO")] for day in days}
    found = World(RowsApi(refunds, details), settings=settings_of("Invoice"))
    found.clock.advance(10 * DAY)
    found.run("daily")
    return found


def requested(world, start):
    return {number for _, options in world.created if (number := json.loads(options)["invoiceId"])[0] == start}


def cursor(world):
    return json.loads(world.store.objects[CURSOR][0])


@pytest.mark.parametrize("types", [("CreditMemo",), BOTH])
def test_other_types_cannot_continue_where_a_feed_has_stopped(world, types):
    world.settings = settings_of(*types)
    before = dict(world.store.objects)
    with pytest.raises(InvalidParameterError, match=r"has \{'document_types': \['Invoice'\]\} up to 2026-10-11"):
        world.begin("weekly")
    assert world.store.objects == before
    world.settings = settings_of("Invoice")
    world.clock.advance(DAY)
    world.run("the daily one continues")


def test_another_bucket_cannot_continue_where_a_feed_has_stopped(world):
    world.settings = replace(world.settings, bucket="bucket-of-tests")
    with pytest.raises(InvalidParameterError, match="give a second feed a ledger of its own"):
        world.begin("test")


def test_a_type_that_is_added_begins_at_the_feed_start_of_one_run(world):
    assert requested(world, "C") == set()
    world.settings = settings_of(*BOTH)
    world.run("once", feed_start=START)
    assert requested(world, "C") == {f"C{day}" for day in range(10)}
    assert cursor(world)["feed"] == {"document_types": sorted(BOTH), "bucket": "bucket"}
    world.clock.advance(DAY)
    world.run("from now on")
    # What has not been told of the change does not undo it.
    world.settings = settings_of("Invoice")
    with pytest.raises(InvalidParameterError, match="document_types"):
        world.begin("other")


def test_a_window_after_the_cursor_leaves_it_to_its_feed(world):
    world.clock.advance(5 * DAY)
    world.settings = settings_of(*BOTH)
    world.run("later", feed_start=world.clock.now() - DAY)
    assert cursor(world)["feed"]["document_types"] == ["Invoice"]


def test_the_order_of_the_types_and_the_key_may_change(world):
    world.settings = settings_of(*BOTH)
    world.run("once", feed_start=START)
    world.clock.advance(DAY)
    world.settings = replace(settings_of(*reversed(BOTH)), key="elsewhere/{document_number}/{name}")
    world.run("again")


def test_a_cursor_of_an_earlier_release_is_continued(world):
    content = {name: value for name, value in cursor(world).items() if name != "feed"}
    world.store.put(CURSOR, json.dumps(content).encode(), content_type="")
    world.settings = settings_of(*BOTH)
    world.clock.advance(DAY)
    begun = world.begin("next")
    assert begun.window.start == START + 7 * DAY
    world.run("next")
    assert cursor(world)["feed"]["document_types"] == sorted(BOTH)


def test_a_run_that_an_earlier_release_has_begun_is_finished(world):
    world.clock.advance(DAY)
    begun = world.begin("next")
    key = f"ledger/feed/account/runs/{begun.name}/begin.json"
    content = {name: value for name, value in json.loads(world.store.objects[key][0]).items() if name != "feed"}
    world.store.put(key, json.dumps(content).encode(), content_type="")
    world.run("next")
    assert cursor(world)["run"] == begun.name
