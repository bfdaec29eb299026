"""A charge is in one invoice, however many Amazon shows for its order line: no amount counts twice."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import pytest

from airflow_provider_amzbiz.feed import names
from airflow_provider_amzbiz.feed.columns import TABLES
from tests.feed.warehouse import completeness
from tests.feed.world import DAY, START, RowsApi, World, WorldClock, charge, invoice, line

US, DE, JP = "ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528"
TRIPLE = ("O1", "L1", "S1")
TYPES = {"decimal": "DECIMAL(38, 9)", "strings": "VARCHAR[]", "boolean": "BOOLEAN", "integer": "BIGINT"}
TWICE = "in two documents of the same type"


class ArchiveWorld(World):
    """Europe's reports: all documents of an order, each under its number."""

    def _report(self, marketplace_id, options):
        if "orderId" not in options:
            return super()._report(marketplace_id, options)
        return {f"{detail['invoiceNumber']}.pdf": b"%PDF" for detail in self.api.details[TRIPLE]}


def issued(number, day, kind="STANDARD", **more):
    return invoice(number, kind, **{"invoiceDate": WorldClock.wire(START - 9 * DAY + day * DAY), **more})


def credit(number, day, **more):
    return issued(number, day, "CREDIT_MEMO", **more)


def world_of(details, *transactions):
    world = ArchiveWorld(RowsApi(list(transactions), {TRIPLE: details}))
    world.clock.advance(DAY)
    return world


def rows(world):
    return sorted((row["transaction_id"], row["document_number"], row["total"]) for row in world.tables.lines)


def files(world):
    return {row["document_number"]: row["total_amount"] for row in world.tables.documents}


def audited(world):
    """Return what the auditor's query finds in the tables."""
    with duckdb.connect() as warehouse:
        for name, columns in TABLES.items():
            typed = ", ".join(f"{column} {TYPES.get(kind, 'VARCHAR')}" for column, kind in columns.items())
            warehouse.execute(f"CREATE TABLE {name} ({typed}, loaded_run VARCHAR)")
            found = {"documents": world.tables.documents, "document_lines": world.tables.lines}.get(name)
            for row in getattr(world.tables, name) if found is None else found:
                marks = ", ".join("?" * (len(columns) + 1))
                warehouse.execute(
                    f"INSERT INTO {name} VALUES ({marks})", [*(row[each] for each in columns), "run"]
                )
        warehouse.execute("CREATE TABLE expired_items AS SELECT * FROM open_items WHERE false")
        runs = "SELECT 'run' AS loaded_run, 'account' AS account, (SELECT COUNT(*) FROM open_items) AS open_items"
        warehouse.execute(f"CREATE TABLE feed_runs AS {runs}")
        return warehouse.execute(completeness()).fetchall()


@pytest.mark.parametrize("marketplace", [US, DE, JP])
def test_a_corrected_invoice_has_the_line_and_the_wrong_one_has_none(marketplace):
    details = [issued("N2", 3), issued("N1", 1), credit("C1", 2)]
    world = world_of(details, charge("T1", line(total="100.00"), marketplace=marketplace))
    world.run()
    assert rows(world) == [("T1", "N2", "100.00")]
    if marketplace != JP:
        # Each of them is stored.
        assert files(world) == {"N1": None, "C1": None, "N2": "100.00"}
    assert (world.tables.open_items, audited(world)) == ([], [])


def test_a_correction_that_comes_later_takes_the_line_over():
    world = world_of([issued("N1", 1)], charge("T1", line(total="100.00"), marketplace=DE))
    world.run("first")
    assert rows(world) == [("T1", "N1", "100.00")]
    world.api.details[TRIPLE] += [credit("C1", 2), issued("N2", 3)]
    world.clock.advance(DAY)
    world.run("second")
    assert sum(Decimal(row["total"]) for row in world.tables.lines) == 100
    assert [row["document_number"] for row in world.tables.lines if not row["is_retracted"]] == ["N2"]
    assert audited(world) == []


def test_an_invoice_that_a_credit_memo_offsets_is_not_the_one():
    details = [issued("N1", 1), issued("N2", 3), credit("C1", 4, associatedInvoiceNumber="N2")]
    world = world_of(details, charge("T1", line(), marketplace=JP))
    world.run()
    assert rows(world) == [("T1", "N1", "10.00")]


@pytest.mark.parametrize("total", ["4", "10"])
def test_a_credit_memo_of_a_part_offsets_nothing(total):
    details = [
        issued("N1", 1, invoiceTotal="10"),
        issued("N2", 3, invoiceTotal="10"),
        credit("C1", 4, associatedInvoiceNumber="N2", invoiceTotal=total),
    ]
    world = world_of(details, charge("T1", line(), marketplace=JP))
    world.run()
    assert rows(world) == [("T1", "N1" if total == "10" else "N2", "10.00")]


def test_two_invoices_of_one_charge_in_north_america():
    world = world_of([issued("N1", 1), issued("N2", 1)], charge("T1", line()))
    result, _ = world.run()
    assert result["landed"] == 2
    assert rows(world) == [("T1", "N2", "10.00")]
    assert files(world) == {"N1": None, "N2": "10.00"}


@pytest.mark.parametrize(("charges", "expected"), [(1, "2"), (2, "12"), (3, "122")])
def test_each_charge_has_one_invoice_in_the_order_of_their_dates(charges, expected):
    of_line = [
        charge(f"T{number}", line(total=f"{number}.00"), feed_date=START + number * DAY / 24)
        for number in range(1, charges + 1)
    ]
    world = world_of([issued("N1", 1), issued("N2", 2)], *reversed(of_line))
    world.run()
    assert [document for _, document, _ in rows(world)] == [f"N{each}" for each in expected]
    assert audited(world) == []


def test_refunds_have_one_credit_memo_each():
    refund = charge("R1", line(total="-4.00"), kind="REFUND")
    details = [issued("N1", 1), credit("C1", 2), issued("N2", 3), credit("C2", 4)]
    world = world_of(details, charge("T1", line()), refund)
    world.run()
    assert rows(world) == [("R1", "C2", "-4.00"), ("T1", "N2", "10.00")]


def test_what_a_transaction_names_is_its_own_and_no_other_charge_has_it():
    of_line = [charge("T1", line()), charge("T2", line(total="5.00"), invoiceNumber="N2")]
    world = world_of([issued("N1", 1), issued("N2", 2)], *of_line)
    world.run()
    assert rows(world) == [("T1", "N1", "10.00"), ("T2", "N2", "5.00")]


def test_a_charge_whose_invoice_is_still_to_come_waits_for_it():
    world = world_of([issued("N1", 1)], charge("T1", line(), invoiceNumber="N1"), charge("T2", line(total="5.00")))
    world.run()
    assert rows(world) == [("T1", "N1", "10.00")]
    assert [row["reason"] for row in world.tables.open_items] == [names.NO_NUMBER]


def test_a_refund_that_is_fed_again_alone_keeps_its_credit_memo():
    """What was given to the other one, which only an earlier run has read, is not left."""
    first = charge("R1", line(total="-4.00"), kind="REFUND")
    second = charge("R2", line(total="-3.00"), kind="REFUND", feed_date=START + DAY / 2)
    world = world_of([issued("N1", 1), credit("C1", 2), credit("C2", 4)], charge("T1", line()), first, second)
    world.run("first")
    assert rows(world)[:2] == [("R1", "C1", "-4.00"), ("R2", "C2", "-3.00")]
    for _ in range(2):
        world.clock.advance(5 * DAY)
        world.run()
    world.api.transactions[1] = {**first, "feedDate": WorldClock.wire(START + 10 * DAY)}
    world.clock.advance(DAY)
    world.run("last")
    assert rows(world)[:2] == [("R1", "C1", "-4.00"), ("R2", "C2", "-3.00")]
    assert audited(world) == []


@pytest.mark.parametrize("is_of_payment", [False, True])
def test_what_a_transaction_of_an_earlier_run_names_is_its_own(is_of_payment):
    world = world_of([issued("N1", 1)], charge("T1", line(), invoiceNumber="N1"))
    world.run("first")
    world.clock.advance(4 * DAY)
    world.run("second")
    others = {"associatedTransactionDetails": [{"associatedTransactionId": "T1"}]} if is_of_payment else {}
    world.api.transactions.append(charge("T2", line(total="5.00"), feed_date=START + 5 * DAY, **others))
    world.clock.advance(DAY)
    world.run("third")
    if is_of_payment:
        assert rows(world) == [("T1", "N1", "10.00"), ("T2", "N1", "5.00")]
        return
    assert rows(world) == [("T1", "N1", "10.00")]
    assert [row["reason"] for row in world.tables.open_items] == [names.NO_NUMBER]
    world.api.details[TRIPLE].append(issued("N2", 12))
    world.clock.advance(DAY)
    world.run("fourth")
    assert rows(world) == [("T1", "N1", "10.00"), ("T2", "N2", "5.00")]


def test_the_query_finds_a_line_in_two_invoices():
    world = world_of([issued("N1", 1), issued("N2", 2)], charge("T1", line()))
    world.run()
    (row,) = world.tables.lines
    files_of = world.tables.files["document_lines"]
    files_of[max(files_of)] = [row, {**row, "document_number": "N1"}]
    assert {(each[0], each[2]) for each in audited(world)} == {(TWICE, "T1")}


def test_a_consolidated_invoice_that_repeats_the_line_is_no_finding():
    consolidated = {"consolidatedInvoiceDetails": {"invoiceNumber": "11XS"}}
    world = world_of([issued("JP1", 1, **consolidated)], charge("T1", line(), marketplace=JP))
    world.run()
    assert [document for _, document, _ in rows(world)] == ["11XS", "JP1"]
    assert [each[0] for each in audited(world)] == []
