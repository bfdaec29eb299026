"""The company's books add up, whatever its seed, and a client that polls with an overlap can see all of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.sandbox import Company
from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from tests.fuzzing import bounded

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
DAY = timedelta(days=1)
COMPANIES = st.builds(
    Company,
    seed=st.integers(),
    orders=st.integers(0, 40),
    days=st.integers(1, 20),
    start=st.just(START),
    marketplaces=st.sets(st.sampled_from(sorted(MARKETS)), min_size=1),
)


def own(company):
    """The documents that repeat no others."""
    return [each for each in company.documents if each.kind != "OrderSummary" and not each.consolidates]


@bounded(40)
@given(COMPANIES)
def test_documents_add_up_to_what_was_charged_and_refunded(company):
    lines = [line for line in company.lines if line.document_number]

    assert sum(each.total for each in own(company)) == sum(line.total for line in lines)
    assert sum(each.amount for each in company.transactions) == sum(line.total for line in company.lines)
    for each in own(company):
        assert each.lines
        assert (each.total < 0) == (each.kind == "CreditMemo")
        kinds = {company.transaction(line.transaction_id).transaction_type for line in each.lines}
        assert kinds <= ({"REFUND", "OVERREFUND"} if each.kind == "CreditMemo" else {"CHARGE"})
        assert {line.marketplace_id for line in each.lines} == {each.marketplace_id}


@bounded(40)
@given(COMPANIES)
def test_amounts_have_the_digits_of_their_currency(company):
    for line in company.lines:
        assert line.total == line.total.quantize(MARKETS[line.marketplace_id].quantum)
        assert not line.total.is_signed() or line.total < 0


@bounded(40)
@given(COMPANIES)
def test_a_daily_poll_with_three_days_of_overlap_sees_every_row_in_its_last_version(company):
    seen = {}
    poll = START
    while poll <= company.end + 2 * DAY:
        poll += DAY
        for each in company.transactions:
            version = each.version_at(poll)
            if version and poll - 4 * DAY <= version.feed_date <= poll:
                seen[each.transaction_id] = version

    assert seen == {each.transaction_id: each.versions[-1] for each in company.transactions}


@bounded(40)
@given(COMPANIES)
def test_the_same_parameters_give_the_same_books(company):
    again = Company(company.seed, company.orders, company.days, company.start, list(company.marketplaces)[::-1])

    assert again.books == company.books


@bounded(40)
@given(COMPANIES)
def test_ids_are_unique(company):
    assert not [each for each, count in Counter(each.number for each in company.documents).items() if count > 1]
    assert not [each for each, n in Counter(each.transaction_id for each in company.transactions).items() if n > 1]


@pytest.fixture(scope="module")
def company():
    return Company(seed=1, orders=90, start=START, marketplaces=list(MARKETS))


def test_everything_happens_that_a_client_must_expect(company):
    lines_of = {each.number: {line.ids for line in each.lines} for each in own(company)}
    numbers_of = Counter(ids for lines in lines_of.values() for ids in lines)
    transactions_of = Counter(ids for each in company.transactions for ids in {line.ids for line in each.lines})
    versions = [version for each in company.transactions for version in each.versions]
    by_feed_date = sorted(company.transactions, key=lambda each: each.feed_date)

    assert any(line.shipment_id is None for line in company.lines)
    assert max(numbers_of.values()) == 5
    assert max(map(len, lines_of.values())) > 3
    assert max(transactions_of.values()) > 2
    assert any(len({line.order_id for line in each.lines}) > 1 for each in company.transactions)
    assert any(each.associated for each in company.transactions)
    assert any(each.appears_at > each.feed_date for each in versions)
    assert any(not each.has_shipments for each in versions)
    assert any(each.authorised for each in versions)
    assert by_feed_date != sorted(company.transactions, key=lambda each: each.transaction_date)
    assert {each.transaction_type for each in company.transactions} == {"CHARGE", "REFUND", "OVERREFUND"}
    assert {each.before for each in company.documents} == {"left out", "null"}
    late = [each for each in own(company) for line in each.lines if line.shipment_date]
    assert max(each.issued_at - each.lines[0].shipment_date for each in late) > 7 * DAY


@pytest.mark.parametrize("region", ["eu", "fe"])
def test_consolidated_invoices_of_a_region(company, region):
    found = [each for each in company.documents if MARKETS[each.marketplace_id].region == region]
    consolidated = [each for each in found if each.is_consolidated]
    parts = [each for each in found if each.consolidated_number and not each.is_consolidated]

    assert consolidated
    if region == "eu":
        # Plain and consolidated number are the same there, and so is the document.
        assert parts == []
    else:
        assert {each.consolidated_number for each in parts} == {each.number for each in consolidated}
        for each in consolidated:
            assert each.total == sum(company.document(number).total for number in each.consolidates)


def test_in_north_america_only_what_is_paid_by_invoice_has_invoices(company):
    for each in company.transactions:
        if MARKETS[each.marketplace_id].region == "na":
            numbers = {line.document_number for line in each.lines if line.shipment_id}
            assert (None in numbers) == (each.payment_instrument_type != "Pay by Invoice")
    summaries = [each for each in company.documents if each.kind == "OrderSummary"]
    assert summaries
    assert {MARKETS[each.marketplace_id].region for each in summaries} == {"na"}


def test_time_shows_more_and_more(company):
    halfway = START + 7 * DAY

    assert 0 < len(company.transactions_at(halfway)) < len(company.transactions)
    assert 0 < len(company.documents_at(halfway)) < len(company.documents)
    assert company.transactions_at(company.end) == company.transactions
    assert company.documents_at(company.end) == company.documents
    assert company.documents_at(START) == ()


def test_a_company_without_orders_has_empty_books():
    company = Company(orders=0, start=START, marketplaces=["ATVPDKIKX0DER"])

    assert (company.transactions, company.documents, company.end) == ((), (), START)


def test_a_company_that_no_sandbox_has_needs_a_start_and_marketplaces():
    with pytest.raises(ValueError, match="needs a start and marketplaces"):
        Company().books  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"orders": -1}, "orders is -1"),
        ({"days": 0}, "days is 0"),
        ({"start": datetime(2026, 1, 1)}, "must be an aware time"),
        ({"signed_refunds": "both"}, "signed_refunds is 'both'"),
        ({"marketplaces": []}, "must have at least one"),
        ({"marketplaces": ["XX"]}, r"marketplaces has \['XX'\]"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValueError, match=said):
        Company(**settings)


def test_a_sandbox_gives_its_region_and_half_the_days(start):
    sandbox = start(company=Company(days=10, orders=9), region="eu")

    assert {MARKETS[each].region for each in sandbox.company.marketplaces} == {"eu"}
    assert timedelta(days=5) <= sandbox.clock.now() - sandbox.company.start < timedelta(days=6)
    assert sandbox.company.transactions_at(sandbox.clock.now())


def test_a_sandbox_does_not_take_a_company_of_another_region(start):
    with pytest.raises(ValueError, match="does not serve"):
        start(company=Company(marketplaces=["A1VC38T7YXB528"]), region="eu")


def test_a_pdf_names_the_document_and_its_total(company):
    document = own(company)[0]

    content = company.pdf(document)

    assert content.startswith(b"%PDF")
    assert f"{document.number}: {document.total:f} {document.currency}".encode() in content
    assert isinstance(document.total, Decimal)
