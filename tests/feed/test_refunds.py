"""Refunds are negative in the tables, whichever signs the API gives to the transaction and to its lines."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_amzbiz.client.reconciliation_models import Transaction
from airflow_provider_amzbiz.feed.lines import lines_of
from tests.feed.world import DAY, RowsApi, World, charge, invoice, line

SIGNS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]


def money(amount):
    return {"currencyCode": "USD", "amount": str(amount)}


def part(total, **amounts):
    return line(total=str(total), **{name: money(amount) for name, amount in amounts.items()})


def refund(amount, *parts, kind="REFUND"):
    return charge("R1", *parts, kind=kind, amount=None if amount is None else money(amount))


def found(transaction, name="total"):
    return [line[name] and Decimal(line[name]) for line in lines_of(Transaction.from_api(transaction))]


@pytest.mark.parametrize("kind", ["REFUND", "OVERREFUND"])
@pytest.mark.parametrize(("of_amount", "of_lines"), SIGNS)
def test_the_transaction_and_its_lines_may_have_different_signs(of_amount, of_lines, kind):
    lines = [
        part(of_lines * total, discount=-of_lines * 1, principalAmount=of_lines * (total + 1)) for total in (4, 6)
    ]
    row = refund(of_amount * 10, *lines, kind=kind)
    assert found(row, "amount") == [-10, -10]
    assert found(row) == [-4, -6]
    assert found(row, "principal") == [-5, -7]
    # What a discount gave back, the refund takes.
    assert found(row, "discount") == [1, 1]


@pytest.mark.parametrize(("of_amount", "of_lines"), SIGNS)
def test_a_correction_inside_a_refund_keeps_its_opposite_sign(of_amount, of_lines):
    row = refund(of_amount * 7, part(of_lines * 10), part(of_lines * -3))
    assert found(row) == [-10, 3]


@pytest.mark.parametrize("first", [1, -1])
def test_lines_that_add_up_to_the_amount_only_without_their_signs_have_each_its_own(first):
    assert found(refund(-10, part(first * 4), part(first * -6))) == [-4, -6]


@pytest.mark.parametrize("of_lines", [1, -1])
@pytest.mark.parametrize("amount", [None, 0, 99])
def test_lines_have_their_own_sign_where_the_amount_does_not_fit(amount, of_lines):
    assert found(refund(amount, part(of_lines * 4), part(of_lines * 6))) == [-4, -6]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_line_without_a_total_has_the_sign_of_its_principal_else_of_its_other_parts(sign):
    by_principal = line(total="0", principalAmount=money(sign * 4), discount=money(sign * -4))
    by_tax = {**line(), "totalAmount": None, "tax": money(sign * 2), "shippingCharge": money(sign * 1)}
    row = refund(-3, by_principal, by_tax)
    assert found(row, "principal") == [-4, None]
    assert found(row, "discount") == [4, None]
    assert (found(row, "tax")[1], found(row, "shipping")[1]) == (-2, -1)


@pytest.mark.parametrize("kind", ["CHARGE", "FEE"])
def test_other_transactions_keep_the_signs_that_amazon_gives(kind):
    row = charge("T1", part(-4), part(10), kind=kind, amount=money(-6))
    assert (found(row, "amount"), found(row)) == ([-6, -6], [-4, 10])


@pytest.mark.parametrize(("of_amount", "of_lines"), SIGNS)
def test_the_tables_of_a_charge_and_its_refund_add_up(of_amount, of_lines):
    rows = [
        charge("T1", part(100)),
        charge("R1", part(of_lines * 40), kind="REFUND", amount=money(of_amount * 40)),
    ]
    world = World(RowsApi(rows, {("O1", "L1", "S1"): [invoice("N1"), invoice("C1", "CREDIT_MEMO")]}))
    world.clock.advance(DAY)
    world.run()
    assert sum(Decimal(row["total"]) for row in world.tables.transactions) == 60
    assert {row["transaction_id"]: row["amount"] for row in world.tables.transactions} == {
        "T1": "100",
        "R1": "-40",
    }
    assert {row["document_number"]: row["total_amount"] for row in world.tables.documents} == {
        "N1": "100",
        "C1": "-40",
    }
