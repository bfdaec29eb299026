"""What a task remembers of its report, and what happens when the store fails."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.create_record import CreateRecord
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    InvalidInputError,
)
from airflow_provider_amzbiz.sandbox import Fault
from tests.airflow_names import TaskDeferred
from tests.creating import INVOICE, LINES, WINDOW, by_a_stranger, create, dated
from tests.deferring import Store, cleared, context, run
from tests.processes import lost_at


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


def test_a_store_that_fails_after_the_report_is_created_loses_no_id(sandbox, caplog):
    store = Store()
    record = store.set

    def fail_with_the_id(key, value, **_):
        if value["report_id"]:
            raise RuntimeError("the store is away")
        record(key, value)

    store.set = fail_with_the_id

    assert [create(**WINDOW).execute(context(store))] == list(sandbox.reports)
    assert "could not be written: the store is away" in caplog.text


def logged(caplog):
    """Return the lines about a missing store."""
    return [line for line in caplog.text.splitlines() if "no task state store" in line]


@pytest.mark.parametrize(
    ("try_number", "level", "what"),
    [
        (1, "INFO", "a retry cannot continue with the report of this attempt"),
        (2, "WARNING", "this attempt creates another one"),
    ],
)
def test_without_a_store_the_attempt_that_creates_again_warns(sandbox, caplog, try_number, level, what):
    caplog.set_level("INFO")

    create(retries=2).execute(context(try_number=try_number))

    (line,) = logged(caplog)
    assert line.startswith(level)
    assert what in line


@pytest.mark.parametrize(
    ("arguments", "ctx"),
    [
        ({"retries": 0}, context()),
        ({"retries": 2}, context(Store())),
        ({"retries": 2}, context(Store(), try_number=2)),
        ({"retries": 2, "durable": False}, context(try_number=2)),
    ],
    ids=["no retries", "a store", "a retry with a store", "not durable"],
)
def test_where_nothing_is_forgotten_nothing_is_logged(sandbox, caplog, arguments, ctx):
    caplog.set_level("INFO")

    create(**arguments).execute(ctx)

    assert logged(caplog) == []


def test_a_resumed_task_does_not_repeat_it(sandbox, caplog):
    sandbox.inject(Fault(operation="createReport", kind="status", status=429))
    caplog.set_level("INFO")
    events = []

    run(lambda: create(retries=2, deferrable=True), context(), deferrals=events)

    assert len(events) == 1
    assert len(logged(caplog)) == 1


def test_a_cleared_task_creates_a_new_report(sandbox):
    store = Store()
    first = create(**WINDOW).execute(context(store))

    second = create(**WINDOW).execute(cleared(store))
    third = create(**WINDOW).execute(cleared(store, try_number=3))

    assert len({first, second, third}) == 3


@pytest.mark.parametrize("changed", [{"max_tries": 2}, {"clear_number": 1}])
def test_a_clear_shows_in_either_number_of_airflow(sandbox, changed):
    # A DAG that has fewer retries than before, and a task that was cleared while it ran, change only one of them.
    store = Store()
    first = create(**WINDOW).execute(context(store))

    assert create(**WINDOW).execute(context(store, try_number=2, **changed)) != first


def at_once(**arguments):
    return lambda: create(**arguments)


def waiting(**arguments):
    return lambda: create(wait_for_completion=True, **arguments)


@pytest.mark.parametrize("make", [at_once, waiting])
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("request_of", [WINDOW, {"report_type": INVOICE, "report_options": {"invoiceId": "1"}}])
def test_a_worker_lost_before_airflow_stores_success_leaves_one_report(sandbox, make, deferrable, request_of):
    store = Store()
    ran = [
        run(make(deferrable=deferrable, **request_of), context(store, try_number=number)) for number in (1, 2, 3)
    ]

    assert ran == list(sandbox.reports) * 3
    assert sandbox.count("createReport") == 1


@pytest.mark.usefixtures("stranger")
def test_a_retry_after_the_hand_on_keeps_an_adopted_report_and_does_not_cancel_it(sandbox):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    first = dated().execute(context(store))
    assert CreateRecord(context(store), durable=True).is_adopted(REQUEST_OF_WINDOW)

    operator = dated(wait_for_completion=True, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context(store, try_number=2))

    assert deferred.value.trigger.report_id == first
    assert not deferred.value.trigger.cancel_on_kill


def test_not_durable_records_nothing(sandbox):
    store = Store()
    create(durable=False).execute(context(lost_at(store, "set")))


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.usefixtures("stranger")
def test_a_rejected_request_leaves_nothing_to_search_for(sandbox, status):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="status", status=status))
    with pytest.raises((InvalidInputError, AccessDeniedError)):
        dated().execute(context(store))

    assert store == {}
    theirs = by_a_stranger(sandbox)
    assert dated().execute(context(store)) != theirs
    assert sandbox.count("getReports") == 0


@pytest.mark.parametrize("status", [400, 429])
@pytest.mark.usefixtures("stranger")
def test_a_store_that_fails_does_not_hide_the_api_s_error(sandbox, status, caplog):
    class Undeletable(Store):
        def delete(self, key):
            raise RuntimeError("the store is away")

    sandbox.inject(Fault(operation="createReport", kind="status", status=status))

    with pytest.raises((InvalidInputError, TaskDeferred)) as ended:
        dated(deferrable=True).execute(context(Undeletable()))

    assert isinstance(ended.value, InvalidInputError) is (status == 400)
    assert "the store is away" in caplog.text


REQUEST = ReportRequest.of(LINES, "ATVPDKIKX0DER")
REQUEST_OF_WINDOW = ReportRequest.of(LINES, "ATVPDKIKX0DER", **WINDOW)
ANOTHER = ReportRequest.of(LINES, "A2EUQ1WTGCTBG2")


class TestTheRecord:
    def test_survives_the_process_in_the_store(self):
        store = Store()
        CreateRecord(context(store), durable=True).save(REQUEST, report_id="1", sent=[[1.0, None]])

        saved = CreateRecord(context(store), durable=True).load(REQUEST)

        assert (saved["report_id"], saved["sent"], saved["lookups"]) == ("1", [[1.0, None]], 0)

    def test_survives_a_deferral_without_a_store(self):
        record = CreateRecord(context(), durable=True)
        record.save(REQUEST, report_id="1")

        again = CreateRecord(context(), durable=True, carried=record.load(REQUEST))

        assert again.load(REQUEST)["report_id"] == "1"
        assert CreateRecord(context(), durable=True).load(REQUEST) is None

    def test_is_that_of_an_equal_request_only(self):
        record = CreateRecord(context(Store()), durable=True)
        record.save(REQUEST, report_id="1", adopted=True)
        assert record.load(ANOTHER) is None

        # Nothing of the other request's record is kept.
        record.save(ANOTHER, lookups=1)

        assert record.load(ANOTHER)["report_id"] is None
        assert record.load(REQUEST) is None

    @pytest.mark.parametrize("damaged", ["1", 1, [], {}, {"fingerprint": None}])
    def test_is_none_where_something_else_is_stored(self, damaged):
        store = Store()
        store.set(CreateRecord.KEY, damaged)

        assert CreateRecord(context(store), durable=True).load(REQUEST) is None

    def test_keeps_what_is_not_given(self):
        record = CreateRecord(context(Store()), durable=True)
        record.save(REQUEST, report_id="1", waiting_since=5.0)
        record.save(REQUEST, from_previous_attempt=True)

        saved = record.load(REQUEST)
        assert (saved["report_id"], saved["waiting_since"]) == ("1", 5.0)
        assert saved["from_previous_attempt"]
        assert record.load_of("1") == saved
        assert record.load_of("2") is None

    def test_is_not_kept_where_the_task_is_not_durable_but_what_was_adopted_is_known(self):
        store = Store()
        record = CreateRecord(context(store), durable=False)
        record.save(REQUEST, report_id="1", adopted=True)

        assert store == {}
        assert record.load(REQUEST) is None
        assert record.is_adopted(REQUEST)

    def test_a_new_attempt_searches_again_only_for_a_report_that_was_not_found(self):
        record = CreateRecord(context(Store()), durable=True)
        record.save(REQUEST, lookups=2)
        record.begin_attempt(REQUEST)
        assert record.load(REQUEST)["lookups"] == 0

        record.save(REQUEST, report_id="1", lookups=2)
        record.begin_attempt(REQUEST)
        assert record.load(REQUEST)["lookups"] == 2

    @pytest.mark.parametrize(
        ("method", "call", "done"),
        [
            ("get", lambda record: record.load(REQUEST), "read"),
            ("set", lambda record: record.save(REQUEST, lookups=1), "written"),
            ("delete", lambda record: record.clear(), "written"),
        ],
    )
    def test_a_store_that_fails_is_an_error_of_ours_which_is_retried(self, method, call, done):
        store = Store()

        def fail(*_, **__):
            raise RuntimeError("the API server is away")

        setattr(store, method, fail)
        with pytest.raises(AmazonBusinessError, match=f"could not be {done}: the API server is away") as caught:
            call(CreateRecord(context(store), durable=True))
        assert not isinstance(caught.value, AmazonBusinessPermanentError)
