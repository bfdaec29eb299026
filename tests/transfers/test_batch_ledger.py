"""Batches that know what earlier ones have delivered, and write their result as a table."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from datetime import datetime, timezone

import pytest
from pyarrow import parquet

from airflow_provider_amzbiz.batch.ledger import Ledger, accounts_of
from airflow_provider_amzbiz.batch.ledger_rebuild import rebuild
from airflow_provider_amzbiz.documents.s3_location import split_s3_uri
from airflow_provider_amzbiz.exceptions import AmazonBusinessPermanentError, InvalidInputError, LedgerError
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.deferring import context, run


@pytest.fixture
def bucket(s3_server):
    return s3_server.make_bucket(f"batches-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def batch(s3, bucket):
    """Run a batch of invoices as one DAG run; return its summary."""

    def start(run_id, *invoices, **more):
        def make():
            requests = [
                {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": each}} for each in invoices
            ]
            given = {
                "requests": requests,
                "s3_bucket": bucket,
                "s3_key": "invoices/{invoiceId}/{name}",
                "manifest_key": f"_manifests/{run_id}.json",
                "ledger": f"s3://{bucket}/ledger/",
                "poke_interval": 0.1,
                "deferrable": True,
                **more,
            }
            return ReportsToS3Operator(task_id="task", **given)

        of_run = context()
        of_run["ti"].run_id = run_id
        return run(make, of_run)

    return start


@pytest.fixture
def ledger(s3, bucket):
    """The ledger of the only account."""

    def open_ledger():
        (account,) = accounts_of(s3, f"s3://{bucket}/ledger/")
        return Ledger(s3, f"s3://{bucket}/ledger/", account=account)

    return open_ledger


def asked_for(sandbox):
    return sorted(report.report_options["invoiceId"] for report in sandbox.reports.values())


def items(s3, summary):
    bucket, key = split_s3_uri(summary["manifest"])
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["items"]


def test_a_list_that_overlaps_yesterdays_creates_only_what_is_new(sandbox, batch, s3):
    first = batch("monday", "1", "MULTI-2", "3")
    second = batch("tuesday", "3", "4", "MULTI-2")

    assert (first["landed"], first["already_delivered"]) == (3, 0)
    assert (second["requested"], second["landed"], second["already_delivered"]) == (3, 1, 2)
    assert asked_for(sandbox) == ["1", "3", "4", "MULTI-2"]
    before = {item["report_options"]["invoiceId"]: item["objects"] for item in items(s3, first)}
    after = {item["report_options"]["invoiceId"]: item["objects"] for item in items(s3, second)}
    assert (after["3"], after["MULTI-2"]) == (before["3"], before["MULTI-2"])


def test_what_was_deleted_is_delivered_again_and_then_known(sandbox, batch, s3):
    first = batch("monday", "1")
    ((stored,),) = (item["objects"] for item in items(s3, first))
    bucket, key = split_s3_uri(stored["uri"])
    s3.delete_object(Bucket=bucket, Key=key)

    assert batch("tuesday", "1")["landed"] == 1
    assert s3.head_object(Bucket=bucket, Key=key)
    assert batch("wednesday", "1")["already_delivered"] == 1
    assert asked_for(sandbox) == ["1", "1"]


def test_what_was_moved_elsewhere_on_purpose_is_not_delivered_again(sandbox, batch, s3, bucket):
    batch("monday", "1", "2")
    for each in s3.list_objects_v2(Bucket=bucket, Prefix="invoices/")["Contents"]:
        s3.delete_object(Bucket=bucket, Key=each["Key"])

    summary = batch("tuesday", "1", "2", verify_delivered=False)

    assert (summary["landed"], summary["already_delivered"]) == (0, 2)
    assert asked_for(sandbox) == ["1", "2"]


def test_what_failed_or_was_skipped_is_asked_for_again(sandbox, batch):
    first = batch("monday", "FATAL-1", "NO-DATA-2", "3", max_failed=1, on_cancelled="skip")
    second = batch("tuesday", "FATAL-1", "NO-DATA-2", "3", max_failed=1, on_cancelled="skip")

    assert (first["landed"], first["failed"], first["skipped"]) == (1, 1, 1)
    assert (second["already_delivered"], second["failed"], second["skipped"]) == (1, 1, 1)
    assert asked_for(sandbox).count("3") == 1


def test_what_was_forgotten_is_delivered_again(sandbox, batch, ledger):
    batch("monday", "1", "2")
    (forgotten,) = (
        identity for identity, each in ledger().entries().items() if each.report_options["invoiceId"] == "1"
    )
    assert ledger().forget(forgotten)

    assert batch("tuesday", "1", "2")["landed"] == 1
    assert asked_for(sandbox) == ["1", "1", "2"]


def test_an_index_does_not_replace_what_an_earlier_run_delivered(sandbox, batch, s3):
    batch("monday", "1", "2", "3", s3_key="invoices/{index}.pdf")

    summary = batch("tuesday", "2", "3", "4", s3_key="invoices/{index}.pdf", max_failed=1)

    _, three, four = items(s3, summary)
    assert (summary["already_delivered"], summary["failed"], summary["landed"]) == (2, 1, 0)
    assert "invoices/2.pdf" in four["error"]
    assert "invoiceId=3" in four["error"]
    assert four["permanent"]
    bucket, key = split_s3_uri(three["uri"])
    assert hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest() == three["sha256"]
    assert asked_for(sandbox) == ["1", "2", "3"]


def test_a_late_name_does_not_replace_what_an_earlier_run_delivered(sandbox, batch, s3, bucket):
    batch("monday", "1", s3_key="invoices/2.pdf")

    summary = batch("tuesday", "1", "2", "3", s3_key="invoices/{name}", max_failed=1)

    one, two, three = items(s3, summary)
    assert (summary["already_delivered"], summary["failed"], summary["landed"]) == (1, 1, 1)
    assert split_s3_uri(one["uri"])[1] == "invoices/2.pdf"
    assert "invoices/2.pdf" in two["error"]
    assert "invoiceId=1" in two["error"]
    assert three["error"] is None
    body = s3.get_object(Bucket=bucket, Key="invoices/2.pdf")["Body"].read()
    assert hashlib.sha256(body).hexdigest() == one["sha256"]


def test_a_cleared_run_asks_again_whether_what_was_delivered_is_there(sandbox, batch, ledger, s3):
    first = batch("monday", "1", "2", "3")
    batch("tuesday", "1", "2", "3")
    deleted = items(s3, first)[0]["uri"]
    bucket, key = split_s3_uri(deleted)
    s3.delete_object(Bucket=bucket, Key=key)
    (forgotten,) = (
        identity for identity, each in ledger().entries().items() if each.report_options["invoiceId"] == "2"
    )
    assert ledger().forget(forgotten)

    summary = batch("tuesday", "1", "2", "3")

    assert (summary["landed"], summary["already_delivered"]) == (2, 1)
    assert s3.head_object(Bucket=bucket, Key=key)
    assert asked_for(sandbox) == ["1", "1", "2", "2", "3"]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_cleared_run_stores_again_what_it_had_stored_and_is_missing(sandbox, batch, ledger, s3, forgets):
    first = items(s3, batch("monday", "1", "2", "3", "4"))
    for stored, change in zip(
        first, [s3.delete_object, lambda **at: s3.put_object(**at, Body=b"another size")], strict=False
    ):
        bucket, key = split_s3_uri(stored["uri"])
        change(Bucket=bucket, Key=key)
    known = ledger().entries()
    for identity in known if forgets else ():
        ledger().forget(identity)

    second = batch("monday", "1", "2", "3", "4")

    assert (second["landed"], second["already_delivered"]) == (4, 0)
    assert asked_for(sandbox) == ["1", "2", "3", "4"]
    for before, after in zip(first, items(s3, second), strict=True):
        assert (before["uri"], before["sha256"]) == (after["uri"], after["sha256"])
        bucket, key = split_s3_uri(after["uri"])
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert hashlib.sha256(body).hexdigest() == after["sha256"]
    # What was forgotten and is there is not delivered again by this run.
    assert len(ledger().entries()) == (2 if forgets else 4)


def test_what_a_cleared_run_misses_may_have_been_delivered_by_another_run(sandbox, batch, s3):
    bucket, key = split_s3_uri(items(s3, batch("monday", "1"))[0]["uri"])
    s3.delete_object(Bucket=bucket, Key=key)
    (again,) = items(s3, batch("tuesday", "1", s3_key="again/{invoiceId}/{name}"))

    summary = batch("monday", "1")

    assert (summary["landed"], summary["already_delivered"]) == (0, 1)
    assert items(s3, summary)[0]["uri"] == again["uri"]
    assert asked_for(sandbox) == ["1", "1"]


@pytest.mark.parametrize("more", [{"verify_delivered": False}, {"ledger": None}])
def test_a_cleared_run_that_verifies_nothing_leaves_alone_what_it_had_stored(sandbox, batch, s3, more):
    bucket, key = split_s3_uri(items(s3, batch("monday", "1", **more))[0]["uri"])
    s3.delete_object(Bucket=bucket, Key=key)

    assert batch("monday", "1", **more)["landed"] == 1
    assert asked_for(sandbox) == ["1"]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix=key)


def test_a_cleared_run_without_its_ledger_keeps_what_it_found_delivered(sandbox, batch):
    batch("monday", "1")
    batch("tuesday", "1")

    assert batch("tuesday", "1", ledger=None)["already_delivered"] == 1
    assert asked_for(sandbox) == ["1"]


def test_manifests_are_enough_to_make_it_again(sandbox, batch, ledger, s3, bucket):
    batch("monday", "1", "MULTI-2")
    batch("tuesday", "2", "NO-DATA-3", on_cancelled="skip")
    before = ledger().entries()
    etags = {name: each.etag for name, each in before.items()}
    account = ledger().account
    for name in before:
        ledger().forget(name)

    assert rebuild(s3, f"s3://{bucket}/ledger/", [f"s3://{bucket}/_manifests/"]) == ({account: 3}, [])

    after = ledger().entries()
    assert after == before
    assert {name: each.etag for name, each in after.items()} == etags
    assert batch("wednesday", "1", "MULTI-2", "2")["already_delivered"] == 3


def test_an_entry_that_is_damaged_is_not_taken_for_nothing(sandbox, batch, ledger, s3, bucket):
    batch("monday", "1")
    ((name, _),) = ledger().entries().items()
    key = f"ledger/{ledger().account}/deliveries/{name}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=b"{")

    with pytest.raises(LedgerError, match=r"is damaged.*delete it") as caught:
        batch("tuesday", "1")
    assert isinstance(caught.value, AmazonBusinessPermanentError)
    assert asked_for(sandbox) == ["1"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"ledger": "ledger/"}, "ledger is 'ledger/', but must be an S3 URI"),
        ({"audit_key": "audit.csv"}, r"audit_key is 'audit\.csv', but must end with"),
    ],
)
def test_a_wrong_address_is_an_error_before_any_call(sandbox, batch, more, message):
    with pytest.raises(InvalidInputError, match=message):
        batch("monday", "1", **more)
    assert sandbox.reports == {}


def read_table(s3, uri):
    bucket, key = split_s3_uri(uri)
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    if key.endswith(".parquet"):
        return parquet.read_table(io.BytesIO(body)).to_pylist()
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_the_audit_table_has_a_row_for_each_document(sandbox, batch, s3, bucket, ending):
    batch("monday", "1")
    started = datetime.now(timezone.utc).timestamp()

    summary = batch(
        "tuesday",
        "1",
        "MULTI-2",
        "NO-DATA-3",
        "FATAL-4",
        max_failed=1,
        on_cancelled="skip",
        audit_key=f"audit/tuesday.{ending}",
    )

    assert summary["audit"] == f"s3://{bucket}/audit/tuesday.{ending}"
    rows = read_table(s3, summary["audit"])
    statuses = {}
    for row in rows:
        statuses.setdefault(row["request"], []).append(row["status"])
    several = len(statuses["invoiceId=MULTI-2"])
    assert several > 1
    assert statuses == {
        "invoiceId=1": ["already_delivered"],
        "invoiceId=MULTI-2": ["landed"] * several,
        "invoiceId=NO-DATA-3": ["skipped"],
        "invoiceId=FATAL-4": ["failed"],
    }
    (known,) = (row for row in rows if row["status"] == "already_delivered")
    assert sandbox.reports[known["report_id"]].report_options == {"invoiceId": "1"}
    for row in rows:
        assert (row["dag_id"], row["run_id"], row["task_id"], row["map_index"]) == ("dag", "tuesday", "task", -1)
        assert row["account"]
        assert json.loads(row["report_options"]) == {"invoiceId": row["request"].removeprefix("invoiceId=")}
        if row["uri"]:
            content = s3.get_object(Bucket=bucket, Key=row["key"])["Body"].read()
            assert (row["uri"], row["bytes"]) == (f"s3://{bucket}/{row['key']}", len(content))
        if row["status"] == "landed":
            assert sandbox.reports[row["report_id"]].report_options == json.loads(row["report_options"])
            times = [row[name] for name in ("requested_at", "created_at", "landed_at")]
            times = [at if isinstance(at, datetime) else datetime.fromisoformat(at) for at in times]
            assert times == sorted(times)
            assert times[0].timestamp() >= started
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert "FATAL" in failed["error"]
    assert failed["processing_status"] == "FATAL"


def test_the_table_is_there_when_too_many_have_failed(sandbox, batch, s3, bucket):
    with pytest.raises(AmazonBusinessPermanentError, match="1 of 2 requests failed"):
        batch("monday", "FATAL-1", "2", audit_key="audit.jsonl")

    assert sorted(row["status"] for row in read_table(s3, f"s3://{bucket}/audit.jsonl")) == ["failed", "landed"]


def test_an_empty_list_has_an_empty_table(sandbox, batch, s3):
    summary = batch("monday", audit_key="audit.parquet")

    assert summary["requested"] == 0
    assert read_table(s3, summary["audit"]) == []
