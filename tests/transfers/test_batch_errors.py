"""Which errors concern one request of a batch, and which end all of it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    ConnectionNotFoundError,
)
from airflow_provider_amzbiz.sandbox import Fault, operations
from airflow_provider_amzbiz.sandbox.responses import denied
from airflow_provider_amzbiz.triggers import connections
from tests.airflow_names import TaskDeferred
from tests.conftest import connect
from tests.deferring import context, events_of, rebuilt, run
from tests.transfers.batches import batch, invoices, keys, manifest, on_record, use, waiting

pytestmark = pytest.mark.usefixtures("quick_batches")


def test_a_request_that_the_api_refuses_fails_alone(sandbox, s3, prefix):
    requests = [*invoices(1), {"report_type": "GET_NO_SUCH_REPORT"}]

    with pytest.raises(AmazonBusinessPermanentError, match=r"requests\[1\].*Invalid Report Type"):
        run(lambda: batch(prefix, requests, s3_key=prefix + "{index}.pdf"), context())
    assert keys(s3, prefix) == ["0.pdf"]


def test_a_missing_role_ends_the_batch(sandbox, s3, prefix):
    sandbox.inject(Fault(operation="createReport", kind="status", status=403, body="json", times=None))

    with pytest.raises(AccessDeniedError):
        run(lambda: batch(prefix, invoices(1, 2, 3)), context())


def test_credentials_that_are_refused_end_the_task_and_keep_every_report(sandbox, s3, prefix, monkeypatch):
    sandbox.script(processing_seconds=3600, times=2)
    make = partial(batch, prefix, invoices(1, 2), max_failed=2)
    first = waiting(make, context())
    use(monkeypatch, sandbox, password="not-the-secret")

    (event,) = asyncio.run(events_of(rebuilt(first)))
    assert {each["class"] for each in event["errors"].values()} == {"AuthenticationError"}
    with pytest.raises(AuthenticationError):
        make().execute_complete(context(), event)
    # The retry, and a cleared task, for which the reports are those of a previous attempt.
    for number in (2, 3):
        with pytest.raises(AuthenticationError):
            run(make, context(try_number=number))
    kept = on_record(s3, prefix)
    assert {item.report_id for item in kept} == set(sandbox.reports)
    assert [item.error for item in kept] == [None, None]

    use(monkeypatch, sandbox)
    sandbox.clock.advance(3600)
    result = run(make, context(try_number=4))
    assert (result["landed"], result["failed"], sandbox.count("createReport")) == (2, 0, 2)


def test_a_role_that_is_withdrawn_ends_the_task_and_keeps_every_report(sandbox, s3, prefix, monkeypatch):
    sandbox.script(processing_seconds=3600, times=2)
    make = partial(batch, prefix, invoices(1, 2), max_failed=2)
    first = waiting(make, context())
    sandbox.accounts[0].has_role = False

    (event,) = asyncio.run(events_of(rebuilt(first)))
    assert {each["class"] for each in event["errors"].values()} == {"AccessDeniedError"}
    # Whether the event has the errors of all reports, or of one.
    for errors in (event["errors"], dict(list(event["errors"].items())[:1])):
        with pytest.raises(AccessDeniedError):
            make().execute_complete(context(), {**event, "errors": errors})
    with pytest.raises(AccessDeniedError):
        run(make, context(try_number=2))

    sandbox.accounts[0].has_role = True
    sandbox.clock.advance(3600)
    result = run(make, context(try_number=3))
    assert (result["landed"], result["failed"], sandbox.count("createReport")) == (2, 0, 2)


def test_a_report_that_is_denied_alone_fails_alone_and_is_not_created_again(sandbox, s3, prefix, monkeypatch):
    sandbox.script(processing_seconds=3600, times=2)
    make = partial(batch, prefix, invoices(1, 2), max_failed=1)
    first = waiting(make, context())
    sandbox.clock.advance(3600)
    (event,) = asyncio.run(events_of(rebuilt(first)))
    denied, good = event["reports"]
    error = AccessDeniedError("403 (Unauthorized)").to_dict()
    event = {**event, "reports": [good], "errors": {denied["report_id"]: error}}

    result = run(make, context(), begin=lambda: make().execute_complete(context(), event))
    assert (result["landed"], result["failed"]) == (1, 1)
    failed = next(item for item in manifest(s3, prefix) if item["error"])
    assert (failed["report_id"], failed["error"]) == (denied["report_id"], "AccessDeniedError: 403 (Unauthorized)")

    result = run(make, context(try_number=2))
    assert (result["landed"], result["failed"], sandbox.count("createReport")) == (2, 0, 2)


def test_a_document_that_is_denied_alone_fails_alone(sandbox, s3, prefix, monkeypatch):
    get = operations.Operations.get_report_document
    refused = []

    def refuse_one(self, account, document_id):
        refused[:] = refused or [document_id]
        if document_id in refused:
            raise denied("", 403)
        return get(self, account, document_id)

    monkeypatch.setattr(operations.Operations, "get_report_document", refuse_one)
    make = partial(batch, prefix, invoices(1, 2, 3), max_failed=1)

    result = run(make, context())
    assert (result["landed"], result["failed"]) == (2, 1)
    (failed,) = (item for item in manifest(s3, prefix) if item["error"])
    assert (failed["report_document_id"], failed["permanent"]) == (refused[0], True)
    assert failed["error"].startswith("AccessDeniedError: ")

    monkeypatch.setattr(operations.Operations, "get_report_document", get)
    result = run(make, context(try_number=2))
    assert (result["landed"], result["failed"], sandbox.count("createReport")) == (3, 0, 3)


def test_a_role_that_is_taken_away_ends_the_batch(sandbox, s3, prefix):
    make = partial(batch, prefix, invoices(1, 2, 3), max_failed=3)
    deferral = waiting(make, context())
    (event,) = asyncio.run(events_of(rebuilt(deferral)))
    for operation in ("getReport", "getReportDocument"):
        sandbox.inject(Fault(operation=operation, kind="status", status=403, body="json", times=None))

    with pytest.raises(AccessDeniedError):
        make().execute_complete(context(), event)
    assert [item.error for item in on_record(s3, prefix)] == [None] * 3


def test_a_connection_that_is_missing_fails_no_request(sandbox, s3, prefix, monkeypatch):
    make = partial(batch, prefix, invoices(1, 2), max_failed=2)
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    connections._connections.clear()
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")

    with pytest.raises(ConnectionNotFoundError):
        make().execute_complete(context(), event)
    connect(monkeypatch, sandbox)
    assert run(make, context(try_number=2))["landed"] == 2


def test_a_wait_that_cannot_continue_fails_with_its_reason(sandbox, s3, prefix):
    with pytest.raises(TaskDeferred):
        batch(prefix, invoices(1)).execute(context())
    error = AmazonBusinessError("some reason").to_dict()

    with pytest.raises(AmazonBusinessError, match="some reason"):
        batch(prefix, invoices(1)).execute_complete(context(), {"status": "error", "error": error})
