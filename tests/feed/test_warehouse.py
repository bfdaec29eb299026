"""The feed's files in DuckDB, with the SQL of the documentation: the company's books, and the auditor's query."""

from __future__ import annotations

import re
import shutil

import pytest

from airflow_provider_amzbiz.feed.columns import TABLES
from tests.feed.warehouse import (
    SQL,
    check_books,
    columns_of_page,
    completeness,
    download,
    load_duckdb,
    write_files,
)

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "decimal": "DECIMAL(38,9)",
    "strings": "VARCHAR[]",
    "boolean": "BOOLEAN",
}


@pytest.fixture(scope="module", params=["jsonl", "parquet"])
def feed(request, s3_server, tmp_path_factory):
    """A company, the files of its feed, and their format."""
    form = request.param
    s3, prefix = s3_server.client(), f"warehouse-{form}"
    company, _ = write_files(s3, prefix, form)
    return company, download(s3, prefix, tmp_path_factory.mktemp(form)), form


@pytest.fixture
def folder(feed, tmp_path):
    """A copy of the files, for a test to damage."""
    return shutil.copytree(feed[1], tmp_path / "tables")


def rows(warehouse, sql):
    return warehouse.execute(sql).fetchall()


def test_the_tables_are_the_books(feed):
    company, folder, form = feed
    with load_duckdb(folder, form) as warehouse:
        check_books(lambda sql: rows(warehouse, sql), company)
        assert rows(warehouse, completeness()) == []
        for name, columns in TABLES.items():
            found = [(each[0], each[1]) for each in rows(warehouse, f"DESCRIBE {name}")]
            expected = [(column, DUCKDB_TYPES[kind]) for column, kind in columns.items()]
            assert found == [*expected, ("loaded_run", "VARCHAR")]
            for column in (column for column, _, null in columns_of_page(name) if null == "no"):
                assert rows(warehouse, f"SELECT * FROM all_{name} WHERE {column} IS NULL") == []


def test_a_run_without_its_marker_is_left_out(feed, folder):
    _, _, form = feed
    last = max((folder / "_SUCCESS").iterdir())
    last.unlink()
    with load_duckdb(folder, form) as warehouse:
        for name in ("feed_runs", *TABLES, "expired_items"):
            assert rows(warehouse, f"SELECT * FROM {name} WHERE loaded_run = '{last.stem}'") == []
        (latest,) = rows(warehouse, "SELECT max(loaded_run) FROM feed_runs")
        assert {latest} == set(rows(warehouse, "SELECT DISTINCT loaded_run FROM open_items"))


@pytest.mark.parametrize(
    ("table", "finding"),
    [
        ("document_lines", "in no document, and on no list of open or expired items"),
        ("documents", "in a document that has no file"),
    ],
)
def test_the_query_finds_a_file_that_is_missing(feed, folder, table, finding):
    _, _, form = feed
    largest = max((folder / table).iterdir(), key=lambda each: each.stat().st_size)
    largest.unlink()
    with load_duckdb(folder, form) as warehouse:
        assert finding in {row[0] for row in rows(warehouse, completeness())}


@pytest.mark.parametrize("table", ["open_items", "expired_items"])
def test_the_query_finds_an_item_that_is_missing(feed, table):
    _, folder, form = feed
    with load_duckdb(folder, form) as warehouse:
        # What the latest run gave up is on both lists.
        other = "expired_items" if table == "open_items" else "open_items"
        select = (
            f"SELECT transaction_ids, order_id FROM {table} AS item "
            f"WHERE NOT EXISTS (SELECT 1 FROM {other} WHERE order_id = item.order_id) LIMIT 1"
        )
        ids, order_id = rows(warehouse, select)[0]
        warehouse.execute(f"DELETE FROM {table} WHERE transaction_ids = ?", [ids])
        found = rows(warehouse, completeness())
        expected = {("in no document, and on no list of open or expired items", order_id)}
        assert {(row[0], row[4]) for row in found if row[2] in ids} == expected
        lost = "the latest list of open items has lost or extra rows"
        assert (lost in {row[0] for row in found}) == (table == "open_items")


def test_the_query_finds_an_amount_that_was_changed(feed):
    _, folder, form = feed
    with load_duckdb(folder, form) as warehouse:
        warehouse.execute(
            "UPDATE document_lines SET total = total + 0.01 "
            "WHERE rowid = (SELECT min(rowid) FROM document_lines WHERE NOT is_retracted)"
        )
        (found,) = rows(warehouse, completeness())
        assert found[0] == "in a document with another amount than in its transaction"


def test_the_script_has_one_placeholder():
    script = (SQL / "load_feed_duckdb.sql").read_text()
    assert re.findall(r"\{\w+\}", script) == ["{tables}"]
