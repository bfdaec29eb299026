"""Invoice reports of the company: the right options deliver exactly its documents, and others nothing."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.sandbox import Company, Sandbox
from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
TYPE = "GET_AB_INVOICE_PDF"


@pytest.fixture(scope="module")
def world():
    company = Company(seed=4, orders=81, start=START, marketplaces=list(MARKETS))
    settings = {"throttle": False, "queue_seconds": 0, "processing_seconds": 0, "region": "any"}
    with Sandbox(company=company, **settings) as sandbox:
        sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 86400)
        yield sandbox


@pytest.fixture
def api(world, caller):
    return caller(world)


def files(api, download, marketplace_id, options):
    """Return the files of a report; None for one that ended CANCELLED."""
    report = api.get(api.created(TYPE, options, marketplaceIds=[marketplace_id])).json()
    if report["processingStatus"] == "CANCELLED":
        return None
    described = api.document(report["reportDocumentId"]).json()
    assert described["compressionAlgorithm"] == "GZIP"
    content = gzip.decompress(download(described["url"]).raw_bytes)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def of(company, *documents):
    return {company.file_name(each): company.pdf(each) for each in documents}


def some(company, region, kind, **more):
    """Return the first document of a kind in a region."""
    return next(
        each
        for each in company.documents
        if MARKETS[each.marketplace_id].region == region
        and each.kind == kind
        and all(getattr(each, name) == value for name, value in more.items())
    )


@pytest.mark.parametrize("region", ["na", "eu", "fe"])
def test_every_invoice_can_be_had_by_its_number(api, world, download, region):
    invoice = some(world.company, region, "Invoice", is_consolidated=False)

    found = files(api, download, invoice.marketplace_id, {"invoiceId": invoice.number, "documentType": "Invoice"})

    assert found == of(world.company, invoice)


def test_known_invoices_exist_besides_those_of_the_company(caller, download):
    company = Company(seed=4, orders=9, start=START, marketplaces=["A1PA6795UKMFR9"])
    invoice = some(company, "eu", "Invoice")
    known = ["1111-2222-3333"]
    settings = {"throttle": False, "queue_seconds": 0, "processing_seconds": 0, "region": "eu"}
    with Sandbox(company=company, known_invoices=known, **settings) as sandbox:
        sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 86400)
        api = caller(sandbox)
        (made,) = files(api, download, invoice.marketplace_id, {"invoiceId": known[0]}).values()

        assert known[0].encode() in made
        assert files(api, download, invoice.marketplace_id, {"invoiceId": invoice.number}) == of(company, invoice)
        assert files(api, download, invoice.marketplace_id, {"invoiceId": "1111-2222-9999"}) is None


def test_a_credit_memo_of_north_america(api, world, download):
    memo = some(world.company, "na", "CreditMemo")
    place = memo.marketplace_id

    found = files(api, download, place, {"invoiceId": memo.number, "documentType": "Credits"})

    assert found == of(world.company, memo)
    assert files(api, download, place, {"invoiceId": memo.number, "documentType": "Invoice"}) is None
    assert files(api, download, place, {"invoiceId": memo.number}) is None


def test_an_invoice_is_no_credit_memo(api, world, download):
    invoice = some(world.company, "na", "Invoice")
    options = {"invoiceId": invoice.number, "documentType": "Credits"}

    assert files(api, download, invoice.marketplace_id, options) is None


def test_an_order_summary_of_a_card_order(api, world, download):
    summary = some(world.company, "na", "OrderSummary")

    options = {"orderId": summary.number, "documentType": "OrderSummary"}

    assert files(api, download, summary.marketplace_id, options) == of(world.company, summary)


def test_an_order_that_is_paid_by_invoice_has_no_summary(api, world, download):
    invoice = some(world.company, "na", "Invoice")
    options = {"orderId": invoice.order_ids[0], "documentType": "OrderSummary"}

    assert files(api, download, invoice.marketplace_id, options) is None


def test_an_order_of_europe_gives_all_its_documents_at_once(api, world, download):
    memo = some(world.company, "eu", "CreditMemo")
    (order_id,) = memo.order_ids

    found = files(api, download, memo.marketplace_id, {"orderId": order_id})

    all_of_it = [each for each in world.company.documents if order_id in each.order_ids]
    assert len(all_of_it) > 1
    assert found == of(world.company, *all_of_it)
    invoices = [each for each in all_of_it if each.kind == "Invoice"]
    asked = {"orderId": order_id, "documentType": "Invoice"}
    assert files(api, download, memo.marketplace_id, asked) == of(world.company, *invoices)


def test_a_consolidated_invoice_of_europe_comes_by_number_and_not_by_order(api, world, download):
    invoice = some(world.company, "eu", "Invoice", is_consolidated=True)

    found = files(api, download, invoice.marketplace_id, {"invoiceId": invoice.number})

    assert found == of(world.company, invoice)
    assert files(api, download, invoice.marketplace_id, {"orderId": invoice.order_ids[0]}) is None


def test_japan_gives_the_documents_of_a_shipment_by_the_three_ids(api, world, download):
    memo = some(world.company, "fe", "CreditMemo")
    line = memo.lines[0]
    options = {
        "orderId": line.order_id,
        "orderLineItemId": line.order_line_item_id,
        "shipmentId": line.shipment_id,
    }

    found = files(api, download, memo.marketplace_id, options)

    ids = {(each.order_id, each.shipment_id) for each in memo.lines}
    expected = [
        each
        for each in world.company.documents
        if not each.is_consolidated and ids & {(line.order_id, line.shipment_id) for line in each.lines}
    ]
    assert found == of(world.company, *expected)
    assert {each.kind for each in expected} == {"Invoice", "CreditMemo"}


def test_japan_has_a_consolidated_invoice_beside_the_plain_ones(api, world, download):
    invoice = some(world.company, "fe", "Invoice", is_consolidated=True)
    plain = world.company.document(invoice.consolidates[0])

    for each in (invoice, plain):
        found = files(api, download, each.marketplace_id, {"invoiceId": each.number})
        assert found == of(world.company, each)


@pytest.mark.parametrize("options", [{"invoiceId": "1XXX-XXXX-XXXX"}, {"orderId": "302-0000000-0000000"}])
def test_what_there_is_not_ends_cancelled(api, download, options):
    assert files(api, download, "A1PA6795UKMFR9", options) is None


def test_an_invoice_of_another_marketplace_ends_cancelled(api, world, download):
    invoice = some(world.company, "eu", "Invoice", marketplace_id="A1PA6795UKMFR9")

    assert files(api, download, "A13V1IB3VIYZZH", {"invoiceId": invoice.number}) is None


def test_an_invoice_is_there_from_the_moment_it_is_issued(start, caller, download):
    sandbox = start(company=Company(seed=1, orders=27), token_seconds=10**9)
    api, company = caller(sandbox), sandbox.company
    now = sandbox.clock.now()
    invoice = min(
        (each for each in company.documents if each.issued_at > now and each.kind == "Invoice"),
        key=lambda each: each.issued_at,
    )
    options = {"invoiceId": invoice.number, "documentType": "Invoice"}

    assert files(api, download, invoice.marketplace_id, options) is None
    sandbox.clock.advance((invoice.issued_at - sandbox.clock.now()).total_seconds() + 1)

    assert files(api, download, invoice.marketplace_id, options) == of(company, invoice)


def test_a_summary_is_preliminary_until_all_is_shipped(start, caller, download):
    sandbox = start(company=Company(seed=1, orders=27, days=40), token_seconds=10**9)
    api, company = caller(sandbox), sandbox.company
    now = sandbox.clock.now()
    summary = next(each for each in company.documents if each.kind == "OrderSummary" and each.issued_at > now)
    options = {"orderId": summary.number, "documentType": "OrderSummary"}
    placed = company.books.placed[summary.number]

    if placed > now:
        assert files(api, download, summary.marketplace_id, options) is None
        sandbox.clock.advance((placed - sandbox.clock.now()).total_seconds() + 1)
    (early,) = files(api, download, summary.marketplace_id, options).values()
    sandbox.clock.advance((summary.issued_at - sandbox.clock.now()).total_seconds() + timedelta(minutes=1).seconds)

    assert b"Preliminary" in early
    assert files(api, download, summary.marketplace_id, options) == of(company, summary)


def test_what_a_script_says_still_holds(start, caller):
    sandbox = start(company=Company(orders=9))
    api = caller(sandbox)
    sandbox.script("DONE")

    assert api.status(api.created(TYPE, {"invoiceId": "no-such", "documentType": "Invoice"})) == "DONE"
    assert api.status(api.created(TYPE, {"invoiceId": "FATAL-1", "documentType": "Invoice"})) == "FATAL"
    assert api.status(api.created(TYPE, {"invoiceId": "no-such", "documentType": "Invoice"})) == "CANCELLED"


def test_another_account_has_no_part_in_it(start, caller):
    sandbox = start(company=Company(orders=9))
    other = caller(sandbox, sandbox.add_account())
    invoice = next(each for each in sandbox.company.documents if each.kind == "Invoice")

    # Without a company, every invoice exists.
    assert other.status(other.created(TYPE, {"invoiceId": "anything", "documentType": "Invoice"})) == "DONE"
    report = other.created(TYPE, {"invoiceId": invoice.number, "documentType": "Invoice"})
    assert sandbox.company.pdf(invoice) not in gzip.decompress(sandbox.document(report))
