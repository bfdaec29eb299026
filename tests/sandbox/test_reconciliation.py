"""The Reconciliation API over HTTP: its rules, its errors, and what it shows of the company as time goes by."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import quote

import pytest

from airflow_provider_amzbiz.sandbox import Company, Fault, ReconciliationSettings

BASE = "/reconciliation/2021-01-08"
TRANSACTIONS = f"{BASE}/transactions"
INVOICES = f"{BASE}/invoices"
PAYMENTS = f"{BASE}/invoices/batch/paymentDetails"
START = datetime(2026, 1, 5, tzinfo=timezone.utc)
WINDOW = "feedStartDate=2026-01-01T00:00:00Z&feedEndDate=2026-06-01T00:00:00Z"
LINE = {"orderId": "1", "orderLineItemId": "2", "shipmentId": "3"}
CALLS = {
    "getTransactions": ("GET", f"{TRANSACTIONS}?{WINDOW}", None),
    "getInvoiceDetailsByOrderLineItems": ("POST", INVOICES, {"orderLineItems": [LINE]}),
    "getBatchInvoicePaymentDetails": ("POST", PAYMENTS, {"invoiceIds": ["1"]}),
}


@pytest.fixture
def world(start, caller):
    """Return a function that starts a sandbox whose clock is at the end of the company's life."""

    def starter(orders=40, *, at_end=True, **settings):
        company = Company(seed=5, orders=orders, start=START, **settings.pop("of_company", {}))
        # Tokens that outlive the tests' leaps in time.
        api = caller(start(company=company, region="any", token_seconds=10**9, **settings))
        if at_end:
            move(api.sandbox, company.end + timedelta(hours=1))
        else:
            move(api.sandbox, START)
        return api

    return starter


def move(sandbox, time):
    sandbox.clock.advance((time - sandbox.clock.now()).total_seconds())


def errors(response):
    (error,) = response.json()["errors"]
    assert error["code"] == "INVALID_REQUEST_PARAMETER"
    return response.status_code, error["message"]


def all_rows(api, query=WINDOW):
    rows, token = [], None
    while True:
        more = "" if token is None else f"&nextPageToken={quote(token, safe='')}"
        body = api.request("GET", f"{TRANSACTIONS}?{query}{more}").json()
        rows += body["transactions"]
        token = body.get("nextPageToken")
        if not token:
            return rows


def post(api, path, **body):
    return api.request("POST", path, json=body)


def ids(line):
    return dict(zip(LINE, line.ids, strict=True))


@pytest.mark.parametrize("operation", CALLS)
def test_a_sandbox_without_a_company_shows_nothing(api, operation):
    method, path, body = CALLS[operation]

    response = api.request(method, path, json=body)

    assert response.status_code == 200
    assert api.sandbox.count(operation) == 1
    (rows,) = response.json().values()
    assert rows in ([], [{"orderLineItem": LINE, "invoiceDetails": []}]) or rows[0]["resultType"] == "ERROR"


@pytest.mark.parametrize("operation", CALLS)
def test_each_operation_has_ten_calls_and_then_two_a_second(start, caller, operation):
    api = caller(start(throttle=True, time_scale=1e-6))
    method, path, body = CALLS[operation]

    statuses = [api.request(method, path, json=body).status_code for _ in range(11)]
    api.sandbox.clock.advance(0.6)
    again = api.request(method, path, json=body)

    assert statuses == [200] * 10 + [429]
    assert again.status_code == 200
    assert again.headers["x-amzn-RateLimit-Limit"] == "0.0"


@pytest.mark.parametrize("operation", CALLS)
def test_the_rate_is_told(api, operation):
    method, path, body = CALLS[operation]

    assert api.request(method, path, json=body).headers["x-amzn-RateLimit-Limit"] == "2.0"


@pytest.mark.parametrize("operation", CALLS)
def test_the_role_and_a_token_are_needed(start, caller, operation):
    method, path, body = CALLS[operation]
    api = caller(start(has_role=False))

    assert api.request(method, path, json=body).status_code == 403
    assert api.request(method, path, json=body, headers={"x-amz-access-token": "bad"}).status_code == 403


@pytest.mark.parametrize("operation", CALLS)
def test_faults_hit_it(api, operation):
    method, path, body = CALLS[operation]
    api.sandbox.inject(Fault(operation, "status", status=504))

    assert [api.request(method, path, json=body).status_code for _ in range(2)] == [504, 200]


@pytest.mark.parametrize("query", ["", "feedStartDate=2026-01-01T00:00:00Z", "feedEndDate=2026-01-01T00:00:00Z"])
def test_both_dates_are_needed(api, query):
    assert errors(api.request("GET", f"{TRANSACTIONS}?{query}")) == (400, "Missing required request parameters.")


@pytest.mark.parametrize(
    "date", ["incorrectFormatDate", "2026-01-01T00:00:00", "2026-01-01", "2026-13-01T00:00:00Z"]
)
def test_a_date_that_is_none_is_named(api, date):
    response = api.request("GET", f"{TRANSACTIONS}?feedStartDate={date}&feedEndDate=2026-01-01T00:00:00Z")

    assert errors(response) == (400, f"Input date [{date}] is not in the expected ISO8601 format.")


def test_the_start_must_not_be_after_the_end(api):
    query = "feedStartDate=2026-01-02T00:00:00Z&feedEndDate=2026-01-01T00:00:00Z"

    assert errors(api.request("GET", f"{TRANSACTIONS}?{query}"))[0] == 400


def test_the_window_is_of_feed_dates_and_both_ends_belong_to_it(world):
    api = world()
    rows = all_rows(api)
    feed_date = sorted(row["feedDate"] for row in rows)[len(rows) // 2]
    at = quote(feed_date, safe="")

    found = all_rows(api, f"feedStartDate={at}&feedEndDate={at}")

    assert [row["feedDate"] for row in found] == [feed_date] * len(found)
    assert found


def test_pages_hold_everything_once(world):
    api = world(reconciliation=ReconciliationSettings(page_size=7))

    rows = all_rows(api)

    assert sorted(row["transactionId"] for row in rows) == sorted(
        each.transaction_id for each in api.sandbox.company.transactions
    )
    assert api.sandbox.count("getTransactions") == -(-len(rows) // 7)


@pytest.mark.parametrize(
    ("style", "alone", "with_dates"), [("any", 200, 200), ("alone", 200, 400), ("with_dates", 400, 200)]
)
def test_what_goes_with_a_token(world, style, alone, with_dates):
    api = world(reconciliation=ReconciliationSettings(page_size=3, token_style=style))
    token = quote(api.request("GET", f"{TRANSACTIONS}?{WINDOW}").json()["nextPageToken"], safe="")

    assert api.request("GET", f"{TRANSACTIONS}?nextPageToken={token}").status_code == alone
    assert api.request("GET", f"{TRANSACTIONS}?{WINDOW}&nextPageToken={token}").status_code == with_dates


def test_a_token_is_for_its_own_dates_account_and_time(world, caller):
    api = world(reconciliation=ReconciliationSettings(page_size=3, token_seconds=60))
    plain = api.request("GET", f"{TRANSACTIONS}?{WINDOW}").json()["nextPageToken"]
    token = quote(plain, safe="")
    other_dates = "feedStartDate=2026-01-02T00:00:00Z&feedEndDate=2026-06-01T00:00:00Z"
    other = caller(api.sandbox, api.sandbox.add_account())

    refused = [
        api.request("GET", f"{TRANSACTIONS}?{other_dates}&nextPageToken={token}"),
        other.request("GET", f"{TRANSACTIONS}?{WINDOW}&nextPageToken={token}"),
        # Not encoded, so that a plus sign arrives as a blank.
        api.request("GET", f"{TRANSACTIONS}?{WINDOW}&nextPageToken={plain}"),
        api.request("GET", f"{TRANSACTIONS}?{WINDOW}&nextPageToken=other"),
    ]
    again = api.request("GET", f"{TRANSACTIONS}?{WINDOW}&nextPageToken={token}")
    api.sandbox.clock.advance(61)
    late = api.request("GET", f"{TRANSACTIONS}?{WINDOW}&nextPageToken={token}")

    assert [errors(each)[0] for each in [*refused, late]] == [400] * 5
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("last", "shown"), [("absent", {}), ("null", {"nextPageToken": None}), ("empty", {"nextPageToken": ""})]
)
def test_how_the_last_page_ends(start, caller, last, shown):
    api = caller(start(reconciliation=ReconciliationSettings(last_token=last)))

    assert api.request("GET", f"{TRANSACTIONS}?{WINDOW}").json() == {"transactions": [], **shown}


def test_a_wide_window_times_out(world):
    api = world(reconciliation=ReconciliationSettings(max_window_days=7))
    week = "feedStartDate=2026-01-05T00:00:00Z&feedEndDate=2026-01-12T00:00:00Z"

    assert api.request("GET", f"{TRANSACTIONS}?{WINDOW}").status_code == 504
    assert api.request("GET", f"{TRANSACTIONS}?{week}").status_code == 200


def test_rows_appear_and_change_with_the_clock(world):
    api = world(at_end=False)
    company, seen = api.sandbox.company, {}

    for day in range(60):
        move(api.sandbox, START + timedelta(days=day))
        rows = all_rows(api)
        assert len(rows) == len(company.transactions_at(api.sandbox.clock.now()))
        for row in rows:
            seen.setdefault(row["transactionId"], []).append(row)

    versions = {key: {json.dumps(row) for row in rows} for key, rows in seen.items()}
    assert set(versions) == {each.transaction_id for each in company.transactions}
    assert max(map(len, versions.values())) >= 2
    filled = [
        key for key, rows in seen.items() if not rows[0].get("invoiceNumber") and rows[-1].get("invoiceNumber")
    ]
    assert filled
    refed = [key for key, rows in seen.items() if rows[0]["feedDate"] != rows[-1]["feedDate"]]
    assert refed
    shipped = [
        key
        for key, rows in seen.items()
        if not rows[0]["transactionLineItems"][0].get("shipmentId")
        and rows[-1]["transactionLineItems"][0].get("shipmentId")
    ]
    assert shipped


def test_a_row_is_amended_between_pages(world):
    api = world(at_end=False, reconciliation=ReconciliationSettings(page_size=1))
    company = api.sandbox.company
    # The row that comes last, just before it is amended without being fed again.
    candidates = [
        each for each in company.transactions if [v.feed_date for v in each.versions] == [each.feed_date] * 2
    ]
    last = max(candidates, key=lambda each: each.transaction_id)
    move(api.sandbox, last.versions[1].appears_at - timedelta(minutes=1))
    first = api.request("GET", f"{TRANSACTIONS}?{WINDOW}").json()
    move(api.sandbox, last.versions[1].appears_at + timedelta(seconds=1))

    rows, token = first["transactions"], first["nextPageToken"]
    while token:
        body = api.request("GET", f"{TRANSACTIONS}?nextPageToken={quote(token, safe='')}").json()
        rows += body["transactions"]
        token = body.get("nextPageToken")

    (found,) = [row for row in rows if row["transactionId"] == last.transaction_id]
    assert found["invoiceNumber"]


@pytest.mark.parametrize(
    ("signed", "sign", "of_lines"), [(True, -1, -1), (False, 1, 1), ("amount", -1, 1), ("lines", 1, -1)]
)
def test_refunds_are_signed_or_not(world, signed, sign, of_lines):
    api = world(of_company={"signed_refunds": signed})

    refunds = [row for row in all_rows(api) if row["transactionType"] != "CHARGE"]

    assert refunds
    for row in refunds:
        amount = Decimal(row["amount"]["amount"])
        assert amount * sign > 0
        total = sum(Decimal(line["totalAmount"]["amount"]) for line in row["transactionLineItems"])
        assert amount * sign == total * of_lines


def test_missing_values_come_in_all_three_ways(world):
    rows = all_rows(world())

    assert any("chargeIdentifier" not in row for row in rows)
    assert any(row.get("chargeIdentifier", 0) is None for row in rows)
    assert any(row.get("chargeIdentifier") == "" for row in rows)


def test_yen_have_a_decimal_on_the_wire(world):
    amounts = [row["amount"]["amount"] for row in all_rows(world()) if row["amount"]["currencyCode"] == "JPY"]

    assert amounts
    assert all(each.endswith(".0") for each in amounts)


def test_details_do_not_come_in_the_order_of_the_request(world):
    api = world()
    lines = [ids(line) for line in api.sandbox.company.lines if line.shipment_id][:25]

    found = post(api, INVOICES, orderLineItems=lines).json()["invoiceDetailsByOrderLineItems"]

    assert [each["orderLineItem"] for each in found] == lines[::-1]


def test_an_invoice_has_no_number_until_it_is_issued(world):
    api = world(at_end=False)
    documents = [
        each for each in api.sandbox.company.documents
        if each.kind == "Invoice" and not each.consolidated_number
        and each.issued_at > each.lines[0].shipment_date + timedelta(hours=6)
    ]  # fmt: skip
    by_style = {each.before: each for each in documents}
    shown = {}
    for style, document in by_style.items():
        line = ids(document.lines[0])
        move(api.sandbox, document.lines[0].shipment_date + timedelta(hours=1))
        shown[style] = post(api, INVOICES, orderLineItems=[line]).json()["invoiceDetailsByOrderLineItems"][0]
        move(api.sandbox, document.issued_at + timedelta(seconds=1))
        after = post(api, INVOICES, orderLineItems=[line]).json()["invoiceDetailsByOrderLineItems"][0]
        assert document.number in [each["invoiceNumber"] for each in after["invoiceDetails"]]

    assert shown["left out"]["invoiceDetails"] == []
    assert {each["invoiceNumber"] for each in shown["null"]["invoiceDetails"]} == {None}


@pytest.mark.parametrize("country", ["DE", "JP"])
def test_a_consolidated_number_is_pending_until_the_period_ends(world, country):
    marketplace = {"DE": "A1PA6795UKMFR9", "JP": "A1VC38T7YXB528"}[country]
    api = world(at_end=False, of_company={"marketplaces": [marketplace]})
    company = api.sandbox.company
    whole = next(each for each in company.documents if each.is_consolidated)
    plain = company.document(whole.consolidates[0]) if whole.consolidates else whole
    line = ids(plain.lines[0])

    def detail():
        body = post(api, INVOICES, orderLineItems=[line]).json()
        (found,) = body["invoiceDetailsByOrderLineItems"][0]["invoiceDetails"]
        return found["invoiceNumber"], found["consolidatedInvoiceDetails"]["invoiceNumber"]

    move(api.sandbox, whole.issued_at - timedelta(minutes=1))
    before = detail()
    move(api.sandbox, whole.issued_at + timedelta(seconds=1))

    assert before == ("Pending" if country == "DE" else plain.number, "Pending")
    assert detail() == (plain.number, whole.number)


def test_japan_shows_totals_that_are_positive_and_what_a_memo_corrects(world):
    api = world(60, of_company={"marketplaces": ["A1VC38T7YXB528"]})
    memo = next(each for each in api.sandbox.company.documents if each.kind == "CreditMemo")

    body = post(api, INVOICES, orderLineItems=[ids(memo.lines[0])]).json()["invoiceDetailsByOrderLineItems"]
    found = {each["invoiceNumber"]: each for each in body[0]["invoiceDetails"]}

    assert Decimal(found[memo.number]["invoiceTotal"]) == -memo.total
    assert found[memo.number]["associatedInvoiceNumber"] == memo.related_number
    assert found[memo.number]["invoiceType"] == "CREDIT_MEMO"
    assert found[memo.related_number]["tax"][0]["rate"] == "0.10"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (INVOICES, {}, "Missing required request parameters."),
        (INVOICES, {"orderLineItems": []}, "The request contains invalid parameters."),
        (INVOICES, {"orderLineItems": [LINE] * 26}, "The request contains invalid parameters."),
        (INVOICES, {"orderLineItems": [{**LINE, "shipmentId": ""}]}, "Missing required request parameters."),
        (INVOICES, {"orderLineItems": [{**LINE, "shipmentId": None}]}, "The request contains invalid parameters."),
        (INVOICES, {"orderLineItems": ["1"]}, "The request contains invalid parameters."),
        (INVOICES, [], "Missing required request parameters."),
        (PAYMENTS, {}, "Missing required request parameters."),
        (PAYMENTS, {"invoiceIds": []}, "The request contains invalid parameters."),
        (PAYMENTS, {"invoiceIds": ["1"] * 26}, "The request contains invalid parameters."),
        (PAYMENTS, {"invoiceIds": [""]}, "The request contains invalid parameters."),
        (PAYMENTS, {"invoiceIds": ["1" * 256]}, "The request contains invalid parameters."),
        (PAYMENTS, {"invoiceIds": [1]}, "The request contains invalid parameters."),
    ],
)
def test_a_body_that_is_none(api, path, body, message):
    assert errors(api.request("POST", path, json=body)) == (400, message)


def test_a_body_that_is_no_json(api):
    response = api.request("POST", INVOICES, data="{", headers={"Content-Type": "application/json"})

    assert errors(response)[0] == 400


@pytest.mark.parametrize(("style", "count"), [("empty", 1), ("omit", 0)])
def test_a_line_that_there_is_not(start, caller, style, count):
    api = caller(start(reconciliation=ReconciliationSettings(unknown_lines=style)))

    body = post(api, INVOICES, orderLineItems=[LINE]).json()

    assert len(body["invoiceDetailsByOrderLineItems"]) == count


def test_payment_details_of_invoices_that_there_are(world):
    api = world()
    company = api.sandbox.company
    invoice = next(each for each in company.documents if each.kind == "Invoice")
    memo = next(each for each in company.documents if each.kind == "CreditMemo")

    def results():
        body = post(api, PAYMENTS, invoiceIds=[invoice.number, memo.number, "other"]).json()
        return {each["invoiceId"]: each for each in body["invoicePaymentDetailsResults"]}

    move(api.sandbox, invoice.issued_at - timedelta(minutes=1))
    assert {each["resultType"] for each in results().values()} == {"ERROR"}
    statuses = []
    for days in (1, 20, 40):
        move(api.sandbox, invoice.issued_at + timedelta(days=days))
        found = results()
        statuses.append(found[invoice.number]["paymentDetails"]["status"])
    assert statuses[:2] == ["Issued", "Payment Processing"]
    assert statuses[2] in ("Past Due", "Closed")
    assert {found[each]["resultType"] for each in (memo.number, "other")} == {"ERROR"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"token_style": "none"}, "token_style is 'none'"),
        ({"last_token": "none"}, "last_token is 'none'"),
        ({"unknown_lines": "error"}, "unknown_lines is 'error'"),
        ({"page_size": 0}, "page_size is 0"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValueError, match=said):
        ReconciliationSettings(**settings)


def test_the_books_are_shown_by_http(world):
    api = world()

    books = api.request("GET", "/sandbox/company").json()

    assert len(books["documents"]) == len(api.sandbox.company.documents)
    assert len(books["transactions"]) == len(api.sandbox.company.transactions)
    assert sum(Decimal(each["total"]) for each in books["documents"]) == sum(
        each.total for each in api.sandbox.company.documents
    )
