"""The audit table: the same typed columns as JSON Lines and as Parquet, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import uuid
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest
from pyarrow import parquet

from airflow_provider_amzbiz.batch.table import AUDIT_COLUMNS, audit_rows, label, table_format, write_rows
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from tests.documents.s3_faults import error_response

TASK = {"account": "a-1", "dag_id": "dag", "run_id": "run", "task_id": "batch", "map_index": -1}
OBJECT = {
    "uri": "s3://my-bucket/invoices/Größe 1.pdf",
    "bytes": 5_000_000_000,
    "sha256": "ab" * 32,
    "crc32": "AAAAAA==",
    "content_type": "application/pdf",
}
SENT = datetime(2026, 11, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def item(**more):
    return {
        "index": 3,
        "fingerprint": "f" * 64,
        "report_type": "GET_AB_INVOICE_PDF",
        "report_options": {"invoiceId": "1-2", "documentType": "Invoice"},
        "request": {"marketplaceIds": ["ATVPDKIKX0DER"], "dataStartTime": "2026-10-31T23:00:00.000Z"},
        "key": "invoices/{name}",
        "report_id": "r-1",
        "report_document_id": "d-1",
        "status": "DONE",
        "sent_at": SENT.timestamp(),
        "created_at": SENT.timestamp() + 1,
        "stored_at": SENT.timestamp() + 60,
        "objects": [OBJECT],
        "error": None,
        "skipped": False,
        "failures": 2,
        **more,
    }


ITEMS = {
    "landed": item(),
    "failed": item(objects=None, error='ReportFatalError: "no"\n', status="FATAL", stored_at=None),
    "skipped": item(objects=None, skipped=True, status="CANCELLED", report_document_id=None, stored_at=None),
    "already_delivered": item(
        already_delivered=True,
        delivered={
            "report_id": "r-0",
            "report_document_id": "d-0",
            "delivered_at": SENT.isoformat(),
            "by": "a/b/c",
        },
        **dict.fromkeys(("report_id", "report_document_id", "sent_at", "created_at", "status")),
        stored_at=SENT.timestamp() + 86400,
    ),
}


def rows(*items):
    return [row for each in items for row in audit_rows(each, TASK)]


@pytest.fixture
def s3(s3_server):
    return s3_server.client()


@pytest.fixture
def bucket(s3_server):
    return s3_server.make_bucket(f"table-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def read(s3, bucket):
    def read(key):
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    return read


@pytest.fixture
def write(s3, bucket):
    def write(key, all_rows, **more):
        return write_rows(all_rows, s3=s3, bucket=bucket, key=key, **more)

    return write


def from_json_lines(body):
    return [json.loads(line) for line in body.splitlines()]


def from_parquet(body):
    return parquet.read_table(io.BytesIO(body)).to_pylist()


class TestRows:
    @pytest.mark.parametrize("status", ITEMS)
    def test_what_became_of_a_request_is_its_status(self, status):
        (row,) = rows(ITEMS[status])

        assert row["status"] == status
        assert row["processing_status"] == ITEMS[status]["status"]

    def test_a_request_of_several_objects_has_a_row_for_each(self):
        second = {**OBJECT, "uri": "s3://my-bucket/b.pdf", "sha256": None}
        found = rows(item(objects=[OBJECT, second]))

        assert [(row["uri"], row["sha256"], row["key"]) for row in found] == [
            (OBJECT["uri"], "ab" * 32, "invoices/Größe 1.pdf"),
            (second["uri"], None, "b.pdf"),
        ]
        assert {row["report_id"] for row in found} == {"r-1"}

    def test_a_request_without_an_object_has_a_row_too(self):
        (row,) = rows(ITEMS["failed"])

        assert row["error"] == 'ReportFatalError: "no"\n'
        assert [row[name] for name in ("uri", "key", "bytes", "sha256", "crc32", "content_type")] == [None] * 6

    def test_what_was_delivered_before_names_the_report_that_it_came_of(self):
        (row,) = rows(ITEMS["already_delivered"])

        assert (row["report_id"], row["report_document_id"]) == ("r-0", "d-0")
        assert row["landed_at"] == SENT.isoformat()
        assert row["requested_at"] is None

    def test_it_has_no_other_columns(self):
        for each in ITEMS.values():
            assert set(rows(each)[0]) == set(AUDIT_COLUMNS)

    @pytest.mark.parametrize(
        ("options", "said"),
        [({"invoiceId": "1", "documentType": "Invoice"}, "invoiceId=1, documentType=Invoice"), ({}, "SOME_TYPE")],
    )
    def test_people_know_a_request_by_its_options(self, options, said):
        assert label("SOME_TYPE", options) == said


class TestFormats:
    def test_both_have_the_same_values(self, write, read):
        all_rows = rows(*ITEMS.values())
        write("a.jsonl", all_rows)
        write("a.parquet", all_rows)

        lines, table_rows = from_json_lines(read("a.jsonl")), from_parquet(read("a.parquet"))
        assert [list(line) for line in lines] == [list(AUDIT_COLUMNS)] * 4
        times = [name for name, kind in AUDIT_COLUMNS.items() if kind == "timestamp"]
        for line in lines:
            for name in times:
                line[name] = line[name] and datetime.fromisoformat(line[name])
        assert lines == table_rows

    def test_values_are_as_they_were(self, write, read):
        write("a.parquet", rows(item()))

        (row,) = from_parquet(read("a.parquet"))
        assert row["bytes"] == 5_000_000_000
        assert row["request"] == "invoiceId=1-2, documentType=Invoice"
        assert json.loads(row["report_options"]) == {"invoiceId": "1-2", "documentType": "Invoice"}
        assert row["marketplace_ids"] == "ATVPDKIKX0DER"
        assert row["data_start_time"] == datetime(2026, 10, 31, 23, tzinfo=timezone.utc)
        assert row["requested_at"] == SENT
        assert row["landed_at"] == SENT + timedelta(seconds=60)
        assert (row["dag_id"], row["task_id"], row["map_index"]) == ("dag", "batch", -1)

    def test_times_are_utc_and_one_can_tell(self, write, read):
        write("a.jsonl", rows(item(request={"dataStartTime": "2026-11-01T00:00:00+01:00"})))

        (line,) = from_json_lines(read("a.jsonl"))
        assert line["data_start_time"] == "2026-10-31T23:00:00.000000Z"
        assert line["requested_at"] == "2026-11-02T03:04:05.678901Z"

    def test_a_warehouse_reads_both(self, write, read, tmp_path):
        for name in ("a.jsonl", "a.parquet"):
            write(name, rows(*ITEMS.values()))
            (tmp_path / name).write_bytes(read(name))

        for name in ("a.jsonl", "a.parquet"):
            found = duckdb.sql(
                f"SELECT status, bytes, requested_at::TIMESTAMPTZ FROM '{tmp_path / name}'"
            ).fetchall()
            assert [(status, size) for status, size, _ in found] == [
                ("landed", 5_000_000_000),
                ("failed", None),
                ("skipped", None),
                ("already_delivered", 5_000_000_000),
            ]
            assert found[0][2] == SENT

    def test_the_types_do_not_depend_on_the_rows(self, write, read):
        write("empty.parquet", [])
        write("nulls.parquet", [{}])
        write("full.parquet", rows(item()))

        schemas = [parquet.read_schema(io.BytesIO(read(f"{name}.parquet"))) for name in ("empty", "nulls", "full")]
        assert schemas[0].names == list(AUDIT_COLUMNS)
        assert schemas[0] == schemas[1] == schemas[2]
        assert from_parquet(read("empty.parquet")) == []

    def test_no_row_is_an_empty_object_of_json_lines(self, write, read):
        stored = write("a.jsonl", [])

        assert read("a.jsonl") == b""
        assert stored.bytes == 0

    def test_tens_of_thousands_of_rows_arrive(self, write, read):
        def many():
            for index in range(25_000):
                yield from audit_rows(item(index=index), TASK)

        write("a.parquet", many())
        stored = write("a.jsonl", many())

        # More than one part of an upload.
        assert stored.bytes > 14 * 1024**2
        assert [line["request_index"] for line in from_json_lines(read("a.jsonl"))] == list(range(25_000))
        found = parquet.read_table(io.BytesIO(read("a.parquet")), columns=["request_index"])
        assert found["request_index"].to_pylist() == list(range(25_000))

    def test_other_tables_have_other_columns(self, write, read):
        write("t.parquet", [{"b": 1}, {"a": "x"}], columns={"a": "string", "b": "integer"})

        assert from_parquet(read("t.parquet")) == [{"a": None, "b": 1}, {"a": "x", "b": None}]

    @pytest.mark.parametrize("key", ["a.csv", "a", "a.json", "a.parquet/b", "a.jsonl.gz"])
    def test_another_ending_is_refused(self, key, write):
        with pytest.raises(InvalidParameterError, match=r"audit_key is .*must end with \.jsonl or \.parquet"):
            table_format("audit_key", key)
        with pytest.raises(InvalidParameterError):
            write(key, [])

    def test_without_pyarrow_parquet_is_refused_and_json_lines_works(self):
        code = """
import sys
sys.modules["pyarrow"] = None
from airflow_provider_amzbiz.batch.table import table_format
print(table_format("audit_key", "a.JSONL"))
try:
    table_format("audit_key", "a.parquet")
except Exception as error:
    print(type(error).__name__, error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            "jsonl",
            "InvalidParameterError audit_key is 'a.parquet', which needs the extra 'parquet': pip install "
            "'airflow-provider-amzbiz[parquet]', or let it end with .jsonl",
        ]


class TestStored:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
    def test_what_is_stored_is_described(self, write, read, s3, bucket, name):
        stored = write(name, rows(*ITEMS.values()))

        body = read(name)
        assert stored.uri == f"s3://{bucket}/{name}"
        assert (stored.bytes, stored.sha256) == (len(body), hashlib.sha256(body).hexdigest())
        assert stored.crc32 == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert s3.head_object(Bucket=bucket, Key=name)["ContentType"] == stored.content_type

    def test_extra_args_apply(self, write, s3, bucket):
        write("a.jsonl", rows(item()), extra_args={"Metadata": {"team": "data"}, "CacheControl": "no-store"})

        head = s3.head_object(Bucket=bucket, Key="a.jsonl")
        assert head["Metadata"] == {"team": "data"}
        assert head["CacheControl"] == "no-store"

    @pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
    @pytest.mark.parametrize(
        "wrong",
        [
            {"byts": 1},
            {"bytes": "1"},
            {"bytes": True},
            {"uri": 1},
            {"landed_at": "yesterday"},
            {"landed_at": "2026-01-01"},
            {"landed_at": datetime(2026, 1, 1)},
            {"landed_at": 1e300},
            {"landed_at": float("nan")},
            {"landed_at": []},
        ],
        ids=str,
    )
    def test_a_row_that_does_not_fit_leaves_what_was_there(self, write, read, name, wrong):
        write(name, rows(item()))
        before = read(name)

        with pytest.raises(ValueError, match=next(iter(wrong))):
            write(name, [*rows(item()), wrong])
        assert read(name) == before

    def test_one_that_comes_late_leaves_no_upload_open(self, write, s3, bucket):
        def some():
            for index in range(22_000):
                yield from audit_rows(item(index=index), TASK)
            # After the first part was sent.
            yield {"byts": 1}

        with pytest.raises(ValueError, match="byts"):
            write("a.jsonl", some())
        assert s3.list_objects_v2(Bucket=bucket).get("Contents", []) == []
        assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    def test_a_refusal_of_s3_leaves_what_was_there(self, write, read, s3):
        write("a.jsonl", rows(item()))
        before = read("a.jsonl")
        s3.meta.events.register(
            "before-send.s3.PutObject", lambda request, **_: error_response(request, 403, "AccessDenied")
        )

        with pytest.raises(DocumentStorageError, match=r"a\.jsonl failed: AccessDenied"):
            write("a.jsonl", rows(item(), item()))
        assert read("a.jsonl") == before


def test_the_documentation_names_every_column():
    page = (Path(__file__).parents[2] / "docs" / "warehouse.rst").read_text()
    for name, kind in AUDIT_COLUMNS.items():
        assert f"   * - ``{name}``\n     - {kind}\n" in page, name
