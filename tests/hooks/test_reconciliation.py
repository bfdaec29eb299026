"""The hook's methods for the Reconciliation API: parameters, errors, limits, and any response."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.client.reconciliation_models import (
    InvoiceDetailsByOrderLineItem,
    InvoicePaymentDetails,
    Transaction,
)
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import Limit
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Company, Fault, Sandbox
from tests.airflow_names import AirflowFailException
from tests.conftest import connect
from tests.fuzzing import bounded

FROM, UNTIL = "2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z"
CALLS = {
    "getTransactions": lambda hook: list(hook.get_transactions(FROM, UNTIL)),
    "getInvoiceDetailsByOrderLineItems": lambda hook: list(hook.get_invoice_details([("1", "2", "3")])),
    "getBatchInvoicePaymentDetails": lambda hook: list(hook.get_invoice_payment_details(["1"])),
}
LISTS = ("transactions", "invoiceDetailsByOrderLineItems", "invoicePaymentDetailsResults")
KINDS = (Transaction, InvoiceDetailsByOrderLineItem, InvoicePaymentDetails)


def test_the_three_operations_return_models(monkeypatch):
    with Sandbox(company=Company(seed=1, orders=12), throttle=False) as sandbox:
        connect(monkeypatch, sandbox)
        sandbox.clock.advance(40 * 86400)
        hook = AmazonBusinessHook()
        rows = list(hook.get_transactions(sandbox.company.start, sandbox.clock.now()))
        lines = [line for each in rows for line in each.transaction_line_items if line.shipment_id]
        details = list(hook.get_invoice_details(lines))
        numbers = [each.invoice_number for found in details for each in found.invoice_details]
        payments = list(hook.get_invoice_payment_details(numbers))

    assert len(rows) == len(sandbox.company.transactions)
    assert sum(each.amount.amount for each in rows) == sum(each.amount for each in sandbox.company.transactions)
    assert all(isinstance(each.amount.amount, Decimal) for each in rows)
    assert len(details) == len(lines)
    assert set(numbers) == {each.number for each in sandbox.company.documents if each.kind != "OrderSummary"}
    assert [each.invoice_id for each in payments] == numbers


@pytest.mark.parametrize(
    "call",
    [
        lambda hook: hook.get_transactions("2026-01-01", UNTIL),
        lambda hook: hook.get_transactions(UNTIL, FROM),
        lambda hook: hook.get_transactions(FROM, UNTIL, max_window=timedelta(0)),
        lambda hook: hook.get_invoice_details([("1", "2", None)]),
        lambda hook: hook.get_invoice_payment_details(["Pending"]),
    ],
)
def test_bad_input_is_refused_at_once_and_for_good(sandbox, call):
    with pytest.raises(exceptions.InvalidInputError) as caught:
        call(AmazonBusinessHook())

    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.calls == []


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, exceptions.InvalidInputError),
        (403, exceptions.AccessDeniedError),
        (404, exceptions.InvalidInputError),
        (413, exceptions.InvalidInputError),
        (429, exceptions.ThrottledError),
        (503, exceptions.AmazonBusinessError),
        (504, exceptions.AmazonBusinessError),
    ],
)
def test_errors_are_translated(sandbox, operation, status, kind):
    sandbox.inject(Fault(operation, "status", status=status, times=None))

    with pytest.raises(exceptions.AmazonBusinessError) as caught:
        CALLS[operation](AmazonBusinessHook(retry_for=0, max_throttle_wait=0))

    assert type(caught.value) is kind
    assert (caught.value.operation, caught.value.status) == (operation, status)


def test_the_missing_role_is_named(sandbox, monkeypatch):
    with Sandbox(has_role=False) as denied:
        connect(monkeypatch, denied)
        with pytest.raises(exceptions.AccessDeniedError, match="Business Purchase Reconciliation"):
            CALLS["getTransactions"](AmazonBusinessHook())


@pytest.mark.parametrize("operation", CALLS)
def test_the_connection_can_set_the_limits(sandbox, monkeypatch, operation):
    connect(monkeypatch, sandbox, rate_limits=json.dumps({operation: [0.5, 4]}))

    hook = AmazonBusinessHook()

    assert token_buckets(hook.client.config)[operation].limit == Limit(0.5, 4)


def test_a_task_that_is_stopped_sends_no_further_page(monkeypatch):
    stopped = []
    with Sandbox(company=Company(seed=1, orders=12), throttle=False) as sandbox:
        connect(monkeypatch, sandbox)
        sandbox.clock.advance(40 * 86400)
        rows = AmazonBusinessHook(stopped=lambda: bool(stopped)).get_transactions(
            sandbox.company.start, sandbox.clock.now(), max_window=timedelta(days=1)
        )
        next(rows)
        calls = sandbox.count("getTransactions")
        stopped.append(True)
        with pytest.raises(exceptions.TaskKilledError):
            list(rows)

        assert sandbox.count("getTransactions") == calls


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("Pending")
NAMES = st.sampled_from(
    [
        "amount", "currencyCode", "transactionId", "feedDate", "transactionLineItems", "orderLineItem", "orderId",
        "orderLineItemId", "shipmentId", "invoiceDetails", "invoiceNumber", "invoiceDate", "invoiceTotal", "tax",
        "consolidatedInvoiceDetails", "invoiceId", "resultType", "paymentDetails", "error", "dueDate", "fees",
        "businessOrderInfo", "itemQuantity", "apportionment", "transactionDataItems", "buyer", "other",
    ]
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
RESPONSES = st.dictionaries(
    st.sampled_from([*LISTS, "nextPageToken"]), st.lists(ANYTHING, max_size=3) | ANYTHING, min_size=1, max_size=4
)


@pytest.mark.parametrize("operation", CALLS)
@bounded(120)
@given(body=RESPONSES)
def test_any_response_is_models_or_one_of_our_errors(sandbox, operation, body):
    sandbox.clear_faults()
    sandbox.inject(Fault(operation, "status", times=None, status=200, body=json.dumps(body)))
    kind = KINDS[list(CALLS).index(operation)]
    try:
        found = CALLS[operation](AmazonBusinessHook(retry_for=0))
    except exceptions.AmazonBusinessError:
        return
    for each in found:
        assert isinstance(each, kind)
        json.dumps(each.to_dict())
        hash(each)


@pytest.mark.parametrize("depth", [40, 60, 600, 900, 960, 100_000])
@pytest.mark.parametrize("operation", CALLS)
def test_a_response_of_any_depth_is_models_or_one_of_our_errors(sandbox, operation, depth):
    nested = "[" * depth + "]" * depth
    row = f'{{"transactionId": "1", "invoiceId": "1", "orderLineItem": {{}}, "new": {nested}}}'
    name = LISTS[list(CALLS).index(operation)]
    sandbox.inject(Fault(operation, "status", status=200, times=None, body=f'{{"{name}": [{row}]}}'))
    try:
        found = CALLS[operation](AmazonBusinessHook(retry_for=0))
        dicts = [each.to_dict() for each in found]
    except exceptions.AmazonBusinessError:
        assert depth > 50
    else:
        assert len(dicts) == 1
