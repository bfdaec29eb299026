"""What a task remembers of its report, and what happens when the store fails."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    InvalidInputError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault
from tests.conftest import connect
from tests.deferring import Store, context
from tests.processes import lost_at

LINES = "SANDBOX_ORDER_LINES"


WINDOW = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, "poke_interval": 0.1, **arguments})


def dated(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, **WINDOW, **arguments})


def a_strangers(sandbox, *, seconds_ago=0.0, **arguments):
    """A report that another application of the same customer has made."""
    report_id = AmazonBusinessHook("stranger").create_report(LINES, **WINDOW, **arguments)
    sandbox.reports[report_id].created_time -= timedelta(seconds=seconds_ago)
    return report_id


@pytest.fixture
def stranger(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, conn_id="stranger")
    # What another process creates, this one does not know.
    from airflow_provider_amzbiz.client import reports

    monkeypatch.setattr(reports, "_created", {})


def test_a_store_that_fails_after_the_report_is_created_loses_no_id(sandbox, caplog):
    store = Store()
    noted = store.set

    def fail_with_the_id(key, value, **_):
        if value["report_id"]:
            raise RuntimeError("the store is away")
        noted(key, value)

    store.set = fail_with_the_id

    assert [create(**WINDOW).execute(context(store))] == list(sandbox.reports)
    assert "could not be written: the store is away" in caplog.text


def test_a_cleared_task_makes_a_new_report(sandbox):
    store = Store()
    first = create(**WINDOW).execute(context(store))
    assert store == {}

    assert create(**WINDOW).execute(context(store)) != first


def test_not_durable_remembers_nothing(sandbox):
    store = Store()
    create(durable=False).execute(context(lost_at(store, "set")))


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.usefixtures("stranger")
def test_a_refused_request_leaves_nothing_to_look_for(sandbox, status):
    store = Store()
    sandbox.inject(Fault(operation="createReport", kind="status", status=status))
    with pytest.raises((InvalidInputError, AccessDeniedError)):
        dated().execute(context(store))

    assert store == {}
    theirs = a_strangers(sandbox)
    assert dated().execute(context(store)) != theirs
    assert sandbox.count("getReports") == 0


@pytest.mark.parametrize("status", [400, 429])
@pytest.mark.usefixtures("stranger")
def test_a_store_that_fails_does_not_hide_what_the_api_said(sandbox, status, caplog):
    class Undeletable(Store):
        def delete(self, key):
            raise RuntimeError("the store is away")

    sandbox.inject(Fault(operation="createReport", kind="status", status=status))

    with pytest.raises((InvalidInputError, TaskDeferred)) as ended:
        dated(deferrable=True).execute(context(Undeletable()))

    assert isinstance(ended.value, InvalidInputError) is (status == 400)
    assert "the store is away" in caplog.text
