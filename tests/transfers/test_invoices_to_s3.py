"""All invoices of the sandbox's company to S3, through limits, retries and lost workers."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.demo.s3_server import objects_under
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessPermanentError,
    InvalidInputError,
    ManifestError,
)
from airflow_provider_amzbiz.sandbox import Company, Sandbox
from airflow_provider_amzbiz.transfers import batch_run
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from tests.airflow_names import TaskDeferred
from tests.conftest import BUCKET, connect
from tests.deferring import context, events_of, rebuilt, run
from tests.feed.books import check_books, stored_documents, stored_tables

DAY = timedelta(days=1)
US, DE, JP = "ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528"
KEY = "{marketplace_id}/{year}/{month}/{document_type}/{document_number}/{name}"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(batch_run, "REST_SECONDS", 0.2)


def sandbox_of(company, **more):
    return Sandbox(region="any", throttle=False, queue_seconds=0, processing_seconds=0, company=company, **more)


@pytest.fixture
def company_sandbox(monkeypatch):
    """A sandbox with a company whose orders are all in the past."""
    start = datetime.now(timezone.utc) - 60 * DAY
    company = Company(seed=3, orders=18, days=6, start=start, marketplaces=[US, DE, JP])
    with sandbox_of(company) as running:
        connect(monkeypatch, running)
        yield running


def feed(prefix, **arguments):
    return InvoicesToS3Operator(
        task_id="task",
        **{
            "s3_bucket": BUCKET,
            "s3_key": f"{prefix}invoices/{KEY}",
            "ledger": f"s3://{BUCKET}/{prefix}ledger/",
            "tables": f"s3://{BUCKET}/{prefix}tables/",
            "feed_start": (datetime.now(timezone.utc) - 70 * DAY).isoformat(),
            "document_types": ["Invoice", "CreditMemo", "OrderSummary"],
            "poke_interval": 0.1,
            "deferrable": True,
            **arguments,
        },
    )


def run_named(name):
    found = context()
    found["ti"].run_id = name
    return found


def created(sandbox):
    return [call for call in sandbox.calls if call.operation == "createReport"]


def tables(s3, prefix):
    return stored_tables(s3, BUCKET, f"{prefix}tables/")


def check(s3, prefix, company):
    check_books(company, tables(s3, prefix), stored_documents(s3, BUCKET, f"{prefix}invoices/"))


@pytest.mark.main_path
@pytest.mark.parametrize("deferrable", [True, False])
def test_every_document_once_and_the_tables_are_the_books(company_sandbox, s3, prefix, deferrable):
    company = company_sandbox.company
    result = run(lambda: feed(prefix, deferrable=deferrable), run_named("first"))
    check(s3, prefix, company)
    assert result["landed"] == result["requested"] == len(created(company_sandbox))
    assert (result["failed"], result["skipped"], result["already_delivered"]) == (0, 0, 0)
    assert sorted(result["tables"]) == ["document_lines", "documents", "open_items", "transactions"]
    assert result["open_items"] == len(tables(s3, prefix).open_items) > 0
    pdfs = sum(len(company.pdf(each)) for each in company.documents)
    assert result["bytes"] == pdfs
    # A second run of the day.
    before = len(created(company_sandbox))
    again = run(lambda: feed(prefix, deferrable=deferrable), run_named("second"))
    assert len(created(company_sandbox)) == before
    assert (again["landed"], again["already_delivered"]) == (0, result["requested"])
    check(s3, prefix, company)


def test_a_lost_worker_and_a_retry_continue_with_the_plan(company_sandbox, s3, prefix):
    ctx = run_named("run")
    with pytest.raises(TaskDeferred):
        feed(prefix).execute(ctx)
    with pytest.raises(TaskDeferred) as deferred:
        feed(prefix, feed_start=None, feed_end=None).execute(ctx)
    # What templates render on a resume changes nothing.
    event = asyncio.run(events_of(rebuilt(deferred.value)))[0]
    other = {"ledger": "s3://other/", "tables": "s3://other/", "s3_key": "{document_number}", "s3_bucket": "other"}
    step = feed(prefix, **other)
    with pytest.raises(TaskDeferred) as deferred:
        step.execute_complete(ctx, event)

    def resumed():
        event = asyncio.run(events_of(rebuilt(deferred.value)))[0]
        return feed(prefix, **other).execute_complete(ctx, event)

    result = run(lambda: feed(prefix, **other), ctx, begin=resumed)
    check(s3, prefix, company_sandbox.company)
    assert len(created(company_sandbox)) == result["requested"]


def test_a_cleared_task_creates_nothing_twice(company_sandbox, s3, prefix):
    run(lambda: feed(prefix), run_named("run"))
    before = len(created(company_sandbox))
    result = run(lambda: feed(prefix), run_named("run"))
    assert len(created(company_sandbox)) == before
    assert result["landed"] == 0
    assert result["manifest"].endswith("-2.json")
    check(s3, prefix, company_sandbox.company)


def test_what_is_missing_in_s3_is_delivered_again(company_sandbox, s3, prefix):
    run(lambda: feed(prefix), run_named("first"))
    before = len(created(company_sandbox))
    keys = [key for key in objects_under(s3, BUCKET, f"{prefix}invoices/") if US in key]
    s3.delete_object(Bucket=BUCKET, Key=f"{prefix}invoices/{keys[0]}")
    result = run(lambda: feed(prefix), run_named("second"))
    assert result["landed"] == len(created(company_sandbox)) - before == 1
    check(s3, prefix, company_sandbox.company)


@pytest.mark.slow
def test_simulated_days_with_late_and_consolidated_invoices(s3, prefix, monkeypatch):
    start = datetime.now(timezone.utc)
    company = Company(seed=5, orders=14, days=3, start=start, marketplaces=[DE, JP])
    with sandbox_of(company) as sandbox:
        connect(monkeypatch, sandbox)
        day = 0
        while sandbox.clock.now() < company.end + DAY:
            sandbox.clock.advance(2 * 86400)
            day += 1
            arguments = {"feed_start": None, "feed_end": sandbox.clock.now().isoformat()}
            ctx = {**run_named(f"day-{day}"), "data_interval_start": start - DAY}
            run(lambda arguments=arguments: feed(prefix, **arguments), ctx)
        check(s3, prefix, company)


def test_a_window_ends_now_by_the_clock_of_the_api(s3, prefix, monkeypatch):
    start = datetime.now(timezone.utc)
    company = Company(seed=5, orders=6, days=2, start=start, marketplaces=[DE])
    with sandbox_of(company) as sandbox:
        connect(monkeypatch, sandbox)
        sandbox.clock.advance(6 * 86400)
        # As a template renders that has no value.
        arguments = {"feed_start": "", "feed_end": ""}
        ctx = {**run_named("run"), "data_interval_start": start}
        run(lambda: feed(prefix, **arguments), ctx)
        there = {company.pdf(each) for each in company.documents_at(sandbox.clock.now() - 2 * DAY)}
    assert there
    assert there <= set(stored_documents(s3, BUCKET, f"{prefix}invoices/").values())


def test_an_account_without_the_role_is_told_which_one(s3, prefix, monkeypatch):
    with sandbox_of(Company(seed=1, orders=3), has_role=False) as sandbox:
        connect(monkeypatch, sandbox)
        with pytest.raises(AccessDeniedError, match="Business Purchase Reconciliation"):
            feed(prefix).execute(run_named("run"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"s3_key": "all/{name}"}, "document_number"),
        ({"document_types": ["Receipt"]}, "document_types"),
        ({"table_format": "csv"}, "table_format"),
        ({"ledger": ""}, "ledger"),
        ({"ledger": "bucket/x"}, "ledger"),
        ({"tables": "bucket/x"}, "tables"),
        ({"feed_start": None}, "feed_start"),
        ({"overlap": -3}, "overlap"),
        ({"feed_end": "2020-01-01T00:00:00+00:00"}, "must begin before it ends"),
    ],
)
def test_parameters_are_checked_before_any_call(company_sandbox, s3, prefix, arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        feed(prefix, **arguments).execute(run_named("run"))
    assert company_sandbox.calls == []
    assert objects_under(s3, BUCKET, prefix) == {}


def test_a_damaged_cursor_is_an_error_that_no_retry_helps(company_sandbox, s3, prefix):
    run(lambda: feed(prefix), run_named("first"))
    (key,) = [key for key in objects_under(s3, BUCKET, f"{prefix}ledger/") if key.endswith("cursor.json")]
    s3.put_object(Bucket=BUCKET, Key=f"{prefix}ledger/{key}", Body=b"x")
    with pytest.raises(AmazonBusinessPermanentError, match=r"cursor\.json is damaged"):
        feed(prefix).execute(run_named("second"))


def test_a_feed_does_not_continue_for_another_account(company_sandbox, s3, prefix, monkeypatch):
    ctx = run_named("run")
    with pytest.raises(TaskDeferred) as deferred:
        feed(prefix).execute(ctx)
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    start = datetime.now(timezone.utc) - 60 * DAY
    with sandbox_of(Company(seed=4, orders=3, days=6, start=start, marketplaces=[US])) as other:
        connect(monkeypatch, other)
        with pytest.raises(ManifestError, match="was begun for account"):
            feed(prefix).execute_complete(ctx, event)
        assert created(other) == []
    connect(monkeypatch, company_sandbox)
    run(lambda: feed(prefix), ctx)
    check(s3, prefix, company_sandbox.company)
