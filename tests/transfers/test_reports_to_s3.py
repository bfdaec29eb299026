"""Batches, from the list of requests to the objects: results, limits, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json

import pytest
from botocore.endpoint import Endpoint
from jinja2.exceptions import UndefinedError

from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    InvalidInputError,
    ReportTimeoutError,
)
from airflow_provider_amzbiz.sandbox import Sandbox
from tests.airflow_names import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
    TaskDeferred,
)
from tests.conftest import connect
from tests.deferring import context, events_of, rebuilt, run
from tests.transfers.batches import LINES, batch, invoices, keys, manifest

pytestmark = pytest.mark.usefixtures("quick_batches")


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


def test_the_timeout_ends_a_batch_and_a_cleared_task_continues(sandbox, s3, prefix):
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


def test_neither_the_manifest_nor_the_trigger_holds_a_secret(sandbox, s3, prefix):
    with pytest.raises(TaskDeferred) as deferred:
        batch(prefix, invoices(1)).execute(context())
    row = str(deferred.value.trigger.serialize())
    run(lambda: batch(prefix, invoices(1)), context())
    written = json.dumps(manifest(s3, prefix))

    for secret in (sandbox.client_secret, sandbox.refresh_token, "Atza|", "X-Amz-", "Signature"):
        assert secret not in row
        assert secret not in written


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
