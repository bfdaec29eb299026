"""The other scripts of the documentation: their columns, the merge that all share, and what they render to."""

from __future__ import annotations

import random
import re

import duckdb
import jinja2
import pytest

from airflow_provider_amzbiz.feed.columns import TABLES
from tests.feed.warehouse import SQL, completeness, download, load_duckdb, write_files

TYPES = {
    "postgres": ("text", "bigint", "timestamptz", "numeric", "text[]", "boolean"),
    "redshift": ("VARCHAR", "BIGINT", "TIMESTAMPTZ", "DECIMAL(38, 9)", "SUPER", "BOOLEAN"),
    "snowflake": ("VARCHAR", "NUMBER(38, 0)", "TIMESTAMP_TZ", "NUMBER(38, 9)", "ARRAY", "BOOLEAN"),
    "bigquery": ("STRING", "INT64", "TIMESTAMP", "NUMERIC", "ARRAY<STRING>", "BOOL"),
}
KINDS = ("string", "integer", "timestamp", "decimal", "strings", "boolean")
ALL_TABLES = ("feed_runs", *TABLES, "expired_items")


@pytest.mark.parametrize("database", TYPES)
@pytest.mark.parametrize("table", TABLES)
def test_a_database_has_the_columns_of_a_table(database, table):
    script = (SQL / f"create_feed_{database}.sql").read_text()
    (body,) = re.findall(rf"CREATE TABLE IF NOT EXISTS {table} \(\n(.*?)\n\);", script, flags=re.DOTALL)
    types = dict(zip(KINDS, TYPES[database], strict=True))
    columns = [f"{name} {types[kind]}" for name, kind in {**TABLES[table], "loaded_run": "string"}.items()]
    found = [re.sub(r"VARCHAR\(\d+\)", "VARCHAR", each.strip()) for each in body.split(",\n")]
    assert found == columns


@pytest.mark.parametrize("database", ["redshift", "snowflake", "bigquery"])
def test_a_script_loads_every_file_and_merges_it(database):
    names = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SQL), undefined=jinja2.StrictUndefined, autoescape=False
    )
    counts = ("requested", "landed", "already_delivered", "failed", "skipped", "open_items", "bytes")
    runs = ("20261031-run", "20261101-run")
    uris = {name: [f"s3://my-bucket/tables/{name}/{run}.jsonl" for run in runs] for name in TABLES}
    numbers = {name: number for number, name in enumerate(counts, start=101)}
    result = {**numbers, "account": "a1b2", "tables": uris}

    class Task:
        def xcom_pull(self, task_ids):
            return {"all_invoices": result}[task_ids]

    script = names.get_template(f"load_feed_{database}.sql").render(ti=Task(), run_id="scheduled")
    values = re.search(r"INSERT INTO feed_runs VALUES \((.*?)\);", script, flags=re.DOTALL)
    expected = ["'20261101-run'", "'scheduled'", *(str(result[name]) for name in counts), "'a1b2'"]
    assert re.sub(r"\s+", " ", values[1]).strip().split(", ") == expected
    merge = (SQL / "merge_feed.sql").read_text().strip()
    # A cleared task has the files of both of its runs: each is loaded and merged as the run that it was.
    *parts, rest = script.split(merge)
    assert (len(parts), rest.strip()) == (2, "COMMIT TRANSACTION;" if database == "bigquery" else "")
    for part, run in zip(parts, runs, strict=True):
        assert f"'{run}', 'scheduled'" in part
        for name in TABLES:
            assert (
                part.count(f"/{name}/{run}.jsonl'" if database != "snowflake" else f"'tables/{name}/{run}.") == 1
            )
            assert f"UPDATE new_{name} SET loaded_run = '{run}'" in part


@pytest.mark.parametrize(
    ("kept", "staged", "expected"),
    [
        (("A", "run-1"), ("A", "run-2"), ("A", "run-2")),
        (("A", "run-2"), ("A", "run-1"), ("A", "run-2")),
        (("A", "run-1"), (None, "run-2"), ("A", "run-1")),
        ((None, "run-2"), ("A", "run-1"), ("A", "run-1")),
        ((None, "run-1"), (None, "run-2"), (None, "run-2")),
    ],
)
def test_a_row_without_a_number_replaces_none_that_has_one(kept, staged, expected):
    merge = (SQL / "merge_feed.sql").read_text().split(";")[:2]
    with duckdb.connect() as database:
        for table, row in (("documents", kept), ("new_documents", staged)):
            database.execute(
                f"CREATE TABLE {table} (object_uri VARCHAR, document_number VARCHAR, loaded_run VARCHAR)"
            )
            database.execute(f"INSERT INTO {table} VALUES ('s3://bucket/a.pdf', ?, ?)", row)
        for statement in merge:
            database.execute(statement)
        assert database.execute("SELECT document_number, loaded_run FROM documents").fetchall() == [expected]


def test_runs_may_be_merged_in_any_order_and_again(s3, tmp_path):
    prefix = "merged"
    write_files(s3, prefix)
    folder = download(s3, prefix, tmp_path)
    with load_duckdb(folder) as warehouse:
        expected = {name: contents(warehouse, name) for name in ALL_TABLES}
        runs = [run for (run,) in warehouse.execute("SELECT loaded_run FROM feed_runs").fetchall()]
        warehouse.execute("ALTER TABLE feed_runs RENAME TO all_feed_runs")
        for name in ("expired_items", "feed_runs", *TABLES):
            of = "open_items" if name == "expired_items" else name
            warehouse.execute(f"CREATE OR REPLACE TABLE {name} AS FROM all_{of} LIMIT 0")
        order = [*runs, *random.Random(3).choices(runs, k=4)]
        random.Random(5).shuffle(order)
        for run in order:
            merge(warehouse, run)
        assert {name: contents(warehouse, name) for name in ALL_TABLES} == expected
        assert warehouse.execute(completeness()).fetchall() == []


def contents(warehouse: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return sorted(map(str, warehouse.execute(f"SELECT * FROM {table}").fetchall()))


def merge(warehouse: duckdb.DuckDBPyConnection, run: str) -> None:
    warehouse.execute("DELETE FROM feed_runs WHERE loaded_run = ?", [run])
    warehouse.execute("INSERT INTO feed_runs FROM all_feed_runs WHERE loaded_run = ?", [run])
    for name in TABLES:
        warehouse.execute(f"CREATE OR REPLACE TABLE new_{name} AS FROM all_{name} WHERE loaded_run = '{run}'")
    warehouse.execute((SQL / "merge_feed.sql").read_text())
