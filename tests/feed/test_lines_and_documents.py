"""From rows to documents: what public clients lose, and what the region decides."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from airflow_provider_amzbiz.client.errors import InvalidParameterError, UnavailableError
from airflow_provider_amzbiz.feed import names
from airflow_provider_amzbiz.feed.documents import Rules
from airflow_provider_amzbiz.feed.run import FeedSettings
from tests.feed.world import DAY, KEY, START, RowsApi, World, charge, invoice, line

US, DE, JP = "ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528"
TRIPLE = ("O1", "L1", "S1")


def world_of(*transactions, details=None, types=("Invoice", "CreditMemo"), **more):
    api = RowsApi(list(transactions), details or {})
    world = World(api, settings=FeedSettings(KEY, Rules(tuple(types), **more)))
    world.clock.advance(DAY)
    return world


def created(world):
    return [(marketplace, json.loads(options)) for marketplace, options in world.created]


def reasons(world):
    return [row["reason"] for row in world.tables.open_items]


def rows(world):
    return sorted((row["document_number"], row["transaction_id"], row["total"]) for row in world.tables.lines)


@pytest.mark.parametrize(
    ("marketplace", "kind", "options"),
    [
        (US, "STANDARD", {"invoiceId": "N1", "documentType": "Invoice"}),
        (US, "CREDIT_MEMO", {"invoiceId": "N1", "documentType": "Credits"}),
        (DE, "STANDARD", {"orderId": "O1"}),
        (DE, "CREDIT_MEMO", {"orderId": "O1"}),
        (JP, "STANDARD", {"orderId": "O1", "orderLineItemId": "L1", "shipmentId": "S1"}),
        (JP, "CREDIT_MEMO", {"orderId": "O1", "orderLineItemId": "L1", "shipmentId": "S1"}),
    ],
)
def test_each_region_and_kind_has_its_own_options(marketplace, kind, options):
    transaction = charge("T1", line(), marketplace=marketplace, kind="CHARGE" if kind == "STANDARD" else "REFUND")
    world = world_of(transaction, details={TRIPLE: [invoice("N1", kind)]})
    result, _ = world.run()
    assert created(world) == [(marketplace, options)]
    assert (result["requested"], result["landed"], result["open_items"]) == (1, 1, 0)
    assert [row[:2] for row in rows(world)] == [("N1", "T1")]


@pytest.mark.parametrize("number", ["N1", "11XS-123S-XFA1"])
def test_a_consolidated_invoice_is_asked_for_by_its_own_number(number):
    consolidated = {"consolidatedInvoiceDetails": {"invoiceNumber": number}}
    world = world_of(charge("T1", line(), marketplace=DE), details={TRIPLE: [invoice("N1", **consolidated)]})
    world.run()
    assert created(world) == [(DE, {"invoiceId": number, "documentType": "Invoice"})]
    assert rows(world) == [(number, "T1", "10.00")]


def test_japan_has_the_plain_invoice_and_the_consolidated_one():
    pending = {"consolidatedInvoiceDetails": {"invoiceNumber": "Pending"}}
    world = world_of(charge("T1", line(), marketplace=JP), details={TRIPLE: [invoice("JP1", **pending)]})
    world.run("first")
    assert reasons(world) == [names.PENDING_NUMBER]
    assert [each[0] for each in rows(world)] == ["JP1"]
    world.api.details[TRIPLE][0]["consolidatedInvoiceDetails"]["invoiceNumber"] = "11XS"
    world.clock.advance(30 * DAY)
    world.run("second")
    assert [options for _, options in created(world)][1:] == [{"invoiceId": "11XS", "documentType": "Invoice"}]
    assert [each[0] for each in rows(world)] == ["11XS", "JP1"]
    assert reasons(world) == []


def test_ids_are_those_of_all_lines_of_a_transaction():
    lines = [line(f"O{number}", f"L{number}", f"S{number}") for number in range(60)]
    details = {(f"O{number}", f"L{number}", f"S{number}"): [invoice(f"N{number}")] for number in range(60)}
    world = world_of(charge("T1", *lines), details=details)
    world.run()
    assert sorted(options["invoiceId"] for _, options in created(world)) == sorted(f"N{n}" for n in range(60))


@pytest.mark.parametrize("position", [0, 13, 24, 25, 29])
def test_a_line_that_cannot_be_asked_for_costs_no_other_line(position):
    lines = [line("O1", f"L{number}", None if number == position else "S1") for number in range(30)]
    details = {("O1", f"L{number}", "S1"): [invoice(f"N{number}")] for number in range(30)}
    world = world_of(charge("T1", *lines), details=details)
    world.run()
    assert len(created(world)) == 29
    assert [(row["order_line_item_id"], row["reason"]) for row in world.tables.open_items] == [
        (f"L{position}", names.NO_SHIPMENT_ID)
    ]


def test_one_line_may_have_five_documents():
    details = {TRIPLE: [invoice("I1"), invoice("I2"), *(invoice(f"C{n}", "CREDIT_MEMO") for n in (1, 2, 3))]}
    refunds = [charge(f"R{n}", line(total=f"-{n}.00"), kind="REFUND", invoiceNumber=f"C{n}") for n in (1, 2, 3)]
    charges = [charge(f"T{n}", line(total=f"{n}0.00"), invoiceNumber=f"I{n}") for n in (1, 2)]
    world = world_of(*charges, *refunds, details=details)
    world.run()
    assert sorted(options["invoiceId"] for _, options in created(world)) == ["C1", "C2", "C3", "I1", "I2"]
    # Charges belong to invoices and refunds to credit memos, each to its own.
    assert rows(world) == [
        ("C1", "R1", "-1.00"), ("C2", "R2", "-2.00"), ("C3", "R3", "-3.00"),
        ("I1", "T1", "10.00"), ("I2", "T2", "20.00"),
    ]  # fmt: skip


@pytest.mark.parametrize("marketplace", [US, DE, JP])
def test_a_document_that_many_lines_share_is_asked_for_once(marketplace):
    lines = [line("O1", f"L{number}", "S1") for number in range(40)]
    details = {("O1", f"L{number}", "S1"): [invoice("N1")] for number in range(40)}
    world = world_of(charge("T1", *lines, marketplace=marketplace), details=details)
    world.run()
    assert len(world.created) == 1
    assert len(world.tables.lines) == 40
    assert [row["order_ids"] for row in world.tables.documents] == [["O1"]]


def test_a_line_in_two_transactions_has_two_rows_and_one_document():
    others = {n: [{"associatedTransactionId": f"T{3 - n}"}] for n in (1, 2)}
    both = [charge(f"T{n}", line(total=f"{n}.50"), associatedTransactionDetails=others[n]) for n in (1, 2)]
    both[0]["invoiceNumber"] = "N1"
    world = world_of(*both, details={TRIPLE: [invoice("N1")]})
    world.run()
    assert len(world.created) == 1
    assert rows(world) == [("N1", "T1", "1.50"), ("N1", "T2", "2.50")]
    assert world.tables.documents[0]["total_amount"] == "4.00"


def test_a_number_becomes_known_after_a_week():
    world = world_of(charge("T1", line()), details={TRIPLE: [invoice(None)]})
    world.run("first")
    assert (world.created, reasons(world)) == ([], [names.PENDING_NUMBER])
    for day in range(7):
        world.clock.advance(DAY)
        world.api.asked.clear()
        world.run(f"day-{day}")
        # Its transaction is out of every window by then, and it is asked for all the same.
        assert TRIPLE in world.api.asked
    first = world.tables.open_items[0]
    assert (first["times_asked"], first["first_asked_at"][:10]) == (8, "2026-10-02")
    world.api.details[TRIPLE] = [invoice("N1")]
    world.clock.advance(DAY)
    world.run("last")
    assert rows(world) == [("N1", "T1", "10.00")]
    assert world.tables.open_items == []
    world.clock.advance(DAY)
    world.api.asked.clear()
    world.run("after")
    assert TRIPLE not in world.api.asked


@pytest.mark.parametrize("missing", [None, "", "Pending", "pending "])
@pytest.mark.parametrize("where", ["details", "transaction", "consolidated"])
def test_pending_null_and_empty_are_no_number(missing, where):
    detail = invoice(missing) if where == "details" else invoice("N1")
    if where == "consolidated":
        detail["consolidatedInvoiceDetails"] = {"invoiceNumber": missing}
    details = {} if where == "transaction" else {TRIPLE: [detail]}
    row = charge("T1", line(), marketplace=DE, invoiceNumber=missing if where == "transaction" else None)
    world = world_of(row, details=details)
    world.run()
    assert world.created == []
    assert len(world.tables.open_items) == 1


def test_a_document_that_only_the_transaction_names_is_asked_for():
    world = world_of(charge("T1", line(shipment=None), invoiceNumber="N1"))
    world.run()
    assert created(world) == [(US, {"invoiceId": "N1", "documentType": "Invoice"})]


def test_the_number_of_a_refund_that_is_its_invoice_is_no_credit_memo():
    refund = charge("R1", line(total="-1.00"), kind="REFUND", invoiceNumber="N1")
    world = world_of(refund, details={TRIPLE: [invoice("N1")]})
    world.run()
    assert created(world) == [(US, {"invoiceId": "N1", "documentType": "Invoice"})]
    assert [row["document_type"] for row in world.tables.open_items] == ["CreditMemo"]
    assert world.tables.lines == []


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"order": None}, names.NO_ORDER_ID),
        ({"item": None}, names.NO_LINE_ID),
        ({"shipment": None}, names.NO_SHIPMENT_ID),
        ({}, names.NO_NUMBER),
    ],
)
def test_what_cannot_be_asked_for_is_listed_with_its_reason(more, reason):
    world = world_of(charge("T1", line(**more)))
    world.run()
    (row,) = world.tables.open_items
    assert (row["reason"], row["status"], row["transaction_ids"], row["total"]) == (
        reason,
        "open",
        ["T1"],
        "10.00",
    )


def test_a_transaction_without_lines_is_listed():
    world = world_of(charge("T1"))
    world.run()
    assert reasons(world) == [names.NO_LINES]
    assert [row["transaction_id"] for row in world.tables.transactions] == ["T1"]


def test_marketplaces_come_from_the_rows():
    rows_of = [charge(f"T{n}", line(f"O{n}"), marketplace=each) for n, each in enumerate([US, "A1AM78C64UM0Y8"])]
    details = {(f"O{n}", "L1", "S1"): [invoice(f"N{n}")] for n in range(2)}
    world = world_of(*rows_of, details=details)
    world.run()
    assert sorted(each for each, _ in created(world)) == ["A1AM78C64UM0Y8", US]


@pytest.mark.parametrize("missing", [None, ""])
def test_a_transaction_without_a_marketplace(missing):
    row, details = charge("T1", line(), marketplace=missing), {TRIPLE: [invoice("N1")]}
    world = world_of(row, details=details)
    world.run()
    assert reasons(world) == [names.NO_MARKETPLACE]
    world = world_of(row, details=details, marketplace_id=US)
    world.run()
    assert [each for each, _ in created(world)] == [US]


def test_a_marketplace_that_is_not_in_amazons_list_is_of_the_connections_region():
    row, details = charge("T1", line(), marketplace="A2NODRKZP88ZB9"), {TRIPLE: [invoice("N1")]}
    world = world_of(row, details=details)
    world.run()
    assert reasons(world) == [names.UNKNOWN_REGION]
    rules = Rules(region="eu")
    assert rules.region_of("A2NODRKZP88ZB9") == "eu"


CARD = {"paymentInstrumentType": "Visa"}


def test_card_orders_in_north_america_have_summaries_only():
    rows_of = [charge("T1", line(), **CARD), charge("R1", line(total="-1.00"), kind="REFUND", **CARD)]
    world = world_of(*rows_of)
    world.run()
    assert sorted(reasons(world)) == sorted([names.CARD_ORDER, names.CARD_REFUND])
    world = world_of(*rows_of, types=names.DOCUMENT_TYPES)
    world.run()
    assert created(world) == [(US, {"orderId": "O1", "documentType": "OrderSummary"})]
    assert rows(world) == [("O1", "T1", "10.00")]


def test_an_order_summary_is_asked_for_when_the_order_has_shipped_and_again_when_more_of_it_has():
    first = charge("T1", line(), line(item="L2", shipment=None), **CARD)
    world = world_of(first, types=names.DOCUMENT_TYPES)
    world.run("first")
    assert world.created == []
    assert set(reasons(world)) == {names.NOT_SHIPPED}
    first["transactionLineItems"][1]["shipmentId"] = "S2"
    world.clock.advance(DAY)
    world.run("second")
    assert len(world.created) == 1
    world.clock.advance(DAY)
    world.run("third")
    assert len(world.created) == 1
    world.api.transactions.append(
        charge("T2", line(item="L3", shipment="S3"), feed_date=world.clock.now(), **CARD)
    )
    world.clock.advance(DAY)
    world.run("fourth")
    assert len(world.created) == 2
    assert len(world.stored) == 1


def test_types_that_are_not_wanted_are_neither_asked_for_nor_open():
    rows_of = [charge("T1", line()), charge("R1", line(item="L2", total="-1.00"), kind="REFUND")]
    world = world_of(*rows_of, details={TRIPLE: [invoice("N1"), invoice("C1", "CREDIT_MEMO")]}, types=["Invoice"])
    world.run()
    assert created(world) == [(US, {"invoiceId": "N1", "documentType": "Invoice"})]
    assert world.tables.open_items == []


def test_an_order_in_europe_is_asked_for_again_when_a_document_of_it_shows_up():
    world = world_of(charge("T1", line(), marketplace=DE), details={TRIPLE: [invoice("N1")]})
    world.run("first")
    world.api.details[TRIPLE].append(invoice("C1", "CREDIT_MEMO", invoiceDate="2026-12-24T00:00:00Z"))
    refund = charge("R1", line(total="-4.00"), kind="REFUND", marketplace=DE, feed_date=START + 60 * DAY)
    world.api.transactions.append(refund)
    world.clock.advance(60 * DAY)
    world.run("second")
    assert created(world) == [(DE, {"orderId": "O1"})] * 2
    # Under the key that the order had at first.
    folders = {key.rpartition("/")[0] for key in world.stored}
    assert (len(world.stored), len(folders)) == (2, 1)
    world.clock.advance(DAY)
    world.run("third")
    assert len(world.created) == 2


@pytest.mark.parametrize("amount", ["4.00", "-4.00"])
@pytest.mark.parametrize("kind", ["REFUND", "OVERREFUND"])
def test_refunds_are_negative_whichever_sign_they_come_with(amount, kind):
    discount = {"currencyCode": "USD", "amount": "-1.00" if amount[0] != "-" else "1.00"}
    world = world_of(
        charge("R1", line(total=amount, discount=discount), kind=kind),
        details={TRIPLE: [invoice("C1", "CREDIT_MEMO")]},
    )
    world.run()
    (row,) = world.tables.lines
    assert (row["total"], row["discount"]) == ("-4.00", "1.00")
    assert world.tables.transactions[0]["amount"] == "-4.00"
    assert world.tables.documents[0]["total_amount"] == "-4.00"


def test_amounts_keep_every_digit():
    world = world_of(charge("T1", line(total="0.1000000000000000000001")), details={TRIPLE: [invoice("N1")]})
    world.run()
    assert world.tables.lines[0]["total"] == "0.1000000000000000000001"


def test_names_and_addresses_stay_out_of_everything_unless_they_are_asked_for():
    person = {"id": "p-1", "name": "Jane Roe", "email": "jane@example.com"}
    row = charge("T1", line(), line(item="L2", shipment=None), buyer=person, payer=person)
    details = {TRIPLE: [invoice("N1", billToAddress={"fullName": "Jane Roe"})]}
    world = world_of(row, details=details)
    world.run()
    import gzip

    for key, (body, *_) in world.store.objects.items():
        content = gzip.decompress(body) if key.endswith(".gz") else body
        assert b"Jane" not in content, key
        assert b"jane@" not in content, key
    world = World(world.api, settings=FeedSettings(KEY, include_personal_data=True))
    world.clock.advance(DAY)
    world.run()
    assert json.loads(world.tables.lines[0]["buyer"])["email"] == "jane@example.com"


def test_payment_details_are_taken_where_amazon_has_them():
    world = world_of(charge("T1", line(), line(item="L2")), details={
        TRIPLE: [invoice("N1")], ("O1", "L2", "S1"): [invoice("N2")],
    })  # fmt: skip
    paid = {"status": "Issued", "dueDate": "2026-11-01T00:00:00Z"}
    world.api.payments["N1"] = {"invoiceId": "N1", "resultType": "SUCCESS", "paymentDetails": paid}
    world.run()
    found = {row["document_number"]: (row["payment_status"], row["due_date"]) for row in world.tables.documents}
    assert found == {"N1": ("Issued", "2026-11-01T00:00:00.000000Z"), "N2": (None, None)}


def test_a_report_that_fails_leaves_its_lines_open_until_it_does_not():
    world = world_of(charge("T1", line()), details={TRIPLE: [invoice("N1")]})
    world.cancelled.add("N1")
    result, _ = world.run("first")
    assert (result["failed"], result["landed"], result["open_items"]) == (1, 0, 1)
    (row,) = world.tables.open_items
    assert row["reason"] == "Invoice N1: the report ended CANCELLED"
    assert row["document_numbers"] == ["N1"]
    assert world.tables.lines == []
    world.cancelled.clear()
    world.clock.advance(20 * DAY)
    result, _ = world.run("second")
    assert (result["landed"], result["open_items"]) == (1, 0)
    assert rows(world) == [("N1", "T1", "10.00")]


def test_an_open_line_is_given_up_in_the_open():
    world = world_of(charge("T1", line()))
    for run in range(12):
        world.run(f"run-{run}")
        world.clock.advance(5 * DAY)
    files = [world.tables.files["open_items"][name] for name in sorted(world.tables.marks)]
    assert [[row["status"] for row in file] for file in files] == [["open"]] * 10 + [["expired"], []]
    assert files[10][0]["reason"] == f"no longer asked for, after 45 days: {names.NO_NUMBER}"


def test_a_refund_is_asked_for_as_long_as_any_although_an_older_one_of_its_order_line_is_open():
    world = world_of(charge("R1", line(total="4.00"), kind="REFUND"))
    for run in range(18):
        world.run(f"run-{run}")
        world.clock.advance(5 * DAY)
        if run == 5:
            later = charge("R2", line(total="5.00"), kind="REFUND", feed_date=world.clock.now())
            world.api.transactions.append(later)
    files = [world.tables.files["open_items"][name] for name in sorted(world.tables.marks)]
    assert [[row["status"] for row in file] for file in files] == [["open"]] * 16 + [["expired"], []]
    assert [files[run][0]["transaction_ids"] for run in (5, 6, 15)] == [["R1"], ["R1", "R2"], ["R1", "R2"]]
    assert {(row["first_asked_at"], row["times_asked"]) for row in files[15]} == {
        (files[0][0]["first_asked_at"], 16)
    }


def test_an_id_is_made_for_a_transaction_without_one():
    world = world_of(charge(None, line()), details={})
    world.run("first")
    world.api.transactions[0]["invoiceNumber"] = "N1"
    world.clock.advance(DAY)
    world.run("second")
    assert len(world.tables.transactions) == 1
    assert len(world.tables.lines) == 1


def test_an_amended_row_replaces_the_earlier_one_in_whatever_order_they_come():
    old = charge("T1", line(total="1.00", shipment=None), feed_date=START)
    new = charge("T1", line(total="2.00"), feed_date=START + timedelta(hours=5))
    for order in ([old, new], [new, old], [new, old, new], [old, new, old]):
        world = world_of(*order, details={TRIPLE: [invoice("N1")]})
        world.run()
        assert rows(world) == [("N1", "T1", "2.00")]
        assert [row["total"] for row in world.tables.transactions] == ["2.00"]


def test_a_row_that_moves_to_another_document_counts_once():
    row = charge("T2", line(total="7.00"))
    world = world_of(row, details={TRIPLE: [invoice("N1")]})
    world.run("first")
    assert rows(world) == [("N1", "T2", "7.00")]
    # The row that N1 belongs to comes late.
    world.api.transactions.append(charge("T1", line(total="3.00"), invoiceNumber="N1"))
    world.clock.advance(DAY)
    world.run("second")
    assert rows(world) == [("N1", "T1", "3.00"), ("N1", "T2", "0")]
    assert [each["is_retracted"] for each in world.tables.lines if each["transaction_id"] == "T2"] == [True]
    world.api.details[TRIPLE].append(invoice("N2"))
    row["invoiceNumber"] = "N2"
    world.clock.advance(DAY)
    world.run("third")
    assert rows(world) == [("N1", "T1", "3.00"), ("N1", "T2", "0"), ("N2", "T2", "7.00")]


ONE, TWO = line(item="L1", total="10.00"), line(item="L2", total="5.00")
SAME_ONE, SAME_TWO = line(total="10.00"), line(total="5.00")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([ONE, TWO], [TWO, ONE], id="another order"),
        pytest.param([SAME_ONE, SAME_TWO], [line(total="15.00")], id="fewer lines of the same ids"),
        pytest.param([SAME_ONE, SAME_TWO], [SAME_TWO, SAME_ONE], id="another order of the same ids"),
    ],
)
def test_lines_that_an_amended_transaction_shows_otherwise_count_once(before, after):
    details = {(each["orderId"], each["orderLineItemId"], each["shipmentId"]): [invoice("N1")] for each in before}
    world = world_of(charge("T1", *before), details=details)
    world.run("first")
    assert total_of(world, "N1") == Decimal("15.00")
    world.api.transactions = [charge("T1", *after, feed_date=START + DAY / 2)]
    world.clock.advance(DAY)
    world.run("second")
    assert total_of(world, "N1") == Decimal("15.00")


def test_all_lines_of_the_same_ids_move_to_another_document():
    world = world_of(charge("T1", SAME_ONE, SAME_TWO), details={TRIPLE: [invoice("N1")]})
    world.run("first")
    world.api.details[TRIPLE] = [invoice("N2")]
    world.clock.advance(DAY)
    world.run("second")
    assert (total_of(world, "N1"), total_of(world, "N2")) == (0, Decimal("15.00"))


@pytest.mark.parametrize("missing", [["feedDate"], ["feedDate", "transactionDate"]])
def test_a_row_without_dates_is_replaced_too(missing):
    undated = {name: value for name, value in charge("T1", line()).items() if name not in missing}
    world = world_of(undated, details={TRIPLE: [invoice("N1")]})
    world.run("first")
    world.api.details[TRIPLE] = [invoice("N2")]
    world.clock.advance(DAY)
    world.run("second")
    assert rows(world) == [("N1", "T1", "0"), ("N2", "T1", "10.00")]


def test_a_refund_that_names_a_document_of_a_type_that_is_left_out_is_no_error():
    refund = charge("T2", line(total="-3.00"), kind="REFUND", invoiceNumber="C1")
    details = {TRIPLE: [invoice("N1"), invoice("C1", "CREDIT_MEMO")]}
    world = world_of(charge("T1", line()), refund, details=details, types=("Invoice",))
    result, _ = world.run()
    assert rows(world) == [("N1", "T1", "10.00")]
    assert (result["landed"], result["open_items"]) == (1, 0)


def total_of(world, number):
    return sum(Decimal(each["total"]) for each in world.tables.lines if each["document_number"] == number)


@pytest.mark.parametrize("fails_at", [0, 1, 7])
def test_nothing_is_taken_for_read_when_a_page_is_lost(fails_at):
    class Failing(RowsApi):
        def get_transactions(self, *window):
            for number, each in enumerate(super().get_transactions(*window)):
                if number == fails_at:
                    raise UnavailableError("page lost")
                yield each

    transactions = [charge(f"T{n}", line(f"O{n}")) for n in range(8)]
    details = {(f"O{n}", "L1", "S1"): [invoice(f"N{n}")] for n in range(8)}
    world = World(Failing(transactions, details))
    world.clock.advance(DAY)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            world.run("run")
    assert world.created == []
    assert not world.tables.marks
    body, *_ = world.store.objects["ledger/feed/account/cursor.json"]
    assert json.loads(body)["feed_end"] is None
    world.api = RowsApi(transactions, details)
    result, _ = world.run("run")
    assert result["landed"] == 8


def test_pages_that_are_repeated_or_out_of_order_change_nothing():
    transactions = [charge(f"T{n}", line(f"O{n}"), feed_date=START + timedelta(hours=n % 5)) for n in range(9)]
    details = {(f"O{n}", "L1", "S1"): [invoice(f"N{n}")] for n in range(9)}
    world = world_of(*reversed(transactions), *transactions[3:7], details=details)
    world.run()
    assert len(world.created) == len(world.tables.transactions) == len(world.tables.lines) == 9


def test_no_row_is_capped():
    transactions = [charge(f"T{n}", line(f"O{n}")) for n in range(2500)]
    details = {(f"O{n}", "L1", "S1"): [invoice(f"N{n}")] for n in range(2500)}
    world = world_of(*transactions, details=details)
    result, _ = world.run()
    assert result["landed"] == 2500
    assert len(world.tables.transactions) == 2500


def test_ids_that_no_request_can_have_are_listed():
    world = world_of(charge("T1", line()), details={TRIPLE: [invoice("{{ x }}")]})
    result, _ = world.run()
    assert (result["requested"], result["open_items"]) == (0, 1)
    assert "{{ x }}" in world.tables.open_items[0]["reason"]


@pytest.mark.parametrize("types", [(), ("Invoices",), ("Invoice", "Invoice")])
def test_document_types_are_checked(types):
    with pytest.raises(InvalidParameterError, match="document_types"):
        FeedSettings(KEY, Rules(types))


@pytest.mark.parametrize("name", ["overlap", "open_for"])
@pytest.mark.parametrize("value", [-DAY, 3, None])
def test_spans_are_checked(name, value):
    with pytest.raises(InvalidParameterError, match=name):
        FeedSettings(KEY, **{name: value})
