"""The three operations of the Reconciliation API, against the sandbox."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from tenacity import wait_none

from airflow_provider_amzbiz.client import errors, transport
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.reconciliation import ReconciliationClient
from airflow_provider_amzbiz.client.reconciliation_models import (
    OrderLineItem,
    Transaction,
    TransactionLineItem,
)
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from airflow_provider_amzbiz.sandbox import Company, Fault, ReconciliationSettings, Sandbox

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
OPERATIONS = ("getTransactions", "getInvoiceDetailsByOrderLineItems", "getBatchInvoicePaymentDetails")
TRIPLE = ("114-1", "1", "D1")
QUICK = Limit(500.0, 500)


def client_of(sandbox, limit=QUICK, **settings):
    config = ClientConfig(
        sandbox.client_id,
        sandbox.client_secret,
        sandbox.refresh_token,
        sandbox.url,
        sandbox.token_url,
        rate_limits=dict.fromkeys(USAGE_PLAN, limit) if limit else {},
    )
    return ReconciliationClient(ReportsClient(config, **settings).transport)


@pytest.fixture(scope="module")
def world():
    """A sandbox with a company of which everything has happened. Its faults are the tests' own."""
    company = Company(seed=5, orders=60, start=START)
    with Sandbox(company=company, region="any", throttle=False) as sandbox:
        sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 86400)
        yield sandbox


@pytest.fixture
def served(world):
    world.clear_faults()
    world.expire_tokens()
    return world


@pytest.fixture
def client(served):
    return client_of(served)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(transport, "wait_random_exponential", lambda **_: wait_none())


def call(client, operation):
    """Use one operation to its end."""
    if operation == "getTransactions":
        return list(client.get_transactions(START, START + timedelta(days=1)))
    if operation == "getBatchInvoicePaymentDetails":
        return list(client.get_invoice_payment_details(["1"]))
    return list(client.get_invoice_details([TRIPLE]))


def all_of(client, sandbox):
    return list(client.get_transactions(START, sandbox.clock.now()))


def test_all_transactions_come_with_their_amounts_to_the_cent(served, client):
    found = {each.transaction_id: each for each in all_of(client, served)}

    books = {each.transaction_id: each for each in served.company.transactions}
    assert set(found) == set(books)
    assert {key: each.amount.amount for key, each in found.items()} == {
        key: each.amount for key, each in books.items()
    }
    assert {
        key: [line.total_amount.amount for line in each.transaction_line_items] for key, each in found.items()
    } == {key: [line.total for line in each.lines] for key, each in books.items()}
    assert not any(each.extra for each in found.values())


@pytest.mark.parametrize("style", ["any", "with_dates", "alone"])
@pytest.mark.parametrize("last", ["absent", "null", "empty"])
def test_both_styles_of_paging_give_everything(style, last):
    settings = ReconciliationSettings(page_size=3, token_style=style, last_token=last, max_window_days=7)
    company = Company(seed=2, orders=20, start=START)
    with Sandbox(company=company, throttle=False, reconciliation=settings) as sandbox:
        sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 86400)
        found = [each.transaction_id for each in client_of(sandbox).get_transactions(START, company.end)]

    assert sorted(found) == sorted(each.transaction_id for each in company.transactions)


def test_invoice_details_are_matched_by_the_three_ids(served, client):
    lines = [
        line
        for each in all_of(client, served)
        for line in each.transaction_line_items
        if line.shipment_id is not None
    ]
    before = served.count("getInvoiceDetailsByOrderLineItems")

    found = list(client.get_invoice_details(lines))

    assert len(lines) > 50
    assert served.count("getInvoiceDetailsByOrderLineItems") - before == -(-len(lines) // 25)
    assert len(found) == len(lines)
    for line, each in zip(lines, found, strict=True):
        ids = (line.order_id, line.order_line_item_id, line.shipment_id)
        assert each.order_line_item == OrderLineItem(*ids)
        expected = {document.number for document in served.company.documents_of(ids)}
        assert {detail.invoice_number for detail in each.invoice_details} == expected


def test_one_line_can_have_five_documents_and_one_document_many_lines(served, client):
    lines = [line.ids for line in served.company.lines if line.shipment_id]

    found = list(client.get_invoice_details(lines))

    counts = Counter(len(each.invoice_details) for each in found)
    assert counts[5] > 0
    by_number = Counter(
        detail.invoice_number for each in {each.order_line_item: each for each in found}.values()
        for detail in each.invoice_details
    )  # fmt: skip
    assert max(by_number.values()) > 3


def test_lines_are_taken_as_triples_as_models_and_from_a_generator(served, client):
    line = next(line for line in served.company.lines if line.document_number)
    item = TransactionLineItem(
        order_id=line.order_id, order_line_item_id=line.order_line_item_id, shipment_id=line.shipment_id
    )
    given = [line.ids, list(line.ids), item, OrderLineItem(*line.ids)]

    found = list(client.get_invoice_details(each for each in given))

    assert len(found) == 4
    assert len(set(found)) == 1
    assert found[0].invoice_details
    # The API is asked once for what is given twice.
    sent = json.loads([each for each in served.calls if each.operation == OPERATIONS[1]][-1].body)
    assert len(sent["orderLineItems"]) == 1


@pytest.mark.parametrize("unknown", ["empty", "omit"])
def test_a_line_that_the_api_does_not_know_has_no_documents(unknown):
    with Sandbox(throttle=False, reconciliation=ReconciliationSettings(unknown_lines=unknown)) as sandbox:
        (found,) = client_of(sandbox).get_invoice_details([TRIPLE])

    assert found.order_line_item == OrderLineItem(*TRIPLE)
    assert found.invoice_details == ()


class TestRejectedLines:
    """Whether an unknown line fails the call that names it is not documented."""

    @pytest.fixture
    def strict(self):
        company = Company(seed=5, orders=60, start=START)
        settings = ReconciliationSettings(unknown_lines="reject")
        with Sandbox(company=company, region="any", throttle=False, reconciliation=settings) as sandbox:
            sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 86400)
            yield sandbox

    def lines(self, sandbox, count):
        ids = [(each.order_id, each.order_line_item_id, each.shipment_id) for each in sandbox.company.lines]
        return [each for each in dict.fromkeys(ids) if each[2]][:count]

    @pytest.mark.parametrize("at", [0, 12, 24, 25, 29])
    def test_the_others_keep_their_documents(self, strict, caplog, at):
        known = self.lines(strict, 30)
        expected = list(client_of(strict).get_invoice_details(known))
        assert any(each.invoice_details for each in expected)

        found = list(client_of(strict).get_invoice_details([*known[:at], TRIPLE, *known[at:]]))

        assert found.pop(at).invoice_details == ()
        assert found == expected
        assert TRIPLE[0] in caplog.text

    def test_several_unknown_lines_are_found(self, strict):
        known = self.lines(strict, 20)
        unknown = [(f"999-{number}", "1", "D1") for number in range(5)]

        found = list(client_of(strict).get_invoice_details([*unknown, *known]))

        assert [each.invoice_details for each in found[:5]] == [()] * 5
        assert [each.order_line_item for each in found[5:]] == [OrderLineItem(*each) for each in known]

    @pytest.mark.parametrize("status", [400, 404])
    @pytest.mark.parametrize("count", [1, 2, 30])
    def test_a_call_that_is_rejected_whatever_its_lines_is_an_error(self, strict, status, count):
        strict.inject(Fault(OPERATIONS[1], "status", status=status, times=None))

        with pytest.raises(errors.RequestRejectedError):
            list(client_of(strict).get_invoice_details(self.lines(strict, count)))


def body_of(served, operation, body):
    served.inject(Fault(operation, "status", status=200, body=json.dumps(body)))


def details(order_id, *numbers):
    line = {"orderId": order_id, "orderLineItemId": "1", "shipmentId": "D1"}
    return {"orderLineItem": line, "invoiceDetails": [{"invoiceNumber": each} for each in numbers]}


def test_details_of_one_line_in_several_entries_are_put_together(served, client):
    body_of(
        served, OPERATIONS[1], {"invoiceDetailsByOrderLineItems": [details("114-1", "A"), details("114-1", "B")]}
    )

    (found,) = client.get_invoice_details([TRIPLE])

    assert [each.invoice_number for each in found.invoice_details] == ["A", "B"]


def test_details_that_were_not_asked_for_are_ignored_and_logged(served, client, caplog):
    body_of(
        served, OPERATIONS[1], {"invoiceDetailsByOrderLineItems": [details("999-9", "A"), details("114-1", "B")]}
    )

    (found,) = client.get_invoice_details([TRIPLE])

    assert [each.invoice_number for each in found.invoice_details] == ["B"]
    assert "999-9" in caplog.text


def test_payment_details_come_in_the_order_of_the_ids_with_errors_inside(served, client):
    invoices = [each.number for each in served.company.documents if each.kind == "Invoice"][:30]
    memo = next(each.number for each in served.company.documents if each.kind == "CreditMemo")
    ids = [*invoices, "no-such-invoice", memo, invoices[0]]
    before = served.count(OPERATIONS[2])

    found = list(client.get_invoice_payment_details(ids))

    assert [each.invoice_id for each in found] == ids
    assert served.count(OPERATIONS[2]) - before == 2
    good = [each for each in found if each.error is None]
    assert [each.invoice_id for each in good] == [*invoices, invoices[0]]
    assert all(each.payment_details.status and each.payment_details.due_date.tzinfo for each in good)
    assert found[30].error.code == "INVOICE_NOT_FOUND"


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "The response left the invoice out"),
        ([{"invoiceId": "other", "resultType": "SUCCESS"}], "The response left the invoice out"),
        ([{"invoiceId": "1", "resultType": "ERROR"}], "The response has no reason"),
        ([{"invoiceId": "1"}], "The response left the invoice out"),
        ([{"invoiceId": "1", "resultType": "ERROR", "error": {"message": "why"}}], "why"),
    ],
)
def test_whatever_is_no_success_has_an_error(served, client, results, message):
    body_of(served, OPERATIONS[2], {"invoicePaymentDetailsResults": results})

    (found,) = client.get_invoice_payment_details(["1"])

    assert found.error.message == message


@pytest.mark.parametrize("body", [[], None, {}, {"invoicePaymentDetailsResults": None}, {"invoices": []}])
@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_a_response_without_its_list_is_an_error(served, client, operation, body):
    body_of(served, operation, body)

    with pytest.raises(errors.UnavailableError, match="without the list"):
        call(client, operation)


def test_details_of_no_line_are_an_error(served, client):
    body_of(served, OPERATIONS[1], {"invoiceDetailsByOrderLineItems": [{"invoiceDetails": []}]})

    with pytest.raises(errors.UnavailableError, match="no order line"):
        call(client, OPERATIONS[1])


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-01-01", "2026-01-02T00:00:00Z", "feed_start_date is '2026-01-01', which has no UTC offset"),
        ("2026-01-01T00:00:00", "2026-01-02T00:00:00Z", "feed_start_date"),
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 2), "feed_end_date"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "is after feed_end_date"),
        ("{{ data_interval_start }}", "2026-01-01T00:00:00Z", "template that was not rendered"),
        (None, "2026-01-01T00:00:00Z", "feed_start_date is None"),
    ],
)
def test_a_range_that_is_none_is_refused_before_any_call(served, client, start, end, said):
    before = len(served.calls)

    with pytest.raises(errors.InvalidParameterError, match=said):
        client.get_transactions(start, end)

    assert len(served.calls) == before


@pytest.mark.parametrize("window", [timedelta(), timedelta(seconds=59), -timedelta(days=1), 31, None])
def test_a_window_that_is_none_is_refused(client, window):
    with pytest.raises(errors.InvalidParameterError, match="max_window"):
        client.get_transactions(START, START, max_window=window)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([("1", "2", None)], r"order_line_items\[0\] has no shipment_id"),
        ([TRIPLE, ("1", "2", "")], r"order_line_items\[1\].shipment_id is ''"),
        ([("1", "2")], r"order_line_items\[0\] is \('1', '2'\), but must be three ids"),
        (["114"], "must be three ids"),
        ([b"114"], "must be three ids"),
        ([None], "must be three ids"),
        ([TransactionLineItem(order_id="1")], "has no order_line_item_id"),
        ("114-1", "must be a list of"),
        ({"orderId": "1"}, "must be a list of"),
        (5, "must be a list of"),
        ([Transaction()], "must be three ids"),
        ([("{{ x }}", "2", "3")], "template that was not rendered"),
        ([("None", "2", "3")], "as a template renders a missing value"),
    ],
)
def test_lines_that_are_none_are_refused_before_any_call(served, client, lines, said):
    before = len(served.calls)

    with pytest.raises(errors.InvalidParameterError, match=said):
        client.get_invoice_details(lines)

    assert len(served.calls) == before


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ("1", "is the string '1'"),
        (5, "must be a list of invoice numbers"),
        ([""], "non-empty string"),
        (["x" * 256], "has 256 characters, but must have 1 to 255"),
        (["Pending"], "not issued yet"),
        (["1", None], r"invoice_ids\[1\] is None"),
    ],
)
def test_invoice_ids_that_are_none_are_refused_before_any_call(served, client, ids, said):
    before = len(served.calls)

    with pytest.raises(errors.InvalidParameterError, match=said):
        client.get_invoice_payment_details(ids)

    assert len(served.calls) == before


def test_nothing_is_asked_about_nothing(served, client):
    before = len(served.calls)

    assert list(client.get_invoice_details([])) == []
    assert list(client.get_invoice_payment_details([])) == []
    assert len(served.calls) == before


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "fault",
    [
        ("status", 500),
        ("status", 503),
        ("lost", 0),
        ("drop", 0),
        ("empty", 0),
        ("expire_token", 0),
        ("status", 429),
    ],
)
def test_a_fault_of_the_moment_is_retried_because_all_three_only_read(served, client, at_once, operation, fault):
    kind, status = fault
    served.inject(Fault(operation, kind, **({"status": status} if status else {})))

    call(client, operation)

    assert not served.faults


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [400, 403, 404, 413, 415])
def test_a_refusal_is_final(served, client, operation, status):
    served.inject(Fault(operation, "status", status=status, times=None))
    before = served.count(operation)

    with pytest.raises(errors.ApiError) as caught:
        call(client, operation)

    assert caught.value.permanent
    assert caught.value.status == status
    assert not isinstance(caught.value, errors.NotFoundError)
    assert served.count(operation) - before == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_the_role_the_error_says_which_one(operation):
    with Sandbox(has_role=False) as sandbox, pytest.raises(errors.AccessDeniedError) as caught:
        call(client_of(sandbox), operation)

    assert "Business Purchase Reconciliation" in str(caught.value)


def test_a_504_halves_the_window_instead_of_repeating_it(served, client):
    served.inject(Fault("getTransactions", "status", status=504))
    before = len(served.calls)

    found = all_of(client, served)

    assert len(found) == len(served.company.transactions)
    asked = [each.query for each in served.calls[before:] if each.operation == "getTransactions"]
    assert asked[0] not in asked[1:]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_keeps_to_its_own_limit(operation):
    with Sandbox() as sandbox:
        client = client_of(sandbox, limit=None, max_throttle_wait=0)
        with pytest.raises(errors.ThrottledError):  # noqa: PT012
            for _ in range(15):
                call(client, operation)

        # The limit was kept on this side: no call was refused.
        assert sandbox.count(operation) >= 9
        assert sandbox.count(operation, 429) == 0
        call(client, OPERATIONS[OPERATIONS.index(operation) - 1])


@pytest.mark.parametrize("amount", ["0.1", "12345678901234567.89"])
def test_an_amount_that_is_a_number_is_no_float_on_the_way(served, client, amount):
    body = f'{{"transactions": [{{"amount": {{"amount": {amount}}}}}]}}'
    served.inject(Fault("getTransactions", "status", status=200, body=body))

    (found,) = client.get_transactions(START, START)

    assert found.amount.amount == Decimal(amount)


def test_the_static_cases_of_amazon_are_read():
    with Sandbox(static=True) as sandbox:
        client = client_of(sandbox)
        (found,) = client.get_transactions("2020-07-09T00:00:00Z", "2020-08-01T00:00:00Z")
        lines = [
            ("503-0807783-5846230", "6172301145805", "Dps13nXXc"),
            ("250-9059274-9386231", "6172160940605", "DZms0yvhc"),
        ]
        details = list(client.get_invoice_details(lines))
        payments = list(client.get_invoice_payment_details(["JP218PV8HMOI", "1XQX-T4VG-9939"]))

    assert found.transaction_id == "1x47pVc03Ffs71cjjCct"
    assert [len(each.invoice_details) for each in details] == [2, 5]
    assert [each.error is None for each in payments] == [True, False]
