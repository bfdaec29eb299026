"""Batches, from the list of requests to the objects, through limits, faults, retries and lost workers."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import inspect
import io
import itertools
import json
import os
import threading
import time
import zipfile
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from botocore.endpoint import Endpoint
from botocore.exceptions import ConnectionClosedError
from jinja2.exceptions import UndefinedError

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch import attempt, ledger
from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.object_store import ObjectStore
from airflow_provider_amzbiz.batch.record import Record, Stint
from airflow_provider_amzbiz.batch.running import RunningReport, pack, unpack
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    ConnectionNotFoundError,
    InvalidInputError,
    ManifestError,
    ManifestTakenError,
    ReportTimeoutError,
    TaskKilledError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault, RawDocument, Sandbox, operations
from airflow_provider_amzbiz.sandbox.responses import denied
from airflow_provider_amzbiz.transfers import batch_actions, batch_run, reports_to_s3
from airflow_provider_amzbiz.transfers.batch_run import BatchRun
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers import connections
from airflow_provider_amzbiz.triggers.batch import BatchTrigger
from tests.airflow_names import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
    TaskDeferred,
)
from tests.conftest import connect
from tests.deferring import context, events_of, rebuilt, run

LINES = "SANDBOX_ORDER_LINES"
INVOICE = "GET_AB_INVOICE_PDF"
DAMAGED = RawDocument(b"\x1f\x8b\x08\x00 this is no gzip at all", content_type="application/octet-stream")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(batch_run, "REST_SECONDS", 0.2)


@pytest.fixture
def prefix(s3, request):
    """A folder of the test's own, emptied afterwards."""
    name = f"batch/{abs(hash(request.node.name))}/"
    yield name
    for each in s3.list_objects_v2(Bucket="tests", Prefix=name).get("Contents", []):
        s3.delete_object(Bucket="tests", Key=each["Key"])


def invoices(*numbers):
    return [{"report_type": INVOICE, "report_options": {"invoiceId": str(number)}} for number in numbers]


def named(name, content):
    """A document as the API gives an invoice: a ZIP of one file, compressed again."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(name, content)
    return RawDocument(gzip.compress(file.getvalue()), content_type="application/octet-stream")


def lines(*days):
    return [{"report_type": LINES, "report_options": {"rows": day}} for day in days]


def batch(prefix, requests, **arguments):
    return ReportsToS3Operator(
        task_id="batch",
        **{
            "requests": requests,
            "s3_bucket": "tests",
            "s3_key": prefix + "{invoiceId}.pdf",
            "poke_interval": 0.1,
            "deferrable": True,
            **arguments,
        },
    )


def manifest(s3, prefix):
    body = s3.get_object(Bucket="tests", Key=f"{prefix}_manifests/dag/run/task.json")["Body"].read()
    return json.loads(body)["items"]


def record(s3, prefix):
    owner = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1}
    return Record(ObjectStore(s3, "tests"), f"{prefix}_manifests/dag/run/task.json", owner)


def on_record(s3, prefix):
    """The items that the next attempt would find."""
    return attempt._read(record(s3, prefix)).begun


def keys(s3, prefix):
    listed = s3.list_objects_v2(Bucket="tests", Prefix=prefix).get("Contents", [])
    return sorted(each["Key"].removeprefix(prefix) for each in listed if "_manifests" not in each["Key"])


@pytest.mark.main_path
@pytest.mark.parametrize("deferrable", [True, False])
def test_every_document_lands_under_its_key(sandbox, s3, prefix, deferrable):
    result = run(lambda: batch(prefix, invoices(1, 2, 3), deferrable=deferrable), context())

    assert keys(s3, prefix) == ["1.pdf", "2.pdf", "3.pdf"]
    assert result == {
        "manifest": f"s3://tests/{prefix}_manifests/dag/run/task.json",
        "requested": 3,
        "landed": 3,
        "already_delivered": 0,
        "failed": 0,
        "skipped": 0,
        "bytes": sum(item["bytes"] for item in manifest(s3, prefix)),
    }
    for item in manifest(s3, prefix):
        assert item["uri"].endswith(f"/{item['report_options']['invoiceId']}.pdf")
        assert s3.head_object(Bucket="tests", Key=item["uri"].split("/", 3)[3])["ContentLength"] == item["bytes"]
        assert len(item["sha256"]) == 64
        assert item["status"] == "DONE"
        assert item["report_id"] in sandbox.reports
    assert len(sandbox.reports) == 3


def test_the_worker_is_held_between_the_waits_only(sandbox, s3, prefix):
    sandbox.script(processing_seconds=1, times=30)
    events = []

    run(lambda: batch(prefix, invoices(*range(30))), context(), deferrals=events)

    assert len(events) >= 4
    assert all(event["permits"].get("createReport", 0) <= 10 for event in events)
    assert len(keys(s3, prefix)) == 30


@pytest.mark.slow
def test_a_batch_stays_within_the_limit(s3, prefix, monkeypatch):
    with Sandbox(time_scale=30, queue_seconds=5, processing_seconds=5) as sandbox:
        connect(monkeypatch, sandbox, rate_limits="{}")

        run(lambda: batch(prefix, invoices(*range(40)), poke_interval=0.3), context())

        assert len(keys(s3, prefix)) == 40
        assert len(sandbox.reports) == 40
        # What is kept in hand, five of the API's seconds, is a sixth of one here: a busy machine may be late.
        assert sum(call.status == 429 for call in sandbox.calls) <= 8


@pytest.mark.slow
def test_two_batches_of_one_account_share_the_limit_and_both_finish(s3, prefix, monkeypatch):
    with Sandbox(time_scale=30, queue_seconds=5, processing_seconds=5) as sandbox:
        connect(monkeypatch, sandbox, rate_limits="{}")
        results = {}

        async def triggerer():
            async def one(name, numbers):
                def make():
                    return batch(f"{prefix}{name}/", invoices(*numbers), poke_interval=0.3)

                step = lambda: make().execute(context())  # noqa: E731
                while True:
                    try:
                        results[name] = step()
                        return
                    except TaskDeferred as deferred:
                        (event,) = await events_of(rebuilt(deferred))
                        step = lambda event=event: make().execute_complete(context(), event)  # noqa: E731

            await asyncio.gather(one("a", range(18)), one("b", range(100, 118)))

        asyncio.run(triggerer())

        assert {result["landed"] for result in results.values()} == {18}
        assert len(sandbox.reports) == 36
        # Two that knew nothing of each other are throttled some sixty times; a slow machine adds a few.
        assert sum(call.status == 429 for call in sandbox.calls) <= 8


def test_what_fails_does_not_stop_the_others(sandbox, s3, prefix):
    requests = invoices("1", "FATAL-2", "NO-DATA-3", "4", "FATAL-DOC-5")

    with pytest.raises(AmazonBusinessPermanentError, match="3 of 5 requests failed") as caught:
        run(lambda: batch(prefix, requests), context())
    assert isinstance(caught.value, AirflowFailException)

    assert keys(s3, prefix) == ["1.pdf", "4.pdf"]
    errors = [item["error"] for item in manifest(s3, prefix)]
    assert errors[0] is None
    assert "ended FATAL" in errors[1]
    assert "ended CANCELLED" in errors[2]
    assert errors[3] is None
    assert "Its document says" in errors[4] or "could not be read" in errors[4]


@pytest.mark.parametrize(("max_failed", "fails"), [(0, True), (1, False), (0.4, False), (0.3, True), (0.0, True)])
def test_how_many_may_fail(sandbox, s3, prefix, max_failed, fails):
    def end():
        return run(lambda: batch(prefix, invoices("1", "FATAL-2", "3"), max_failed=max_failed), context())

    if fails:
        with pytest.raises(AmazonBusinessPermanentError, match="max_failed"):
            end()
    else:
        result = end()
        assert (result["landed"], result["failed"]) == (2, 1)


@pytest.mark.parametrize("on_cancelled", ["skip", "succeed"])
def test_no_data_may_be_no_failure(sandbox, s3, prefix, on_cancelled):
    result = run(lambda: batch(prefix, invoices("1", "NO-DATA-2"), on_cancelled=on_cancelled), context())

    assert (result["landed"], result["skipped"], result["failed"]) == (1, 1, 0)


def test_each_iteration_of_a_loop_has_a_record_of_its_own(sandbox, s3, prefix):
    """Since Airflow 3.4, iterations share the ids, the map index and the run of their task."""

    def iterate(index):
        ctx = context()
        ctx["ti"].region_id, ctx["ti"].region_index = "0198-5c", index
        return run(lambda: batch(prefix, invoices(1), audit_key=prefix + "audit.jsonl"), ctx)

    first, second, repeated = iterate(0), iterate(1), iterate(1)

    assert first["manifest"] != second["manifest"] == repeated["manifest"]
    assert [each["landed"] for each in (first, second, repeated)] == [1, 1, 1]
    assert sandbox.count("createReport") == 2
    audit = s3.get_object(Bucket="tests", Key=prefix + "audit.jsonl")["Body"].read()
    assert "loop" not in json.loads(audit.splitlines()[0])


def test_a_retry_continues_where_a_request_had_the_older_name_of_its_key(sandbox, s3, prefix):
    key = prefix + "{invoiceId}/{name}"
    run(lambda: batch(prefix, [{**invoices(1)[0], "key": key}]), context())

    result = run(lambda: batch(prefix, [{**invoices(1)[0], "s3_key": key}]), context(try_number=2))

    assert (result["requested"], result["landed"], sandbox.count("createReport")) == (1, 1, 1)


@pytest.mark.parametrize("name", ["s3_key", "key"])
def test_other_types_and_keys_of_their_own(sandbox, s3, prefix, name):
    requests = [
        {"report_type": LINES, "report_options": {"rows": 3}, name: prefix + "lines-{report_id}.tsv"},
        {"report_type": LINES, "report_options": {"rows": 4}},
        {
            "report_type": LINES,
            "marketplace_ids": "A2EUQ1WTGCTBG2",
            "data_start_time": "2026-01-01T00:00:00Z",
            "data_end_time": "2026-01-02T00:00:00Z",
        },
    ]

    run(lambda: batch(prefix, requests, s3_key=prefix + "{report_type}/{index}.tsv"), context())

    first = manifest(s3, prefix)[0]["report_id"]
    assert keys(s3, prefix) == sorted([f"{LINES}/1.tsv", f"{LINES}/2.tsv", f"lines-{first}.tsv"])


@pytest.mark.parametrize(
    ("requests", "arguments", "named"),
    [
        (None, {}, "requests is None, but must be a list of dicts"),
        ("text", {}, "requests is 'text', but must be a list of dicts"),
        (["text"], {}, r"requests\[0\] is 'text'"),
        ([{"report_typ": LINES}], {}, r"requests\[0\] has 'report_typ'"),
        ([{"report_type": ""}], {}, r"requests\[0\]: report_type"),
        (
            [*invoices(1, 2), {**invoices(1)[0], "s3_key": "other.pdf"}],
            {},
            r"requests\[2\] asks for the same report as requests\[0\], but under the key 'other.pdf'",
        ),
        (
            invoices(1, 2),
            {"s3_key": "fixed.pdf"},
            r"requests\[1\] \(invoiceId=2\) would write the key 'fixed.pdf', as would requests\[0\] ",
        ),
        (invoices(1), {"s3_key": "a/all.json", "manifest_key": "a/all.json"}, "keeps its manifest"),
        (invoices(1), {"s3_key": "m.json.parts/{invoiceId}", "manifest_key": "m.json"}, "keeps its manifest"),
        (
            invoices(1),
            {"s3_key": "a/audit.jsonl", "audit_key": "a/audit.jsonl"},
            "keeps its manifest or its table",
        ),
        (invoices(1), {"manifest_key": "m.json", "audit_key": "m.json.parts/a.jsonl"}, "audit_key is"),
        (invoices(1), {"audit_key": "audit.csv"}, "audit_key is 'audit.csv', but must end with"),
        (invoices(1), {"ledger": "bucket/prefix"}, "ledger is 'bucket/prefix', but must be an S3 URI"),
        (invoices(1), {"s3_key": 20261127}, r"s3_key is 20261127 \(int\), but must be a non-empty string"),
        (invoices(1), {"manifest_key": 20261127}, r"manifest_key is 20261127 \(int\)"),
        (invoices(1), {"manifest_key": "m" * 960}, "manifest_key .* has 960 bytes of UTF-8; .* at most 924"),
        ([{**invoices(1)[0], "s3_key": 20261127}], {}, r"requests\[0\].s3_key is 20261127 \(int\)"),
        ([{**invoices(1)[0], "s3_key": "a//b"}], {}, r"requests\[0\].s3_key is 'a//b', which has the part ''"),
        ([{**invoices(1)[0], "s3_key": "a", "key": "a"}], {}, r"requests\[0\] has both s3_key and key"),
        (
            [{**invoices(1)[0], "s3_uri": "s3://b/a"}],
            {},
            r"requests\[0\] has 's3_uri', .*, report_options, s3_key$",
        ),
        ([{**invoices(1)[0], "key": 20261127}], {}, r"requests\[0\].key is 20261127 \(int\)"),
        ([{**invoices(1)[0], "key": ""}], {}, r"requests\[0\].key is ''"),
        ([{**invoices(1)[0], "key": "a//b"}], {}, r"requests\[0\].key is 'a//b', which has the part ''"),
        (invoices(1), {"s3_key": "{order}.pdf"}, "placeholder {order}"),
        (invoices(1), {"s3_bucket": None}, "s3_bucket is '', but must be|s3_bucket is ''"),
        (invoices(1), {"s3_key": ""}, "s3_key is ''"),
        ([{"report_type": LINES, "data_start_time": "2099-01-01T00:00:00Z"}], {}, "in the future"),
    ],
)
def test_bad_requests_are_refused_before_any_call(sandbox, s3, prefix, requests, arguments, named):
    with pytest.raises(InvalidInputError, match=named):
        batch(prefix, requests, **arguments).execute(context())
    assert sandbox.calls == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_failed": -1}, "max_failed"),
        ({"max_failed": 1.5}, "max_failed"),
        ({"timeout": 0}, "timeout"),
        ({"poke_interval": 0}, "poke_interval"),
        ({"on_cancelled": "x"}, "on_cancelled"),
        ({"unpack": "x"}, "unpack"),
    ],
)
def test_bad_arguments_show_when_the_dag_is_read(arguments, named):
    with pytest.raises(InvalidInputError, match=named):
        batch("x", invoices(1), **arguments)


def test_a_batch_that_cannot_finish_is_refused_at_once(sandbox, s3, prefix, monkeypatch, caplog, capsys):
    caplog.set_level("INFO")
    connect(monkeypatch, sandbox, rate_limits="{}")

    with pytest.raises(InvalidInputError, match="takes at least 850 s .* longer than timeout, 800 s"):
        batch(prefix, invoices(*range(100)), timeout=800).execute(context())
    connect(monkeypatch, sandbox, rate_limits='{"createReport": [0.00001, 1]}')
    with pytest.raises(InvalidInputError, match="longer than the time that documents are kept"):
        batch(prefix, invoices(*range(100)), timeout=300e6).execute(context())
    assert "100 requests: at least 14 minutes" in caplog.text + capsys.readouterr().out
    assert sandbox.count("createReport") == 0


def test_the_timeout_ends_a_batch_and_a_cleared_task_goes_on(sandbox, s3, prefix):
    sandbox.script(processing_seconds=3600, times=3)
    with pytest.raises(ReportTimeoutError, match="3 of 3 requests are not done within the timeout of 1 s"):
        run(lambda: batch(prefix, invoices(1, 2, 3), timeout=1), context())
    sandbox.clock.advance(3600)

    run(lambda: batch(prefix, invoices(1, 2, 3)), context(try_number=2))

    assert keys(s3, prefix) == ["1.pdf", "2.pdf", "3.pdf"]
    assert len(sandbox.reports) == 3


@pytest.mark.main_path
def test_a_retry_tries_again_what_failed_and_leaves_the_rest(sandbox, s3, prefix):
    sandbox.script(outcome="DONE")
    sandbox.script(outcome="FATAL")
    with pytest.raises(AmazonBusinessPermanentError):
        run(lambda: batch(prefix, invoices(1, 2)), context())
    written = sandbox.count("getReportDocument")

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))

    assert result["landed"] == 2
    assert len(sandbox.reports) == 3
    assert sandbox.count("getReportDocument") == written + 1


def test_a_succeeded_batch_that_is_cleared_has_nothing_to_do(sandbox, s3, prefix):
    first = run(lambda: batch(prefix, invoices(1, 2)), context())
    calls = len(sandbox.calls)

    assert run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2)) == first
    assert len(sandbox.calls) == calls


def test_a_changed_list_keeps_what_it_has_in_common(sandbox, s3, prefix):
    run(lambda: batch(prefix, invoices(1, 2)), context())

    result = run(lambda: batch(prefix, invoices(2, 3)), context(try_number=2))

    assert (result["requested"], result["landed"]) == (2, 2)
    assert len(sandbox.reports) == 3


class Killed(BaseException):
    """Stands for a SIGKILL: nothing after it runs."""


def test_a_worker_lost_while_it_creates_loses_no_report_that_was_noted(sandbox, s3, prefix, monkeypatch):
    landed = durable_create.create
    count = 0
    lock = threading.Lock()

    def create_and_die(*arguments):
        nonlocal count
        with lock:
            count += 1
            if count > 3:
                raise Killed
        return landed(*arguments)

    monkeypatch.setattr(durable_create, "create", create_and_die)
    with pytest.raises(Killed):
        run(lambda: batch(prefix, invoices(*range(8))), context())
    monkeypatch.setattr(durable_create, "create", landed)
    assert {item.report_id for item in on_record(s3, prefix)} - {None} == set(sandbox.reports)

    run(lambda: batch(prefix, invoices(*range(8))), context(try_number=2))

    assert len(sandbox.reports) == 8
    assert len(keys(s3, prefix)) == 8


def test_a_lost_answer_without_options_is_found(sandbox, s3, prefix):
    sandbox.inject(Fault(operation="createReport", kind="lost", times=2))
    requests = [
        {
            "report_type": LINES,
            "data_start_time": f"2026-01-0{day}T00:00:00Z",
            "data_end_time": f"2026-01-0{day + 1}T00:00:00Z",
        }
        for day in (1, 2, 3)
    ]

    run(lambda: batch(prefix, requests, s3_key=prefix + "{index}.tsv"), context())

    assert len(sandbox.reports) == 3


@pytest.mark.parametrize("end", [AmazonBusinessError("503"), Killed()], ids=["failed", "killed"])
def test_a_lost_report_is_found_although_earlier_searches_did_not_end(sandbox, s3, prefix, monkeypatch, end):
    """Each search is around the time when the request was sent, and not when the last one was tried."""
    # Longer than what a search allows for clocks.
    monkeypatch.setattr(batch_run, "REST_SECONDS", 3.0)
    search, searches = durable_create.find_lost, []

    def fail_twice(*arguments):
        searches.append(arguments)
        if len(searches) < 3:
            time.sleep(3 if isinstance(end, Killed) else 0)
            raise end
        return search(*arguments)

    def lose_the_end(stint):
        if isinstance(end, Killed) and searches and len(searches) < 3:
            raise end
        close(stint)

    close = Stint.close
    monkeypatch.setattr(durable_create, "find_lost", fail_twice)
    monkeypatch.setattr(Stint, "close", lose_the_end)
    sandbox.inject(Fault(operation="createReport", kind="lost"))
    window = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}

    for attempted in (1, 2, 3):
        with contextlib.suppress(Killed):
            run(
                lambda: batch(prefix, [{"report_type": LINES, **window}], s3_key=prefix + "{index}.tsv"),
                context(try_number=attempted),
            )

    assert len(sandbox.reports) == 1
    assert keys(s3, prefix) == ["0.tsv"]


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "createReport", "kind": "status", "status": 429, "body": "json"},
        {"operation": "getReportDocument", "kind": "status", "status": 429, "body": "json"},
        {"operation": "getReportDocument", "kind": "status", "status": 503, "body": "html"},
        {"operation": "getReport", "kind": "status", "status": 503, "body": "html"},
        {"operation": "getReport", "kind": "drop"},
        {"operation": "document", "kind": "status", "status": 500},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_faults_that_pass_are_tried_again(sandbox, s3, prefix, fault):
    sandbox.inject(Fault(times=2, **fault))

    run(lambda: batch(prefix, invoices(1, 2, 3)), context())

    assert keys(s3, prefix) == ["1.pdf", "2.pdf", "3.pdf"]
    assert len(sandbox.reports) == 3


def test_a_damaged_document_is_created_again_once_and_the_item_says_so(sandbox, s3, prefix):
    sandbox.script(document=DAMAGED)

    result = run(lambda: batch(prefix, invoices(1, 2, 3)), context())

    assert result["landed"] == 3
    assert len(keys(s3, prefix)) == 3
    assert len(sandbox.reports) == 4
    (again,) = [item for item in manifest(s3, prefix) if item.get("recreated")]
    assert "damaged" in again["recreated"]
    assert again["uri"]


def test_a_document_that_stays_damaged_fails_its_request_only(sandbox, s3, prefix):
    sandbox.script(document=DAMAGED, times=2)

    with pytest.raises(AmazonBusinessError, match="1 of 1 requests failed") as caught:
        run(lambda: batch(prefix, invoices(1)), context())
    assert not isinstance(caught.value, AirflowFailException)
    assert keys(s3, prefix) == []
    assert len(sandbox.reports) == 2


@pytest.mark.slow
def test_a_document_that_amazon_no_longer_has_is_created_again(sandbox, s3, prefix):
    sandbox.script(processing_seconds=3600)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1), timeout=1), context())
    sandbox.clock.advance(3600)
    sandbox.inject(Fault(operation="getReportDocument", kind="status", status=404, body="json", times=3))

    result = run(lambda: batch(prefix, invoices(1)), context(try_number=2))

    assert result["landed"] == 1
    assert len(sandbox.reports) == 2
    (item,) = manifest(s3, prefix)
    assert "no longer has its document" in item["recreated"]


def test_a_request_that_the_api_refuses_fails_alone(sandbox, s3, prefix):
    requests = [*invoices(1), {"report_type": "GET_NO_SUCH_REPORT"}]

    with pytest.raises(AmazonBusinessPermanentError, match=r"requests\[1\].*Invalid Report Type"):
        run(lambda: batch(prefix, requests, s3_key=prefix + "{index}.pdf"), context())
    assert keys(s3, prefix) == ["0.pdf"]


def test_a_missing_role_ends_the_batch(sandbox, s3, prefix):
    sandbox.inject(Fault(operation="createReport", kind="status", status=403, body="json", times=None))

    with pytest.raises(AccessDeniedError):
        run(lambda: batch(prefix, invoices(1, 2, 3)), context())


def waiting(make, ctx):
    """Run a task until it waits for reports that it has created; return its trigger."""
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(ctx)
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    with pytest.raises(TaskDeferred) as deferred:
        make().execute_complete(ctx, event)
    return deferred.value


def use(monkeypatch, sandbox, **changed):
    """Change the connection, as a user does while tasks wait."""
    connections._connections.clear()
    connect(monkeypatch, sandbox)
    name = "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"
    monkeypatch.setenv(name, json.dumps({**json.loads(os.environ[name]), **changed}))


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


def beside(task, context):
    """Execute a task in another thread; Airflow 2's guard of `execute` knows the main one alone."""
    return inspect.unwrap(type(task).execute)(task, context)


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


def test_neither_the_manifest_nor_the_trigger_holds_a_secret(sandbox, s3, prefix):
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1)).execute(context())
    row = str(deferred.value.trigger.serialize())
    run(lambda: batch(prefix, invoices(1)), context())
    written = json.dumps(manifest(s3, prefix))

    for secret in (sandbox.client_secret, sandbox.refresh_token, "Atza|", "X-Amz-", "Signature"):
        assert secret not in row
        assert secret not in written


def test_a_manifest_at_a_key_of_its_own(sandbox, s3, prefix):
    result = run(lambda: batch(prefix, invoices(1), manifest_key=f"{prefix}mine.json"), context())

    assert result["manifest"] == f"s3://tests/{prefix}mine.json"
    assert json.loads(s3.get_object(Bucket="tests", Key=f"{prefix}mine.json")["Body"].read())["items"]


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


@pytest.mark.parametrize(
    "body", [b"a text", b"[]", b'{"version": 99, "items": []}', b'{"version": 1, "items": []}']
)
def test_what_is_no_manifest_is_not_written_over(sandbox, s3, prefix, body):
    key = f"{prefix}_manifests/dag/run/task.json"
    s3.put_object(Bucket="tests", Key=key, Body=body)

    with pytest.raises(ManifestError, match="no manifest that this version can read"):
        batch(prefix, invoices(1)).execute(context())
    assert s3.get_object(Bucket="tests", Key=key)["Body"].read() == body
    assert sandbox.reports == {}


@pytest.mark.parametrize(
    ("field", "value"), [("dag_id", "other"), ("task_id", "other"), ("run_id", "other"), ("map_index", 3)]
)
def test_tasks_cannot_share_a_manifest(sandbox, s3, prefix, field, value):
    arguments = {"manifest_key": f"{prefix}mine.json"}
    run(lambda: batch(prefix, invoices(1), **arguments), context())
    other = context()
    setattr(other["ti"], field, value)

    with pytest.raises(ManifestError, match="cannot share a manifest"):
        run(lambda: batch(prefix, invoices(2), **arguments), other)
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


def test_a_wait_that_cannot_go_on_fails_with_its_reason(sandbox, s3, prefix):
    with pytest.raises(TaskDeferred):
        batch(prefix, invoices(1)).execute(context())
    error = AmazonBusinessError("some reason").to_dict()

    with pytest.raises(AmazonBusinessError, match="some reason"):
        batch(prefix, invoices(1)).execute_complete(context(), {"status": "error", "error": error})


def test_a_report_that_is_lost_fails_alone_and_a_retry_looks_for_it_again(sandbox, s3, prefix, monkeypatch):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", 0)
    sandbox.script(processing_seconds=3600, times=2)
    task = batch(prefix, invoices(1, 2))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))

    def go_on():
        with pytest.raises(TaskDeferred) as deferred:
            batch(prefix, invoices(1, 2)).execute_complete(context(), event)
        lost.append(sandbox.accounts[0].reports.pop(next(iter(sandbox.reports))))
        sandbox.clock.advance(3600)
        raise deferred.value

    lost = []
    with pytest.raises(AmazonBusinessPermanentError, match="1 of 2"):
        run(lambda: batch(prefix, invoices(1, 2)), context(), begin=go_on)
    sandbox.accounts[0].reports[lost[0].report_id] = lost[0]
    assert sum(item["error"] is not None for item in manifest(s3, prefix)) == 1

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert result["landed"] == 2
    assert len(sandbox.reports) == 2


def test_a_report_of_an_earlier_try_that_is_lost_is_made_anew(sandbox, s3, prefix, monkeypatch):
    monkeypatch.setattr(durable_create, "NOT_FOUND_GRACE", 0)
    sandbox.script(processing_seconds=3600, times=2)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1, 2), timeout=2), context())
    sandbox.clock.advance(3600)
    sandbox.accounts[0].reports.pop(next(iter(sandbox.reports)))

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert (result["landed"], result["failed"]) == (2, 0)
    assert len(sandbox.reports) == 2


def test_a_report_of_an_earlier_try_that_ended_fatal_is_created_again(sandbox, s3, prefix):
    sandbox.script(processing_seconds=3600, outcome="FATAL")
    sandbox.script(processing_seconds=3600)
    with pytest.raises(ReportTimeoutError):
        run(lambda: batch(prefix, invoices(1, 2), timeout=2), context())
    sandbox.clock.advance(3600)

    result = run(lambda: batch(prefix, invoices(1, 2)), context(try_number=2))
    assert (result["landed"], result["failed"]) == (2, 0)
    assert [each.status for each in sandbox.reports.values()].count("FATAL") == 1
    assert len(sandbox.reports) == 3


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


def test_what_nobody_foresaw_of_one_document_does_not_end_the_batch(sandbox, s3, prefix, monkeypatch):
    land, bad = ReportsToS3Operator._store_document, []

    def unforeseen(self, fetch, **arguments):
        bad.append(arguments["names"]["report_id"])
        if arguments["names"]["report_id"] == bad[0]:
            raise OverflowError("https://documents.example/x?X-Amz-Signature=secret")
        return land(self, fetch, **arguments)

    monkeypatch.setattr(ReportsToS3Operator, "_store_document", unforeseen)
    result = run(lambda: batch(prefix, invoices(1, 2, 3), max_failed=1), context())
    assert (result["landed"], result["failed"]) == (2, 1)
    (error,) = [each["error"] for each in manifest(s3, prefix) if each["error"]]
    assert "OverflowError" in error
    assert "secret" not in error


def test_of_documents_with_one_name_only_the_first_is_stored(sandbox, s3, prefix):
    for number in (b"1", b"2", b"3"):
        sandbox.script(document=named("invoice.pdf", b"%PDF-1.4 " + number))

    with pytest.raises(AmazonBusinessPermanentError, match="2 of 3 requests failed"):
        run(lambda: batch(prefix, invoices(1, 2, 3), s3_key=prefix + "{name}"), context())

    assert keys(s3, prefix) == ["invoice.pdf"]
    (kept,) = [item for item in manifest(s3, prefix) if item["objects"]]
    body = s3.get_object(Bucket="tests", Key=f"{prefix}invoice.pdf")["Body"].read()
    assert hashlib.sha256(body).hexdigest() == kept["sha256"]
    for item in manifest(s3, prefix):
        if item is not kept and item["error"]:
            assert f"{prefix}invoice.pdf" in item["error"]
            assert f"requests[{kept['index']}]" in item["error"]

    # The one that has the key keeps it in the next attempt, too.
    with pytest.raises(AmazonBusinessPermanentError, match="2 of 3 requests failed"):
        run(lambda: batch(prefix, invoices(1, 2, 3), s3_key=prefix + "{name}"), context(try_number=2))
    assert s3.get_object(Bucket="tests", Key=f"{prefix}invoice.pdf")["Body"].read() == body


def test_a_name_that_is_known_late_does_not_replace_what_an_earlier_list_stored(sandbox, s3, prefix):
    fixed = {**invoices(1)[0], "s3_key": f"{prefix}invoice.pdf"}
    run(lambda: batch(prefix, [fixed]), context())
    before = s3.get_object(Bucket="tests", Key=f"{prefix}invoice.pdf")["Body"].read()
    sandbox.script(document=named("invoice.pdf", b"%PDF-1.4 another one"))
    late = {**invoices(2)[0], "s3_key": prefix + "{name}"}

    with pytest.raises(AmazonBusinessPermanentError, match=r"invoice\.pdf.*of the document of requests\[0\]"):
        run(lambda: batch(prefix, [fixed, late]), context(try_number=2))

    assert s3.get_object(Bucket="tests", Key=f"{prefix}invoice.pdf")["Body"].read() == before


@pytest.mark.parametrize("name", ["all.json", "all.json.parts/x"])
def test_no_document_is_written_where_the_manifest_is(sandbox, s3, prefix, name):
    sandbox.script(document=named(name, b"%PDF-1.4"))
    arguments = {"s3_key": prefix + "{name}", "manifest_key": f"{prefix}all.json"}

    with pytest.raises(AmazonBusinessPermanentError, match="keeps its manifest"):
        run(lambda: batch(prefix, invoices(1), **arguments), context())
    assert json.loads(s3.get_object(Bucket="tests", Key=f"{prefix}all.json")["Body"].read())["items"][0]["error"]


def test_an_index_belongs_to_one_request_whatever_the_list(sandbox, s3, prefix):
    def lists(*numbers, try_number=1):
        given = {"s3_key": prefix + "{index}.pdf"}
        return run(lambda: batch(prefix, invoices(*numbers), **given), context(try_number=try_number))

    lists("A", "B")
    lists("C", "A", "B", try_number=2)
    lists("B", "D", try_number=3)
    lists("A", "B", "C", "D", try_number=4)

    items = {item["report_options"]["invoiceId"]: item for item in manifest(s3, prefix)}
    assert {number: item["index"] for number, item in items.items()} == {"A": 0, "B": 1, "C": 2, "D": 3}
    assert len(sandbox.reports) == 4
    for item in items.values():
        stored = s3.get_object(Bucket="tests", Key=f"{prefix}{item['index']}.pdf")["Body"].read()
        assert hashlib.sha256(stored).hexdigest() == item["sha256"]


def test_what_is_stored_under_another_key_is_not_stored(sandbox, s3, prefix):
    arguments = {"manifest_key": f"{prefix}_manifests/m.json"}
    run(lambda: batch(f"{prefix}wrong/", invoices(1, 2), **arguments), context())

    result = run(lambda: batch(f"{prefix}right/", invoices(1, 2), **arguments), context(try_number=2))

    assert result["landed"] == 2
    assert keys(s3, prefix) == ["right/1.pdf", "right/2.pdf", "wrong/1.pdf", "wrong/2.pdf"]


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


def test_a_list_that_renders_differently_on_each_resume_is_the_first_one(sandbox, s3, prefix):
    sandbox.script(processing_seconds=1, times=3)
    number = itertools.count()

    def moving():
        each = next(number)
        return batch(
            f"{prefix}{each}/",
            invoices(f"A{each}", f"B{each}", f"C{each}"),
            s3_bucket="tests" if each == 0 else "no-such-bucket",
            aws_conn_id="aws_default" if each == 0 else "no_such_connection",
            amazon_business_conn_id="amazon_business_default" if each == 0 else "no_such_connection",
        )

    result = run(moving, context())

    assert result["landed"] == 3
    assert len(sandbox.reports) == 3
    assert keys(s3, prefix) == ["0/A0.pdf", "0/B0.pdf", "0/C0.pdf"]


def test_equal_requests_are_one(sandbox, s3, prefix, caplog, capsys):
    caplog.set_level("INFO")
    given = [*invoices(1, 2), {**invoices(1)[0], "marketplace_ids": None}, *invoices(1)]

    result = run(lambda: batch(prefix, given), context())

    assert (result["requested"], result["landed"]) == (2, 2)
    assert len(sandbox.reports) == 2
    assert manifest(s3, prefix)[0]["positions"] == [0, 2, 3]
    assert "more than once" in caplog.text + capsys.readouterr().out


def test_an_empty_list_is_a_success_or_a_skip(sandbox, s3, prefix):
    result = run(lambda: batch(prefix, []), context())
    assert (result["requested"], result["landed"], result["failed"], result["bytes"]) == (0, 0, 0, 0)
    assert manifest(s3, prefix) == []

    with pytest.raises(AirflowSkipException, match="skip_if_empty"):
        run(lambda: batch(prefix, (), skip_if_empty=True), context())
    assert sandbox.calls == []


@pytest.mark.parametrize(("share", "failing", "fails"), [(0.29, 29, False), (0.29, 30, True), (0.07, 7, False)])
def test_a_share_that_may_fail_is_exact(sandbox, s3, prefix, share, failing, fails):
    operator = batch(prefix, [], max_failed=share)
    items = [
        Item(index, {"reportType": LINES}, "key", error="x" if index < failing else None, skipped=index >= failing)
        for index in range(100)
    ]

    failure = operator._failure(items, "s3://tests/m")

    assert ("30 of 100" in str(failure)) is fails
    assert (failure is None) is not fails


def test_the_record_carries_what_all_requests_need(sandbox, s3, prefix, monkeypatch):
    sent, make = [], Endpoint.make_request

    def noted(self, model, request):
        if model.service_model.service_name == "s3":
            sent.append((model.name, {name.lower(): value for name, value in request["headers"].items()}))
        return make(self, model, request)

    monkeypatch.setattr(Endpoint, "make_request", noted)
    given = {"ExpectedBucketOwner": "0" * 12, "RequestPayer": "requester", "StorageClass": "STANDARD"}
    with contextlib.suppress(AmazonBusinessError):
        run(lambda: batch(prefix, invoices(1), extra_args=given), context())

    assert {name for name, _ in sent} >= {"GetObject", "PutObject"}
    assert [name for name, headers in sent if headers.get("x-amz-expected-bucket-owner") != "0" * 12] == []
    assert [name for name, headers in sent if headers.get("x-amz-request-payer") != "requester"] == []


def test_what_a_ledger_has_is_not_created_again(sandbox, s3, prefix):
    given = {"ledger": f"s3://tests/{prefix}ledger/"}
    run(lambda: batch(f"{prefix}first/", invoices(1, 2), **given), context())
    other = context()
    other["ti"].run_id = "other"

    result = run(lambda: batch(f"{prefix}second/", invoices(2, 3), **given), other)

    assert (result["landed"], result["already_delivered"]) == (1, 1)
    assert len(sandbox.reports) == 3
    body = s3.get_object(Bucket="tests", Key=f"{prefix}second/_manifests/dag/other/task.json")["Body"].read()
    delivered, stored = json.loads(body)["items"]
    assert delivered["already_delivered"]
    assert delivered["uri"] == f"s3://tests/{prefix}first/2.pdf"
    assert delivered["sha256"]
    assert stored["uri"] == f"s3://tests/{prefix}second/3.pdf"

    s3.delete_object(Bucket="tests", Key=f"{prefix}first/2.pdf")
    other["ti"].run_id = "third"
    result = run(lambda: batch(f"{prefix}third/", invoices(2), **given), other)
    assert (result["landed"], result["already_delivered"]) == (1, 0)
    other["ti"].run_id = "fourth"
    result = run(lambda: batch(f"{prefix}fourth/", invoices(2), **given), other)
    assert (result["landed"], result["already_delivered"]) == (0, 1)


@pytest.mark.main_path
def test_the_result_is_a_table_too(sandbox, s3, prefix):
    key = f"{prefix}audit/run.jsonl"
    requests = invoices("1", "FATAL-2", "NO-DATA-3")

    result = run(lambda: batch(prefix, requests, audit_key=key, max_failed=1, on_cancelled="skip"), context())

    assert result["audit"] == f"s3://tests/{key}"
    rows = [json.loads(line) for line in s3.get_object(Bucket="tests", Key=key)["Body"].read().splitlines()]
    assert [row["status"] for row in rows] == ["landed", "failed", "skipped"]
    assert rows[0]["request"] == "invoiceId=1"
    assert rows[0]["uri"] == f"s3://tests/{prefix}1.pdf"
    assert (rows[0]["dag_id"], rows[0]["run_id"], rows[0]["task_id"]) == ("dag", "run", "task")


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


@pytest.mark.parametrize("length", [11, 64, 200])
def test_any_number_of_running_reports_fits_a_row_of_the_database(length):
    from airflow.models.trigger import Trigger

    running = [
        RunningReport(f"{number:0{length}d}", INVOICE, 1e9 + number * 10, number % 2 == 0)
        for number in range(10_000)
    ]
    packed, fitting = pack(running)
    trigger = BatchTrigger(
        amazon_business_conn_id="c" * 200,
        record={
            "bucket": "b" * 63,
            "key": "k" * 1024,
            "attempt": "a" * 12,
            "stint": 9999,
            "aws_conn_id": "a" * 200,
        },
        creates=10_000,
        running=packed,
        documents=10_000,
        poke_interval=15.0,
        deadline=1e10,
    )

    assert len(Trigger(*trigger.serialize()).encrypted_kwargs) < 60_000
    assert fitting > 30_000 // (length + 30)
    assert unpack(packed) == running[:fitting]


def test_a_wait_keeps_its_place_in_the_queue_when_other_reports_wait_for_their_turn(sandbox, monkeypatch):
    limits = {"createReport": [1, 15], "getReport": [500, 500], "getReportDocument": [500, 500]}
    connect(monkeypatch, sandbox, rate_limits=json.dumps(limits))
    bucket = token_buckets(AmazonBusinessHook().client.config)["createReport"]
    while bucket.take_up_to(15):
        pass
    trigger = BatchTrigger(
        amazon_business_conn_id="amazon_business_default",
        record={},
        creates=1,
        running=[],
        documents=0,
        poke_interval=0.1,
        deadline=time.time() + 60,
        rotate_at=time.time() - 1,
    )

    (event,) = asyncio.run(events_of(trigger))

    assert event["permits"]["createReport"] == 1


def test_reports_that_do_not_fit_one_trigger_are_polled_before_others_get_their_turn(
    sandbox, s3, prefix, monkeypatch
):
    monkeypatch.setattr(batch_run, "ROTATE_SECONDS", 0.3)
    monkeypatch.setattr(batch_run, "pack", lambda reports: pack(reports, 300))

    result = run(lambda: batch(prefix, invoices(*range(30)), poke_interval=0.6, timeout=60), context())

    assert result["landed"] == 30


def test_reports_are_polled_although_each_wait_is_shorter_than_the_interval(sandbox, s3, prefix, monkeypatch):
    """As in a batch that gets permits for a handful of reports every 100 seconds, and polls every five minutes."""
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"createReport": [2, 1]}))
    left_to_create = []

    class Noted(BatchRun):
        def log_progress(self):
            super().log_progress()
            if self.state.counts.stored:
                left_to_create.append(self.state.pending().creates)

    monkeypatch.setattr(reports_to_s3, "BatchRun", Noted)
    run(lambda: batch(prefix, invoices(*range(12)), poke_interval=1), context())

    assert len(keys(s3, prefix)) == 12
    assert max(left_to_create) > 0


def test_reports_that_do_not_fit_one_trigger_get_their_turn(sandbox, s3, prefix, monkeypatch):
    monkeypatch.setattr(batch_run, "ROTATE_SECONDS", 0.3)
    monkeypatch.setattr(batch_run, "pack", lambda reports: pack(reports, 300))
    waited = []
    sandbox.script(queue_seconds=3600, times=30)

    class AllHadTheirTurn(Exception):  # noqa: N818 - the end of the test, no error
        pass

    def noted(trigger):
        waited.append({report.report_id for report in unpack(trigger.running)})
        if len(set().union(*waited)) == 30:
            raise AllHadTheirTurn
        return trigger

    make = BatchRun.trigger
    monkeypatch.setattr(BatchRun, "trigger", lambda self: noted(make(self)))
    with pytest.raises(AllHadTheirTurn):
        run(lambda: batch(prefix, invoices(*range(30)), timeout=100), context())

    assert max(map(len, waited)) < 30
    assert set().union(*waited) == set(sandbox.reports)


@pytest.mark.parametrize("native", [False, True])
def test_strings_without_a_template_are_what_airflow_makes_of_them(native):
    with DAG(
        "rendering", schedule=None, render_template_as_native_obj=native, user_defined_macros={"x": "X"}
    ) as dag:
        texts = [
            "1",
            "007",
            "1e5",
            "a",
            "{{ x }}",
            "{% if 1 %}b{% endif %}",
            "{# c #}d",
            "e\n",
            "[1]",
            "{n}",
            "None",
            "",
        ]
        requests = [{"report_type": text, "report_options": {"invoiceId": text}} for text in texts]
        ours = batch("p/", requests)
        plain = BaseOperator(task_id="plain")
    environment = dag.get_template_env()
    ours.render_template_fields({}, environment)

    assert [each["report_type"] for each in ours.requests] == [
        plain.render_template(text, {}, environment) for text in texts
    ]


def test_a_resumed_task_renders_no_requests(monkeypatch):
    with DAG("rendering", schedule=None):
        task = batch("p/", [{"report_type": "{{ undefined_function() }}"}], s3_key="{{ 'k' }}")
    resumed = context()
    resumed["ti"].next_method = "execute_complete"

    task.render_template_fields(resumed)

    assert task.s3_key == "k"
    with pytest.raises(UndefinedError):
        task.render_template_fields(context())


def test_a_lost_request_is_not_given_the_report_that_another_one_has(sandbox, s3, prefix, monkeypatch):
    window = {"data_start_time": "2026-11-01T00:00:00Z", "data_end_time": "2026-11-02T00:00:00Z"}
    requests = [
        {"report_type": LINES, **window},
        {"report_type": LINES, **window, "report_options": {"rows": "5"}},
    ]

    def make():
        return batch(prefix, requests, s3_key=prefix + "{index}.tsv")

    create, noted = durable_create.create, threading.Event()

    def die_unless_it_has_options(sender, hook, request, record):
        if request.options:
            return create(sender, hook, request, record)
        noted.wait(10)
        raise Killed

    def note(stint, item):
        landed(stint, item)
        noted.set()

    landed = Stint.note
    monkeypatch.setattr(durable_create, "create", die_unless_it_has_options)
    monkeypatch.setattr(Stint, "note", note)
    with pytest.raises(Killed):
        run(make, context())
    monkeypatch.setattr(durable_create, "create", create)
    # As in another process, which knows what is on record only.
    monkeypatch.setattr(AmazonBusinessHook, "is_of_another_request", lambda *_: False)
    assert len(sandbox.reports) == 1

    run(make, context(try_number=2))

    whole, five = manifest(s3, prefix)
    assert len(sandbox.reports) == 2
    assert whole["report_id"] != five["report_id"]
    assert not sandbox.reports[whole["report_id"]].report_options
    assert not whole["adopted"]
