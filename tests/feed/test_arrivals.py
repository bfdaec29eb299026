"""A report that brings fewer documents than Amazon lists: what is missing stays due, and is listed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_amzbiz.feed import names
from airflow_provider_amzbiz.feed.arrivals import arrived, match
from airflow_provider_amzbiz.transfers.feed_deliveries import FeedDeliveries
from tests.feed.world import DAY, START, RowsApi, World, charge, invoice, line

DE, JP = "A1PA6795UKMFR9", "A1VC38T7YXB528"


class NamelessWorld(World):
    """A world whose files are named by their position."""

    def files_of(self, numbers):
        there = [each for each in numbers if each not in self.lacking]
        return {
            f"document-{position}.pdf": self.made_again.get(each, each.encode())
            for position, each in enumerate(there)
        }


def world_of_two(kind=World, marketplace=DE):
    """Return a world with two documents that one request brings."""
    shipments = ("S1", "S2") if marketplace == DE else ("S1", "S1")
    lines = [line("O1", f"L{number}", shipment) for number, shipment in enumerate(shipments)]
    details = {
        ("O1", f"L{number}", shipment): [invoice(f"N{number + 1}")] for number, shipment in enumerate(shipments)
    }
    world = kind(RowsApi([charge("T1", *lines, marketplace=marketplace)], details))
    world.clock.advance(DAY)
    return world


def documents_of(world):
    return sorted(row["document_number"] for row in world.tables.documents)


def open_of(world):
    return [(row["document_numbers"], row["reason"], row["status"]) for row in world.tables.open_items]


@pytest.mark.parametrize("marketplace", [DE, JP])
def test_a_document_that_its_report_lacks_is_asked_for_again(marketplace):
    world = world_of_two(marketplace=marketplace)
    world.lacking = {"N2"}
    for run in ("first", "second"):
        world.run(run)
        assert documents_of(world) == ["N1"]
        assert open_of(world) == [(["N2"], f"Invoice N2: {names.NOT_IN_REPORT}", "open")]
        assert [row["document_number"] for row in world.tables.lines] == ["N1"]
        world.clock.advance(DAY)
    world.lacking.clear()
    world.run("third")
    assert documents_of(world) == ["N1", "N2"]
    assert open_of(world) == []
    assert sorted(row["document_number"] for row in world.tables.lines) == ["N1", "N2"]
    world.clock.advance(DAY)
    world.run("fourth")
    assert len(world.created) == 3
    # Each has one row, of the run that brought it.
    written = [row["document_number"] for file in world.tables.files["documents"].values() for row in file]
    assert written == ["N1", "N2"]


def test_a_document_that_no_report_ever_brings_is_given_up_in_the_open():
    world = world_of_two()
    world.lacking = {"N2"}
    for run in range(12):
        world.run(f"run-{run}")
        world.clock.advance(5 * DAY)
    (row,) = world.tables.expired
    assert row["document_numbers"] == ["N2"]
    assert row["reason"] == f"no longer asked for, after 45 days: Invoice N2: {names.NOT_IN_REPORT}"
    assert world.tables.open_items == []
    # Nobody asks for it any more.
    assert len(world.created) == 11


def test_too_few_files_without_a_number_deliver_none():
    world = world_of_two(NamelessWorld)
    world.lacking = {"N2"}
    world.run("first")
    assert documents_of(world) == [None]
    assert open_of(world) == [([each], f"Invoice {each}: {names.TOO_FEW_FILES}", "open") for each in ("N1", "N2")]
    world.lacking.clear()
    world.clock.advance(DAY)
    world.run("second")
    assert open_of(world) == []
    assert len(world.tables.documents) == 2
    world.clock.advance(DAY)
    world.run("third")
    assert len(world.created) == 2


def test_a_new_document_of_an_order_is_no_old_file_whatever_its_name():
    world = NamelessWorld(RowsApi([charge("T1", line(), marketplace=DE)], {("O1", "L1", "S1"): [invoice("N1")]}))
    world.clock.advance(DAY)
    world.run("first")
    assert documents_of(world) == ["N1"]
    later = charge("T2", line(item="L2", shipment="S2"), marketplace=DE, feed_date=START + 60 * DAY)
    world.api.transactions.append(later)
    world.api.details["O1", "L2", "S2"] = [invoice("N2")]
    world.lacking = {"N2"}
    world.clock.advance(60 * DAY)
    world.run("second")
    assert [numbers for numbers, _, _ in open_of(world)] == [["N2"]]
    world.lacking.clear()
    world.clock.advance(DAY)
    world.run("third")
    assert documents_of(world) == ["N1", "N2"]
    assert open_of(world) == []


def test_each_document_of_an_order_is_missed_even_after_others_came():
    world = World(RowsApi([], {}))
    world.lacking = {"N3"}
    for number in (1, 2, 3):
        world.clock.advance(60 * DAY)
        shipment = f"S{number}"
        world.api.details["O1", "L1", shipment] = [invoice(f"N{number}")]
        transaction = charge(f"T{number}", line(shipment=shipment), marketplace=DE, feed_date=world.clock.now())
        world.api.transactions.append(transaction)
        world.run(f"run-{number}")
    assert documents_of(world) == ["N1", "N2"]
    assert open_of(world) == [(["N3"], f"Invoice N3: {names.NOT_IN_REPORT}", "open")]


def test_a_file_without_a_number_gets_its_row_although_its_run_never_ended():
    world = NamelessWorld(RowsApi([charge("T1", line(), marketplace=DE)], {("O1", "L1", "S1"): [invoice("N1")]}))
    world.clock.advance(DAY)
    lost = world.begin("lost")
    world.deliver(lost, lost.plan(world.api, world.ledger))
    world.run("next")
    assert len(world.created) == 1
    assert documents_of(world) == ["N1"]


def test_a_report_that_fails_takes_nothing_from_what_came_before():
    world = world_of_two()
    world.lacking = {"N2"}
    world.run("first")
    world.cancelled = {"O1"}
    world.clock.advance(DAY)
    world.run("second")
    assert open_of(world) == [(["N2"], "Invoice N2: the report ended CANCELLED", "open")]
    assert [row["document_number"] for row in world.tables.lines] == ["N1"]


def described(*file_names):
    return [{"uri": f"s3://bucket/DE/O1/{name}"} for name in file_names]


def entries(*numbers, delivered=()):
    known = {number: {"objects": described(f"{number}.pdf")} for number in delivered}
    return [{"id": each, "number": number, "delivered": known.get(number)} for each, number in enumerate(numbers)]


@pytest.mark.parametrize(
    ("files", "numbers", "expected"),
    [
        (["N1.pdf", "N2.pdf"], ["N1", "N2"], {0, 1}),
        # The number of another document begins with it.
        (["N11.pdf"], ["N1", "N2"], set()),
        (["INV-1-2026-12.pdf", "INV-1-2026-13.pdf"], ["INV-1-2026-1", "INV-1-2026-12"], {1}),
        # As a safe key has it.
        (["invoice_A_7.pdf"], ["A/7", "A/8"], {0}),
        (["N1.pdf", "N3.pdf"], ["N1", "N2"], {0}),
        (["a.pdf", "b.pdf"], ["N1", "N2"], {0, 1}),
        (["a.pdf"], ["N1"], {0}),
        (["a.pdf"], ["N1", "N2"], set()),
        ([], ["N1"], set()),
    ],
)
def test_names_tell_what_has_arrived(files, numbers, expected):
    assert arrived(described(*files), entries(*numbers)) == expected


def test_a_file_of_another_number_is_not_the_document_that_is_missing():
    pairs = match(described("N1.pdf", "N3.pdf"), entries("N1", "N2"))
    assert [document and document["number"] for _, document in pairs] == ["N1", None]


def test_the_ledger_has_only_what_the_report_brought():
    world = world_of_two()
    begun = world.begin("first")
    plan = begun.plan(world.api, world.ledger)
    recorded = {}
    ledger = SimpleNamespace(
        find=recorded.get, record=lambda identity, delivery, replaces=None: recorded.setdefault(identity, delivery)
    )
    deliveries = FeedDeliveries(ledger, verify=False, by=begun.name)
    deliveries.use_plan(plan)
    item = SimpleNamespace(
        identity=plan.fingerprint(0),
        report_type="GET_AB_INVOICE_PDF",
        request=SimpleNamespace(options=plan.requests[0].options),
        report_id="R1",
        report_document_id="D1",
        stored_at=1.0,
    )
    deliveries.record(item, described("N1.pdf"))
    has = {
        each["number"]: all(name in recorded for name in each["identities"]) for each in plan.documents.values()
    }
    assert has == {"N1": True, "N2": False}
