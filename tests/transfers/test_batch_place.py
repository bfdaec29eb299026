"""Where the objects and the record of a batch go."""

from __future__ import annotations

import hashlib
import json

import pytest

from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessPermanentError,
    ManifestError,
)
from tests.deferring import context, run
from tests.transfers.batches import batch, invoices, keys, manifest, named

pytestmark = pytest.mark.usefixtures("quick_batches")


def test_a_manifest_at_a_key_of_its_own(sandbox, s3, prefix):
    result = run(lambda: batch(prefix, invoices(1), manifest_key=f"{prefix}mine.json"), context())

    assert result["manifest"] == f"s3://tests/{prefix}mine.json"
    assert json.loads(s3.get_object(Bucket="tests", Key=f"{prefix}mine.json")["Body"].read())["items"]


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
