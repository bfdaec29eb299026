"""The operator that lists transactions."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import parse_qs

import airflow
import pytest

from airflow_provider_amzbiz.exceptions import AccessDeniedError, InvalidInputError
from airflow_provider_amzbiz.operators.reconciliation import GetTransactionsOperator
from airflow_provider_amzbiz.sandbox import Company, ReconciliationSettings, Sandbox
from tests.airflow_names import AirflowFailException, DagBag
from tests.conftest import connect

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
INTERVAL = {"data_interval_start": START, "data_interval_end": START + timedelta(days=1)}


@pytest.fixture
def world(monkeypatch):
    """A sandbox with a company of which everything has happened."""
    company = Company(seed=1, orders=27, start=START)
    settings = ReconciliationSettings(page_size=7)
    with Sandbox(company=company, throttle=False, reconciliation=settings) as sandbox:
        sandbox.clock.advance((company.end - sandbox.clock.now()).total_seconds() + 60)
        connect(monkeypatch, sandbox)
        yield sandbox


def get(**arguments):
    return GetTransactionsOperator(task_id="get", **arguments)


@pytest.mark.main_path
def test_it_returns_all_transactions_as_json(world):
    found = get(feed_start=START.isoformat(), feed_end=world.company.end).execute({})

    amounts = {each["transaction_id"]: Decimal(each["amount"]["amount"]) for each in found}
    assert json.loads(json.dumps(found)) == found
    assert amounts == {each.transaction_id: each.amount for each in world.company.transactions}
    assert {line["order_id"] for each in found for line in each["transaction_line_items"]} == {
        line.order_id for line in world.company.lines
    }


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        ({}, "2026-01-02T00:00:00Z"),
        ({"overlap": 3600}, "2026-01-04T23:00:00Z"),
        ({"overlap": 0}, "2026-01-05T00:00:00Z"),
    ],
)
def test_the_range_is_the_data_interval_and_some_days_before(world, arguments, first):
    get(**arguments).execute(INTERVAL)

    query = parse_qs(next(each for each in world.calls if each.operation == "getTransactions").query)
    assert (query["feedStartDate"], query["feedEndDate"]) == ([first], ["2026-01-06T00:00:00Z"])


@pytest.mark.parametrize(
    ("end", "before", "first"),
    [
        (START, START - timedelta(days=7), "2025-12-26T00:00:00Z"),
        (START, None, "2026-01-02T00:00:00Z"),
        # A run of an earlier time, cleared after that of a later one.
        (START, START + timedelta(days=7), "2026-01-02T00:00:00Z"),
        (START + timedelta(days=1), START - timedelta(days=7), "2026-01-02T00:00:00Z"),
    ],
)
def test_an_empty_interval_leaves_no_gap_since_the_last_successful_run(world, end, before, first):
    context = {"data_interval_start": START, "data_interval_end": end, "prev_data_interval_end_success": before}
    get(max_transactions=None).execute(context)

    query = parse_qs(next(each for each in world.calls if each.operation == "getTransactions").query)
    assert query["feedStartDate"] == [first]


WEEKLY = """
from datetime import datetime, timezone
from tests.airflow_names import DAG
from airflow_provider_amzbiz.operators.reconciliation import GetTransactionsOperator

with DAG("weekly", schedule="0 0 * * MON", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False):
    GetTransactionsOperator(task_id="get", max_transactions=None)
"""


@pytest.mark.timeout(400)
def test_the_runs_of_a_weekly_schedule_leave_no_gap(world, airflow_db, tmp_path, monkeypatch):
    (tmp_path / "weekly.py").write_text(WEEKLY)
    # The default of Airflow 3, and not of its tests.
    monkeypatch.setenv("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS", "False")
    # dag.test() runs DAGs of this folder only.
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))
    dag = DagBag(str(tmp_path)).dags["weekly"]
    when = "logical_date" if airflow.__version__ >= "3" else "execution_date"

    for day in (5, 12):
        run = dag.test(**{when: datetime(2026, 1, day, tzinfo=timezone.utc)})
        assert run.state == "success"

    queries = [parse_qs(each.query) for each in world.calls if each.operation == "getTransactions"]
    first, second = (each for each in queries if "nextPageToken" not in each)
    assert second["feedStartDate"] < first["feedEndDate"] < second["feedEndDate"]


def test_a_start_that_is_given_is_not_moved(world):
    get(feed_start="2026-01-05T00:00:00Z").execute(INTERVAL)

    query = parse_qs(next(each for each in world.calls if each.operation == "getTransactions").query)
    assert query["feedStartDate"] == ["2026-01-05T00:00:00Z"]


def test_people_are_left_out_unless_asked_for(world):
    arguments = {"feed_start": START, "feed_end": world.company.end}

    found = get(**arguments).execute({})
    with_people = get(include_personal_data=True, **arguments).execute({})

    assert "example.com" not in json.dumps(found)
    assert all(each["buyer"]["id"] for each in found)
    assert all(each["payer"]["email"].endswith("example.com") for each in with_people)


def test_more_than_the_most_is_an_error_and_not_cut(world):
    count = len(world.company.transactions)
    arguments = {"feed_start": START, "feed_end": world.company.end}

    assert len(get(max_transactions=count, **arguments).execute({})) == count
    assert len(get(max_transactions=None, **arguments).execute({})) == count
    with pytest.raises(InvalidInputError, match=f"more than {count - 1} transactions") as caught:
        get(max_transactions=count - 1, **arguments).execute({})
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    ("arguments", "context", "said"),
    [
        ({}, {}, "feed_start is None"),
        ({"feed_start": START}, {}, "feed_end is None"),
        ({"feed_start": "2026-01-05", "feed_end": START}, {}, "feed_start is '2026-01-05'"),
        ({"feed_start": "{{ x }}", "feed_end": START}, {}, "feed_start is '{{ x }}'"),
        ({"feed_start": START, "feed_end": START - timedelta(days=1)}, {}, "is after feed_end 2026"),
    ],
)
def test_a_range_that_is_none_is_refused_before_any_call(world, arguments, context, said):
    with pytest.raises(InvalidInputError, match=said):
        get(**arguments).execute(context)
    assert world.calls == []


@pytest.mark.parametrize("arguments", [{"overlap": -1}, {"overlap": "3 days"}, {"max_transactions": 0}])
def test_settings_that_cannot_be_fail_the_dag_file(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        get(**arguments)


def test_without_the_role_the_error_says_which_one(monkeypatch):
    with Sandbox(has_role=False) as sandbox:
        connect(monkeypatch, sandbox)
        with pytest.raises(AccessDeniedError, match="Business Purchase Reconciliation"):
            get().execute(INTERVAL)


def test_its_templates_are_rendered(world):
    operator = get(
        feed_start="{{ begin }}", feed_end="{{ data_interval_end }}", amazon_business_conn_id="{{ conn }}"
    )

    operator.render_template_fields({**INTERVAL, "begin": START, "conn": "amazon_business_default"})

    assert isinstance(operator.execute(INTERVAL), list)
