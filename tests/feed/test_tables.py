"""The tables in S3, as JSON Lines and as Parquet."""

from __future__ import annotations

import json
from decimal import Decimal

import duckdb
import pytest

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.feed.tables import S3Tables
from tests.conftest import BUCKET
from tests.feed.test_company import world_of
from tests.feed.world import DAY


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_tables_are_typed_and_reconcile_in_a_warehouse(s3, tmp_path, form):
    world = world_of(7, 12, {"ATVPDKIKX0DER", "A1VC38T7YXB528"}, days=4)
    prefix = f"tables-{form}"
    world.tables = S3Tables(s3, f"s3://{BUCKET}/{prefix}/", form)
    results = []
    while world.clock.now() < world.company.end + DAY:
        world.clock.advance(5 * DAY)
        results.append(world.run()[0])
    for name in TABLES:
        (tmp_path / name).mkdir()
        for result in results:
            (uri,) = result["tables"][name]
            key = uri.removeprefix(f"s3://{BUCKET}/")
            assert key.startswith(f"{prefix}/{name}/")
            (tmp_path / key.rpartition("/")[2]).touch()
            s3.download_file(BUCKET, key, str(tmp_path / name / key.rpartition("/")[2]))
    marks = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/_SUCCESS/")["Contents"]
    assert len(marks) == len(results)
    mark = json.loads(s3.get_object(Bucket=BUCKET, Key=marks[-1]["Key"])["Body"].read())
    assert mark["tables"] == results[-1]["tables"]
    check_in_duckdb(tmp_path, form, world.company)


def check_in_duckdb(folder, form, company):
    read = "read_parquet" if form == "parquet" else "read_json"
    more = "" if form == "parquet" else ", format='newline_delimited', map_inference_threshold=-1"
    latest = duckdb.sql(
        f"SELECT document_number, total::DECIMAL(38, 9) AS total, is_retracted "
        f"FROM {read}('{folder}/document_lines/*', filename=true{more}) "
        "QUALIFY row_number() OVER (PARTITION BY document_number, transaction_id, order_id, order_line_item_id, "
        "shipment_id, line_number ORDER BY filename DESC) = 1"
    )
    assert latest.types[2] == "BOOLEAN"
    sums = duckdb.sql("SELECT document_number, sum(total) FROM latest GROUP BY 1").fetchall()
    assert {number: Decimal(total) for number, total in sums} == {
        each.number: each.total for each in company.documents
    }
    documents = duckdb.sql(
        f"SELECT DISTINCT document_number, order_ids FROM {read}('{folder}/documents/*'{more})"
    ).fetchall()
    assert {number for number, _ in documents} == {each.number for each in company.documents}
    assert all(isinstance(order_ids, list) for _, order_ids in documents)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_run_without_a_row_writes_its_files_all_the_same(s3, form):
    tables = S3Tables(s3, f"s3://{BUCKET}/empty-{form}", form)
    for name in TABLES:
        uri = tables.write(name, "run", [])
        assert uri == f"s3://{BUCKET}/empty-{form}/{name}/run.{form}"
        s3.head_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))


@pytest.mark.parametrize(
    ("uri", "form", "said"),
    [
        ("s3://bucket/x", "csv", "table_format is 'csv'"),
        ("bucket/x", "jsonl", "tables is 'bucket/x'"),
        (None, "jsonl", "tables is None"),
    ],
)
def test_parameters_are_checked(uri, form, said):
    with pytest.raises(InvalidParameterError, match=said):
        S3Tables(None, uri, form)
