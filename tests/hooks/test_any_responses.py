"""Whatever the API returns, a hook returns a value or raises one of our errors, without a token in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_none

from airflow_provider_amzbiz.client import transport
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from tests.fuzzing import bounded

LINES = "SANDBOX_ORDER_LINES"
US = "ATVPDKIKX0DER"
CALLS = {
    "createReport": lambda hook: hook.create_report(LINES, [US]),
    "getReport": lambda hook: hook.get_report("1"),
    "getReports": lambda hook: list(hook.get_reports(report_types=[LINES])),
    "cancelReport": lambda hook: hook.cancel_report("1"),
    "getReportDocument": lambda hook: hook.get_report_document("1"),
    "token": lambda hook: hook.get_report("1"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ERRORS = st.fixed_dictionaries(
    {"errors": st.lists(st.dictionaries(st.sampled_from(["code", "message", "details"]), JSON))}
)
BODIES = st.one_of(
    JSON.map(json.dumps),
    ERRORS.map(json.dumps),
    st.text(max_size=200),
    st.sampled_from(["json", "html", "empty", "null_message", "[" * 5000, "{" * 3, '{"reportId": "', "\ufeff{}"]),
)
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.strip)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-amzn-RateLimit-Limit": st.sampled_from(["0", "-1", "nan", "inf", "1e999", "0.1", "", "many"]) | LATIN,
        "Retry-After": st.sampled_from(["0", "-5", "nan", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"]) | LATIN,
        "x-amzn-RequestId": LATIN,
        "x-amzn-ErrorType": LATIN,
        "Content-Type": st.sampled_from(
            ["application/json", "text/html; charset=utf-16", "text/plain; charset=nope"]
        ),
        "Date": LATIN,
    },
)
STATUSES = st.sampled_from(
    [200, 201, 202, 204, 206, 299, 400, 401, 403, 404, 409, 413, 415, 418, 429, 500, 502, 503, 504, 599]
)


@pytest.mark.parametrize("operation", sorted(CALLS))
@bounded(60)
@given(status=STATUSES, body=BODIES, headers=HEADERS)
def test_any_response_is_a_value_or_a_known_error(sandbox, operation, status, body, headers):
    sandbox.clear_faults()
    sandbox.expire_tokens()
    sandbox.inject(Fault(operation, "status", times=None, status=status, body=body, headers=headers))
    hook = AmazonBusinessHook(retry_for=0, max_throttle_wait=0)
    try:
        CALLS[operation](hook)
    except AmazonBusinessError as error:
        shown = f"{error} {error!r} {error.to_dict()}"
        assert "Atza|" not in shown
        assert sandbox.client_secret not in shown
        assert sandbox.refresh_token not in shown


@pytest.fixture
def at_once(monkeypatch):
    """Retries do not wait."""
    monkeypatch.setattr(transport, "wait_random_exponential", lambda **_: wait_none())


@bounded(40)
@given(
    count=st.integers(0, 45),
    page_size=st.integers(1, 20),
    faults=st.lists(
        st.tuples(
            st.sampled_from(["status", "drop", "lost", "empty", "expire_token", "lost_status"]), st.integers(0, 6)
        ),
        max_size=4,
    ),
)
def test_every_report_is_listed_once_whatever_happens_between_pages(sandbox, at_once, count, page_size, faults):
    sandbox.clear_faults()
    sandbox.accounts[0].reports.clear()
    planted = [sandbox.add_report(LINES) for _ in range(count)]
    for kind, after in faults:
        sandbox.inject(Fault("getReports", kind, after=after))
    calls = len(sandbox.calls)

    found = [
        each.report_id for each in AmazonBusinessHook().get_reports(report_types=[LINES], page_size=page_size)
    ]

    assert sorted(found) == sorted(planted)
    queries = [call.query for call in sandbox.calls[calls:] if call.operation == "getReports"]
    assert all("&" not in query for query in queries if "nextToken" in query)
