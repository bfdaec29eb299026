"""Windows and pages of getTransactions: nothing lost, nothing twice, and every reading ends."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.transaction_reader import MIN_WINDOW, TransactionReader, wire_time
from tests.fuzzing import bounded

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def row(number, when=START, **more):
    return {"transactionId": f"t{number}", "feedDate": when.isoformat(), **more}


class Api:
    """Responds as getTransactions, with the transport's own errors, and remembers what it was asked.

    :ivar rows: what there is.
    :ivar widest: windows that are wider are answered 504.
    :ivar refuse: gets the query; what it returns is the status to refuse it with, if any.
    """

    def __init__(self, rows=(), *, page_size=3, widest=timedelta.max, refuse=lambda query: None, answer=None):
        self.rows = list(rows)
        self.page_size = page_size
        self.widest = widest
        self.refuse = refuse
        self.answer = answer
        self.refusal = b'{"errors": [{"code": "Refused"}]}'
        self.queries = []
        self._left = {}

    def call(self, operation, method, path, *, query, repeatable, read):
        assert (operation, method, path) == (
            "getTransactions",
            "GET",
            "/reconciliation/2021-01-08/transactions",
        )
        asked = {
            name: values[0] for name, values in parse_qs(query.removeprefix("?"), strict_parsing=True).items()
        }
        self.queries.append(asked)
        if status := self.refuse(asked):
            raise errors.error_from_response(operation, status, self.refusal, request_id=None)
        body = self.answer(asked) if self.answer else self._page(asked)
        return read(json.dumps(body).encode())

    def _page(self, asked):
        if token := asked.get("nextPageToken"):
            rows = self._left[token]
        else:
            start, end = (datetime.fromisoformat(asked[name]) for name in ("feedStartDate", "feedEndDate"))
            if end - start > self.widest:
                raise errors.UnavailableError("too wide", operation="getTransactions", status=504)
            rows = [each for each in self.rows if start <= datetime.fromisoformat(each["feedDate"]) <= end]
        page, left = rows[: self.page_size], rows[self.page_size :]
        token = f"+/={len(self.queries)}"
        self._left[token] = left
        return {"transactions": page, **({"nextPageToken": token} if left else {})}


def read(api, start=START, end=START + 10 * DAY, **settings):
    return [each.transaction_id for each in TransactionReader(api, **settings).read(start, end)]


@pytest.mark.parametrize("last", [{}, {"nextPageToken": None}, {"nextPageToken": ""}])
def test_pages_are_read_until_there_is_no_token(last):
    pages = iter([{"transactions": [row(1)], "nextPageToken": "a"}, {"transactions": [row(2)], **last}])

    assert read(Api(answer=lambda _: next(pages))) == ["t1", "t2"]


def test_the_dates_go_with_the_token():
    api = Api([row(number) for number in range(5)])

    assert len(read(api)) == 5
    assert api.queries == [
        {"feedStartDate": "2026-01-01T00:00:00Z", "feedEndDate": "2026-01-11T00:00:00Z"},
        {"feedStartDate": "2026-01-01T00:00:00Z", "feedEndDate": "2026-01-11T00:00:00Z", "nextPageToken": "+/=1"},
    ]


def test_the_token_goes_alone_where_the_dates_are_refused_with_it():
    api = Api([row(number) for number in range(9)], refuse=lambda query: 400 if len(query) == 3 else None)

    assert read(api) == [f"t{number}" for number in range(9)]
    # It is found out once, and not again for each page.
    assert [sorted(each) for each in api.queries[1:]] == [
        ["feedEndDate", "feedStartDate", "nextPageToken"],
        ["nextPageToken"],
        ["nextPageToken"],
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_other_refusals_of_a_page_are_not_taken_for_that(status):
    api = Api([row(number) for number in range(9)], refuse=lambda query: status if len(query) == 3 else None)

    with pytest.raises(errors.ApiError) as caught:
        read(api)

    assert caught.value.status == status
    assert len(api.queries) == 2


def test_a_400_to_the_first_page_is_the_callers():
    api = Api(refuse=lambda query: 400)

    with pytest.raises(errors.RequestRejectedError):
        read(api)

    assert len(api.queries) == 1


def test_a_404_is_no_missing_report():
    with pytest.raises(errors.RequestRejectedError) as caught:
        read(Api(refuse=lambda query: 404))

    assert caught.value.status == 404


def test_a_404_of_a_proxy_may_pass():
    api = Api(refuse=lambda query: 404)
    api.refusal = b"<html></html>"

    with pytest.raises(errors.UnreachableError):
        read(api)


def test_a_token_that_runs_out_has_the_window_read_again_and_no_row_twice():
    refused = []

    def refuse(query):
        expired = "nextPageToken" in query and len(refused) < 2 and len(api.queries) > 2
        return refused.append(1) or 400 if expired else None

    api = Api([row(number) for number in range(9)], refuse=refuse)

    assert read(api) == [f"t{number}" for number in range(9)]
    assert len(refused) == 2


def test_tokens_that_never_work_end_the_reading():
    api = Api([row(number) for number in range(9)], refuse=lambda query: 400 if "nextPageToken" in query else None)

    with pytest.raises(errors.RequestRejectedError):
        read(api)

    assert len(api.queries) == 9


def test_a_row_that_was_amended_between_two_readings_is_yielded_again():
    refused = []

    def refuse(query):
        if "nextPageToken" not in query or len(refused) == 2:
            return None
        api.rows[0] = row(0, invoiceNumber="1")
        return refused.append(1) or 400

    api = Api([row(number) for number in range(4)], refuse=refuse)

    found = list(TransactionReader(api).read(START, START + DAY))

    assert [(each.transaction_id, each.invoice_number) for each in found] == [
        ("t0", None), ("t1", None), ("t2", None), ("t0", "1"), ("t3", None),
    ]  # fmt: skip


def test_a_window_is_halved_after_a_504_and_grows_again():
    rows = [row(number, START + number * DAY / 4) for number in range(41)]
    api = Api(rows, widest=2 * DAY, page_size=100)

    assert read(api) == [f"t{number}" for number in range(41)]
    widths = [
        datetime.fromisoformat(each["feedEndDate"]) - datetime.fromisoformat(each["feedStartDate"])
        for each in api.queries
    ]
    assert widths[:4] == [10 * DAY, 5 * DAY, 2.5 * DAY, 1.25 * DAY]
    assert max(widths[4:]) > 2 * DAY


def test_a_504_to_a_later_page_halves_the_window_and_repeats_no_row():
    def refuse(query):
        width = datetime.fromisoformat(query["feedEndDate"]) - datetime.fromisoformat(query["feedStartDate"])
        return 504 if "nextPageToken" in query and width > 3 * DAY else None

    rows = [row(number, START + number * DAY / 4) for number in range(41)]
    # Newest first, so that what was yielded before the 504 lies in the windows that come last.
    api = Api(reversed(rows), refuse=refuse)

    found = read(api)

    assert sorted(found) == sorted(each["transactionId"] for each in rows)


def test_the_narrowest_window_is_left_to_the_transport():
    seen = []

    class Down:
        def call(self, *_arguments, query, repeatable, read):
            error = errors.UnavailableError("down", operation="getTransactions", status=504)
            seen.append(repeatable(error))
            raise error

    with pytest.raises(errors.UnavailableError):
        read(Down(), START, START + 3 * MIN_WINDOW)

    # Three minutes, one and a half, and less than a minute: only that is worth repeating as it is.
    assert seen == [False, False, True]


def test_other_faults_are_left_to_the_transport():
    seen = []

    class Down:
        def call(self, *_arguments, query, repeatable, read):
            error = errors.UnavailableError("down", operation="getTransactions", status=503)
            seen.append(repeatable(error))
            raise error

    with pytest.raises(errors.UnavailableError):
        read(Down())

    assert seen == [True]


def test_windows_share_a_moment_and_their_rows_come_once():
    edge = START + 2 * DAY
    api = Api([row(1, edge - timedelta(milliseconds=1)), row(2, edge), row(3, edge + timedelta(milliseconds=1))])

    assert read(api, max_window=2 * DAY) == ["t1", "t2", "t3"]
    assert [each["feedStartDate"] for each in api.queries][:2] == [
        "2026-01-01T00:00:00Z",
        "2026-01-02T23:59:59.999Z",
    ]


def test_a_wide_range_is_read_in_windows():
    api = Api()

    read(api, START, START + 100 * DAY)

    assert len(api.queries) == 4


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([([row(1)], "a"), ([row(2)], "a")], "the same nextPageToken again"),
        ([([row(1)], "a"), ([row(2)], "b"), ([row(3)], "a")], "the same nextPageToken again"),
        ([([row(1)], "a"), ([row(1)], "b")], "a page that it had returned before"),
        ([([row(1)], "a"), ([row(2)], "b"), ([row(1)], "c")], "a page that it had returned before"),
    ],
)
def test_a_repeated_token_or_page_is_an_error(pages, said):
    served = iter([{"transactions": rows, "nextPageToken": token} for rows, token in pages])

    with pytest.raises(errors.UnavailableError, match=said):
        read(Api(answer=lambda _: next(served)))


def test_a_page_with_nothing_on_it_does_not_end_the_reading():
    pages = iter([{"transactions": [], "nextPageToken": "a"}, {"transactions": [row(1)]}])

    assert read(Api(answer=lambda _: next(pages))) == ["t1"]


def test_pages_with_nothing_on_them_for_ever_are_an_error():
    api: Api = Api(answer=lambda _: {"transactions": [], "nextPageToken": str(len(api.queries))})

    with pytest.raises(errors.UnavailableError, match="101 empty pages"):
        read(api)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        {"transactions": {}},
        {"transactions": [None]},
        {"transactions": [1]},
        {"transactions": [[]]},
        {"transactions": [], "nextPageToken": 1},
        {"transactions": [], "nextPageToken": "é"},
        {"transactions": [{"transactionLineItems": [None]}]},
        {"transactions": [{"amount": "much"}]},
    ],
)
def test_what_is_no_page_is_an_error_and_not_the_end(body):
    with pytest.raises(errors.UnavailableError):
        read(Api(answer=lambda _: body))


def test_no_list_at_all_is_an_empty_page():
    assert read(Api(answer=lambda _: {"transactions": None})) == []


@pytest.mark.parametrize(
    ("microseconds", "down", "up"),
    [
        (0, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        (1, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.001Z"),
        (1000, "2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00.001Z"),
        (999_999, "2026-01-01T00:00:00.999Z", "2026-01-01T00:00:01Z"),
    ],
)
def test_a_window_never_gets_narrower_on_the_wire(microseconds, down, up):
    moment = START + timedelta(microseconds=microseconds)

    assert (wire_time(moment), wire_time(moment, round_up=True)) == (down, up)


def test_the_last_moment_of_time_can_be_asked_for():
    last = datetime.max.replace(tzinfo=timezone.utc)

    assert read(Api(), last - DAY, last, max_window=timedelta.max) == []
    assert wire_time(last, round_up=True) == "9999-12-31T23:59:59.999Z"


@bounded(60)
@given(
    moments=st.lists(st.integers(0, 40 * 24), max_size=30),
    page_size=st.integers(1, 7),
    widest=st.integers(1, 24 * 40),
    window=st.integers(1, 24 * 40),
    expired=st.lists(st.booleans(), max_size=6),
)
def test_every_transaction_comes_once_whatever_happens(moments, page_size, widest, window, expired):
    rows = [row(number, START + timedelta(hours=hours)) for number, hours in enumerate(moments)]
    faults = list(expired)

    def refuse(query):
        # A refused token is refused alone too, but a window may fail twice only.
        if "nextPageToken" in query and len(query) == 3 and faults and faults.pop():
            return 400
        return None

    api = Api(rows, page_size=page_size, widest=timedelta(hours=widest), refuse=refuse)

    found = read(api, START, START + 40 * DAY, max_window=timedelta(hours=window))

    assert sorted(found) == sorted(each["transactionId"] for each in rows)


def test_the_parser_of_the_transport_keeps_amounts_exact():
    body = {"transactions": [row(1, amount={"amount": 0.1})]}

    (found,) = TransactionReader(Api(answer=lambda _: body)).read(START, START)

    assert str(found.amount.amount) == "0.1"
