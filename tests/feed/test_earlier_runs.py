"""A request that is made again replaces its files: the rows of those that Amazon has made again follow."""

from __future__ import annotations

import hashlib

import pytest

from tests.feed.test_arrivals import DE, NamelessWorld
from tests.feed.world import DAY, Killed, RowsApi, World, charge, invoice, line


def world_of_one(kind=World):
    """Return a world with an invoice of two lines, which was delivered."""
    world = world_of_none(kind)
    world.run("first")
    return world


def world_of_none(kind=World):
    """Return a world with an invoice of two lines, which no run has read yet."""
    lines = line(item="L1"), line(item="L2", total="5.00")
    details = {("O1", each, "S1"): [invoice("N1")] for each in ("L1", "L2")}
    world = kind(RowsApi([charge("T1", *lines, marketplace=DE, legalEntityName="Example AG")], details))
    world.clock.advance(DAY)
    return world


def add_document(world, number):
    """Have Amazon bill another line of the order, long after the ones before."""
    world.clock.advance(60 * DAY)
    item = f"L{number}"
    world.api.details["O1", item, "S2"] = [invoice(number)]
    later = charge(f"T-{number}", line(item=item, shipment="S2"), marketplace=DE, feed_date=world.clock.now())
    world.api.transactions.append(later)


def add_refund(world, number):
    """Have Amazon refund a line of the first invoice, of which the next run then knows a part."""
    world.clock.advance(60 * DAY)
    world.api.details["O1", "L2", "S1"].append(invoice(number, "CREDIT_MEMO"))
    of = line(item="L2", total="-1.00")
    refund = charge(f"T-{number}", of, kind="REFUND", marketplace=DE, feed_date=world.clock.now())
    world.api.transactions.append(refund)


def rows_by_uri(world):
    return {row["object_uri"]: row for row in world.tables.documents}


def assert_rows_are_right(world):
    """Compare every row with the object that it names."""
    rows = rows_by_uri(world)
    assert set(rows) == {world.store.uri(key) for key in world.stored}
    for key, content in world.stored.items():
        row = rows[world.store.uri(key)]
        assert (row["size_bytes"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def of_first(row):
    names = ("document_number", "order_ids", "total_amount", "legal_entity", "feed_date_min", "feed_date_max")
    return {name: row[name] for name in names}


@pytest.mark.parametrize("again", [b"N1, made again", b"M1"])
@pytest.mark.parametrize("kind", [World, NamelessWorld])
def test_a_document_that_amazon_made_again_has_its_new_checksum_and_keeps_the_rest(kind, again):
    world = world_of_one(kind)
    [before] = world.tables.documents
    assert of_first(before)["total_amount"] == "15.00"
    world.made_again["N1"] = again
    add_document(world, "N2")
    world.run("second")
    assert_rows_are_right(world)
    after = rows_by_uri(world)[before["object_uri"]]
    assert after["sha256"] != before["sha256"]
    assert of_first(after) == of_first(before)
    assert after["fetched_at"] > before["fetched_at"]


def test_a_document_that_is_the_same_again_keeps_its_row():
    world = world_of_one()
    add_document(world, "N2")
    world.run("second")
    assert_rows_are_right(world)
    written = [row["document_number"] for file in world.tables.files["documents"].values() for row in file]
    assert written == ["N1", "N2"]


@pytest.mark.parametrize("add", [add_document, add_refund])
@pytest.mark.parametrize("kind", [World, NamelessWorld])
def test_what_is_known_of_a_document_outlasts_any_number_of_runs(kind, add):
    world = world_of_one(kind)
    [before] = world.tables.documents
    for number in ("N2", "N3", "N4"):
        add(world, number)
        world.run(f"run-{number}")
        assert_rows_are_right(world)
    world.made_again |= {"N1": b"other", "N3": b"and another"}
    add(world, "N5")
    world.run("last")
    assert_rows_are_right(world)
    rows = rows_by_uri(world)
    assert of_first(rows[before["object_uri"]]) == of_first(before)
    assert sorted(row["document_number"] for row in rows.values()) == ["N1", "N2", "N3", "N4", "N5"]


def test_a_run_that_never_wrote_its_tables_leaves_the_rows_to_the_next_one():
    world = world_of_one()
    world.made_again["N1"] = b"made again"
    add_document(world, "N2")
    lost = world.begin("lost")
    world.deliver(lost, lost.plan(world.api, world.ledger))
    world.run("next")
    assert len(world.created) == 2
    assert_rows_are_right(world)
    assert of_first(rows_by_uri(world)[world.tables.documents[0]["object_uri"]])["total_amount"] == "15.00"
    world.made_again["N1"] = b"once more"
    add_document(world, "N3")
    world.run("last")
    assert_rows_are_right(world)


@pytest.mark.parametrize("again", [b"N1", b"made again"])
@pytest.mark.parametrize("numbers", [["N2"], ["N2", "N3", "N4"]])
def test_what_several_runs_delivered_that_never_wrote_their_tables_has_one_row_each(numbers, again):
    world = world_of_none()
    for number in (None, *numbers):
        if number:
            world.made_again["N1"] = again
            add_document(world, number)
        lost = world.begin(f"lost-{number}")
        world.deliver(lost, lost.plan(world.api, world.ledger))
    world.run("last")
    [file] = world.tables.files["documents"].values()
    assert sorted(row["document_number"] for row in file) == ["N1", *numbers]
    assert_rows_are_right(world)


def test_a_report_that_lacks_a_file_of_an_earlier_lost_run_brings_the_others_once():
    world = world_of_none()
    add_document(world, "N2")
    first = world.begin("lost-1")
    world.deliver(first, first.plan(world.api, world.ledger))
    add_document(world, "N3")
    world.lacking = {"N2"}
    second = world.begin("lost-2")
    world.deliver(second, second.plan(world.api, world.ledger))
    world.run("last")
    [file] = world.tables.files["documents"].values()
    assert sorted(row["document_number"] for row in file) == ["N1", "N2", "N3"]
    assert_rows_are_right(world)


@pytest.mark.parametrize("add", [add_document, add_refund])
@pytest.mark.parametrize("again", [b"N1", b"made again"])
def test_what_a_run_knew_of_a_document_that_another_one_delivered_stays(add, again):
    """Later runs read a part of its lines only, and the run that delivered it never writes a row."""
    world = world_of_none()
    lost = world.begin("lost")
    world.deliver(lost, lost.plan(world.api, world.ledger))
    world.run("next")
    [before] = world.tables.documents
    assert of_first(before)["total_amount"] == "15.00"
    for number in ("N2", "N3"):
        add(world, number)
        world.made_again["N1"] = again
        world.run(f"run-{number}")
        assert_rows_are_right(world)
    assert of_first(rows_by_uri(world)[before["object_uri"]]) == of_first(before)


def test_a_run_without_tables_leaves_its_rows_to_the_first_one_with_tables():
    world = world_of_none()
    first = world.begin("first")
    plan = first.plan(world.api, world.ledger)
    first.finish(plan, world.deliver(first, plan))
    assert world.tables.documents == []
    world.clock.advance(DAY)
    world.run("second")
    assert [of_first(row)["total_amount"] for row in world.tables.documents] == ["15.00"]
    assert_rows_are_right(world)


def test_a_run_that_is_killed_at_any_write_has_the_right_rows_after_its_retry():
    for writes in range(40):
        world = world_of_one()
        world.made_again["N1"] = b"made again"
        add_document(world, "N2")
        world.store.writes_left = writes
        try:
            world.run("second")
        except Killed:
            world.store.writes_left = None
            world.run("second")
        else:
            break
        assert_rows_are_right(world)
    assert writes > 5
