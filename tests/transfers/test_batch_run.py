"""A batch through kills, retries, lost workers, other processes and other accounts."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch import attempt, ledger
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ManifestError,
    ManifestTakenError,
    ReportTimeoutError,
    TaskKilledError,
)
from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.transfers import batch_actions
from airflow_provider_amzbiz.transfers.batch_run import BatchRun
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers.batch import BatchTrigger
from tests.airflow_names import TaskDeferred
from tests.conftest import connect
from tests.deferring import context, events_of, rebuilt, run
from tests.transfers.batches import batch, beside, invoices, keys, on_record, use

pytestmark = pytest.mark.usefixtures("quick_batches")


def test_of_two_processes_the_late_one_stops(sandbox, s3, prefix):
    """Airflow may start a task for one event twice, where it took the first process for dead."""
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1, 2)).execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    first, late = batch(prefix, invoices(1, 2)), batch(prefix, invoices(1, 2))
    with pytest.raises(TaskDeferred):
        first.execute_complete(context(), event)
    created = len(sandbox.reports)

    with pytest.raises(ManifestTakenError, match="written by another process"):
        late.execute_complete(context(), event)
    assert len(sandbox.reports) == created == 2


def test_a_process_that_was_given_up_stops_before_it_creates(sandbox, s3, prefix, monkeypatch):
    """Both have read the record before either of them writes to it."""
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1, 2)).execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    resume: Any = BatchRun.resume.__func__  # type: ignore[attr-defined]
    slow: list[str] = []

    def overtaken(cls, operator, ctx, where):
        found = resume(cls, operator, ctx, where)
        if not slow:
            slow.append(operator)
            with pytest.raises(TaskDeferred):
                batch(prefix, invoices(1, 2)).execute_complete(context(), event)
        return found

    monkeypatch.setattr(BatchRun, "resume", classmethod(overtaken))
    with pytest.raises(ManifestTakenError, match="written by another process"):
        batch(prefix, invoices(1, 2)).execute_complete(context(), event)
    assert len(sandbox.reports) == 2


def test_a_process_that_was_replaced_by_a_new_attempt_stops_at_its_next_report(sandbox, s3, prefix, monkeypatch):
    create, lock, replaced = durable_create.create, threading.Lock(), []

    def create_slowly(*arguments):
        with lock:
            report_id = create(*arguments)
            if not replaced:
                replaced.append(True)
                with pytest.raises(TaskDeferred):
                    beside(batch(prefix, invoices(*range(8))), context(try_number=2))
            return report_id

    monkeypatch.setattr(durable_create, "create", create_slowly)
    with pytest.raises(ManifestTakenError):
        run(lambda: batch(prefix, invoices(*range(8))), context())
    # One that was under way in each of the other threads.
    assert len(sandbox.reports) <= 4


def test_a_kill_leaves_the_reports_of_the_process_that_continues_alone(sandbox, s3, prefix, monkeypatch):
    sandbox.script(queue_seconds=3600, times=8)
    create, task, replaced = durable_create.create, batch(prefix, invoices(*range(8)), deferrable=False), []
    locked = threading.Lock()

    def create_slowly(*arguments):
        report_id = create(*arguments)
        with locked:
            if not replaced:
                replaced.append(True)
                with pytest.raises(TaskDeferred):
                    beside(batch(prefix, invoices(*range(8))), context(try_number=2))
                task.on_kill()
        return report_id

    monkeypatch.setattr(durable_create, "create", create_slowly)
    with pytest.raises(ManifestTakenError):
        task.execute(context())
    assert not any(report.cancelled for report in sandbox.reports.values())


def test_a_kill_cancels_what_is_in_the_queue_and_the_next_try_creates_it_again(sandbox, s3, prefix):
    sandbox.script(queue_seconds=3600, times=2)
    task = batch(prefix, invoices(1, 2))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1, 2)).execute_complete(context(), event)
    asyncio.run(rebuilt(deferred.value).on_kill())
    assert [report.cancelled for report in sandbox.reports.values()] == [True, True]

    run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))

    assert keys(s3, prefix) == ["1.pdf", "2.pdf"]
    assert len(sandbox.reports) == 4


@pytest.mark.parametrize("name", ["bucket", "key", "attempt", "stint", "amazon_business_conn_id", "aws_conn_id"])
@pytest.mark.parametrize("value", ["missing", 1.5])
def test_an_event_whose_record_is_damaged_says_what_to_do(sandbox, s3, prefix, name, value):
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1)).execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    event["record"][name] = value
    if value == "missing":
        del event["record"][name]

    with pytest.raises(AmazonBusinessError, match=r"sent a damaged event.*Clear the task to run it again"):
        batch(prefix, invoices(1)).execute_complete(context(), event)


def test_without_its_manifest_a_batch_does_not_begin_again(sandbox, s3, prefix):
    """What was created would be created twice."""
    key = f"{prefix}_manifests/dag/run/task.json"
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1)).execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1)).execute_complete(context(), event)
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    s3.delete_object(Bucket="tests", Key=key)

    for step in (
        lambda: batch(prefix, invoices(1)).execute_complete(context(), event),
        lambda: batch(prefix, invoices(1)).execute(context(try_number=2)),
    ):
        with pytest.raises(ManifestError, match=r"is missing, although .*parts/ shows that the batch has begun"):
            step()
    assert len(sandbox.reports) == 1


def test_a_part_that_is_missing_or_damaged_ends_the_batch_with_a_remedy(sandbox, s3, prefix):
    sandbox.script(processing_seconds=3600)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1), timeout=1), context())
    listed = s3.list_objects_v2(Bucket="tests", Prefix=f"{prefix}_manifests/")["Contents"]
    (part,) = [each["Key"] for each in listed if "log-000001-002" in each["Key"]]

    s3.put_object(Bucket="tests", Key=part, Body=b"no gzip")
    with pytest.raises(ManifestError, match=f"{part} is damaged: restore it"):
        batch(prefix, invoices(1)).execute(context(try_number=2))
    s3.delete_object(Bucket="tests", Key=part)
    with pytest.raises(ManifestError, match=f"{part} is missing, which the batch needs to continue: restore it"):
        batch(prefix, invoices(1)).execute(context(try_number=2))
    assert len(sandbox.reports) == 1


@pytest.mark.parametrize("which", range(1, 8))
def test_a_write_whose_response_is_lost_is_no_other_process(sandbox, s3, prefix, which, monkeypatch):
    """boto3 writes again, and S3 refuses that: the condition does not hold any more."""
    client, writes = ReportsToS3Operator.s3_client, []

    def losing(self):
        made = client(self)
        http = made._endpoint.http_session
        send = http.send

        def lose(request):
            response = send(request)
            if request.method == "PUT" and "_manifests" in request.url:
                writes.append(response.status_code)
                if len(writes) == which:
                    raise ConnectionClosedError(endpoint_url=request.url)
            return response

        http.send = lose
        return made

    monkeypatch.setattr(ReportsToS3Operator, "s3_client", losing)
    run(lambda: batch(prefix, invoices(1)), context())

    assert writes[which - 1] == 200
    assert writes[which] == 412
    assert len(sandbox.reports) == 1


def test_of_two_processes_that_begin_together_one_stops(sandbox, s3, prefix, monkeypatch):
    read, second = attempt._read, []

    def read_together(found):
        known = read(found)
        if not second:
            second.append(True)
            with pytest.raises(TaskDeferred):
                batch(prefix, invoices(1, 2)).execute(context())
        return known

    monkeypatch.setattr(attempt, "_read", read_together)
    with pytest.raises(ManifestTakenError, match="written by another process"):
        batch(prefix, invoices(1, 2)).execute(context())


def test_what_is_stored_for_another_account_is_not_stored(sandbox, s3, prefix, monkeypatch):
    run(lambda: batch(prefix, invoices(1)), context())

    with Sandbox(throttle=False, queue_seconds=0, processing_seconds=0) as other:
        connect(monkeypatch, other)
        result = run(lambda: batch(prefix, invoices(1)), context(try_number=2))

        assert result["landed"] == 1
        assert len(other.reports) == 1
    assert len(sandbox.reports) == 1


def test_a_rotated_refresh_token_loses_nothing(sandbox, s3, prefix, monkeypatch):
    first = run(lambda: batch(prefix, invoices(1)), context())
    target = batch_actions.target_of
    monkeypatch.setattr(
        batch_actions, "target_of", lambda *given: replace(target(*given), account="of-another-token")
    )

    assert run(lambda: batch(prefix, invoices(1)), context(try_number=2)) == first
    assert len(sandbox.reports) == 1


def changed_after(monkeypatch, which, change):
    """Have a user change something after the given event of a batch's waits, in either mode."""
    event, events = BatchTrigger.event, []

    async def changing(self):
        found = await event(self)
        events.append(found)
        if len(events) == which:
            change()
        return found

    monkeypatch.setattr(BatchTrigger, "event", changing)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("which", "created"), [(1, 0), (2, 2)])
def test_a_batch_does_not_continue_for_another_account(
    sandbox, s3, prefix, monkeypatch, deferrable, which, created
):
    more = {"ledger": f"s3://tests/{prefix}ledger/", "deferrable": deferrable}
    make = partial(batch, prefix, invoices(1, 2), max_failed=2, **more)
    # Another customer of the same application.
    other = sandbox.add_account(client_id=sandbox.client_id, client_secret=sandbox.client_secret)
    extra = {**sandbox.connection["extra"], "refresh_token": other.refresh_token}
    changed_after(monkeypatch, which, lambda: use(monkeypatch, sandbox, extra=extra))

    with pytest.raises(ManifestError, match="was begun for account .* connection 'amazon_business_default' is of"):
        run(make, context())
    assert (len(sandbox.reports), len(other.reports)) == (created, 0)
    assert keys(s3, prefix) == []

    use(monkeypatch, sandbox)
    assert run(make, context(try_number=2))["landed"] == 2
    assert (len(sandbox.reports), len(other.reports)) == (2, 0)
    assert len(ledger.accounts_of(s3, more["ledger"])) == 1


def test_another_host_is_another_account(sandbox, s3, prefix, monkeypatch):
    with Sandbox(throttle=False, queue_seconds=0, processing_seconds=0) as other:
        changed_after(monkeypatch, 2, lambda: use(monkeypatch, other))
        with pytest.raises(ManifestError, match="was begun for account"):
            run(lambda: batch(prefix, invoices(1)), context())
        assert other.count("createReport") == 0


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_refresh_token_that_is_rotated_while_a_batch_waits_changes_nothing(
    sandbox, s3, prefix, monkeypatch, deferrable
):
    target = batch_actions.target_of

    def rotate():
        monkeypatch.setattr(
            batch_actions, "target_of", lambda *given: replace(target(*given), account="of-another-token")
        )

    changed_after(monkeypatch, 2, rotate)
    result = run(lambda: batch(prefix, invoices(1, 2), deferrable=deferrable), context())
    assert (result["landed"], len(sandbox.reports)) == (2, 2)


def test_a_kill_on_the_worker_cancels_and_the_next_attempt_creates_again(sandbox, s3, prefix, monkeypatch):
    sandbox.script(queue_seconds=3600, times=2)
    task, waits = batch(prefix, invoices(1, 2), deferrable=False), []
    wait_here = task.run_inline
    # The second wait is the one for the reports that the first one had permits for.
    monkeypatch.setattr(task, "run_inline", lambda trigger: (waits.append(trigger), wait_here(trigger))[1])

    def kill():
        while sandbox.count("createReport") < 2 or len(waits) < 2:
            time.sleep(0.02)
        task.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TaskKilledError, match="a retry continues from"):
        task.execute(context())
    killer.join()
    assert [report.cancelled for report in sandbox.reports.values()] == [True, True]

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert result["landed"] == 2
    assert len(sandbox.reports) == 4


def test_a_kill_in_the_middle_of_a_round_keeps_what_was_created_on_record(sandbox, s3, prefix, monkeypatch):
    sandbox.script(queue_seconds=3600, times=8)
    create, task = durable_create.create, batch(prefix, invoices(*range(8)), deferrable=False)

    def create_then_kill(*arguments):
        report_id = create(*arguments)
        task.on_kill()
        return report_id

    monkeypatch.setattr(durable_create, "create", create_then_kill)
    with pytest.raises(TaskKilledError):
        task.execute(context())
    assert 1 <= len(sandbox.reports) <= 4
    assert {item.report_id for item in on_record(s3, prefix)} - {None} == set(sandbox.reports)
    assert all(report.cancelled for report in sandbox.reports.values())
