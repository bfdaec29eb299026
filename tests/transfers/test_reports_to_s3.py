"""Batches, from the list of requests to the objects, through limits, faults, retries and lost workers."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from botocore.exceptions import ConnectionClosedError

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    InvalidInputError,
    ManifestTakenError,
    ReportTimeoutError,
)
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from airflow_provider_amzbiz.transfers import reports_to_s3
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.conftest import connect
from tests.deferring import context, events_of, rebuilt, run

LINES = "SANDBOX_ORDER_LINES"
INVOICE = "GET_AB_INVOICE_PDF"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(reports_to_s3, "_REST", 0.2)


@pytest.fixture
def prefix(s3, request):
    """A folder of the test's own, emptied afterwards."""
    name = f"batch/{abs(hash(request.node.name))}/"
    yield name
    for each in s3.list_objects_v2(Bucket="tests", Prefix=name).get("Contents", []):
        s3.delete_object(Bucket="tests", Key=each["Key"])


def invoices(*numbers):
    return [{"report_type": INVOICE, "report_options": {"invoiceId": str(number)}} for number in numbers]


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


def keys(s3, prefix):
    listed = s3.list_objects_v2(Bucket="tests", Prefix=prefix).get("Contents", [])
    return sorted(each["Key"].removeprefix(prefix) for each in listed if "_manifests" not in each["Key"])


@pytest.mark.parametrize("deferrable", [True, False])
def test_every_document_lands_under_its_key(sandbox, s3, prefix, deferrable):
    result = run(lambda: batch(prefix, invoices(1, 2, 3), deferrable=deferrable), context())

    assert keys(s3, prefix) == ["1.pdf", "2.pdf", "3.pdf"]
    assert result == {
        "manifest": f"s3://tests/{prefix}_manifests/dag/run/task.json",
        "requested": 3,
        "landed": 3,
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


def test_a_batch_stays_within_the_limit(s3, prefix, monkeypatch):
    with Sandbox(time_scale=30, queue_seconds=5, processing_seconds=5) as sandbox:
        connect(monkeypatch, sandbox, rate_limits="{}")

        run(lambda: batch(prefix, invoices(*range(40)), poke_interval=0.3), context())

        assert len(keys(s3, prefix)) == 40
        assert len(sandbox.reports) == 40
        # What is kept in hand, five of the API's seconds, is a sixth of one here: a busy machine may be late.
        assert sum(call.status == 429 for call in sandbox.calls) <= 3


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
        assert sum(call.status == 429 for call in sandbox.calls) <= 3


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


def test_other_types_and_keys_of_their_own(sandbox, s3, prefix):
    requests = [
        {"report_type": LINES, "report_options": {"rows": 3}, "key": prefix + "lines-{report_id}.tsv"},
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
        ([], {}, "at least one dict"),
        ("text", {}, "at least one dict"),
        (["text"], {}, r"requests\[0\] is 'text'"),
        ([{"report_typ": LINES}], {}, r"requests\[0\] has 'report_typ'"),
        ([{"report_type": ""}], {}, r"requests\[0\]: report_type"),
        (invoices(1, 2, 1), {}, r"requests\[2\] asks for the same report as requests\[0\]"),
        (invoices(1, 2), {"s3_key": "fixed.pdf"}, r"requests\[1\] would write the key 'fixed.pdf'"),
        (invoices(1), {"s3_key": "{order}.pdf"}, "placeholder {order}"),
        (invoices(1), {"s3_bucket": None}, "s3_bucket and s3_key have to be given"),
        (invoices(1), {"s3_key": ""}, "s3_bucket and s3_key have to be given"),
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
    noted = {item["report_id"] for item in manifest(s3, prefix)} - {None}
    assert noted == set(sandbox.reports)

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


def test_a_document_that_never_arrives_fails_its_request_only(sandbox, s3, prefix):
    sandbox.script(document=b"\x1f\x8b\x08\x00 this is no gzip at all")

    with pytest.raises(AmazonBusinessError, match="1 of 3 requests failed"):
        run(lambda: batch(prefix, invoices(1, 2, 3)), context())
    assert len(keys(s3, prefix)) == 2


def test_a_request_that_the_api_refuses_fails_alone(sandbox, s3, prefix):
    requests = [*invoices(1), {"report_type": "GET_NO_SUCH_REPORT"}]

    with pytest.raises(AmazonBusinessPermanentError, match=r"requests\[1\].*Invalid Report Type"):
        run(lambda: batch(prefix, requests, s3_key=prefix + "{index}.pdf"), context())
    assert keys(s3, prefix) == ["0.pdf"]


def test_a_missing_role_ends_the_batch(sandbox, s3, prefix):
    sandbox.inject(Fault(operation="createReport", kind="status", status=403, body="json", times=None))

    with pytest.raises(AccessDeniedError):
        run(lambda: batch(prefix, invoices(1, 2, 3)), context())


def test_of_two_processes_the_late_one_stops(sandbox, s3, prefix):
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1, 2)).execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    late = batch(prefix, invoices(1, 2))
    stale = late._batch(context())
    stale.manifest.read()
    run(lambda: batch(prefix, invoices(1, 2)), context(), begin=lambda: late.execute_complete(context(), event))
    created = len(sandbox.reports)

    stale.manifest.match(stale.items)
    with pytest.raises(ManifestTakenError, match="written by another process"):
        late._work(stale, event)
    assert len(sandbox.reports) == created


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


def test_without_its_manifest_a_batch_does_not_begin_anew(sandbox, s3, prefix):
    """What was created would be created twice."""
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1)).execute(context())
    (event,) = asyncio.run(events_of(rebuilt(deferred.value)))
    s3.delete_object(Bucket="tests", Key=f"{prefix}_manifests/dag/run/task.json")

    with pytest.raises(AmazonBusinessError, match="is gone"):
        batch(prefix, invoices(1)).execute_complete(context(), event)
    assert sandbox.reports == {}


@pytest.mark.parametrize("body", [b"a text", b"[]", b'{"version": 99, "items": []}'])
def test_what_is_no_manifest_is_not_written_over(sandbox, s3, prefix, body):
    key = f"{prefix}_manifests/dag/run/task.json"
    s3.put_object(Bucket="tests", Key=key, Body=body)

    with pytest.raises(AmazonBusinessPermanentError, match="no manifest that this version can read"):
        batch(prefix, invoices(1)).execute(context())
    assert s3.get_object(Bucket="tests", Key=key)["Body"].read() == body
    assert sandbox.reports == {}


def test_a_writing_of_the_manifest_whose_answer_is_lost_is_no_other_process(sandbox, s3, prefix):
    """boto3 writes again, and S3 refuses that: the condition does not hold any more."""
    task = batch(prefix, invoices(1))
    manifest = task._batch(context()).manifest
    http, lost = manifest.s3._endpoint.http_session, []
    send = http.send

    def lose(request):
        answer = send(request)
        if request.method == "PUT" and not lost:
            lost.append(answer.status_code)
            raise ConnectionClosedError(endpoint_url=request.url)
        return answer

    http.send = lose
    manifest.save()
    manifest.save()

    assert lost == [200]


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


def test_of_two_processes_that_begin_together_one_stops(sandbox, s3, prefix):
    both = [batch(prefix, invoices(1, 2))._batch(context()).manifest for _ in range(2)]
    for number, manifest in enumerate(both, 1):
        assert not manifest.read()
        manifest.deadline = number

    both[0].save()
    with pytest.raises(ManifestTakenError, match="written by another process"):
        both[1].save()


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
