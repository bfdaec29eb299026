"""The feed's files in PostgreSQL, with the scripts of the documentation."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_amzbiz.demo.s3_server import S3Server
from dev.postgres import PostgresServer
from tests.feed.warehouse import SQL, check_books, completeness, write_files

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox import Company

TABLES = ("feed_runs", "documents", "document_lines", "transactions", "open_items", "expired_items")


class Warehouse:
    """A database that the documentation's scripts have made."""

    def __init__(self, connection: Any, s3: Any) -> None:
        self._connection = connection
        self._s3 = s3
        self.execute((SQL / "create_feed_postgres.sql").read_text())

    def execute(self, sql: str) -> None:
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(sql)

    def query(self, sql: str) -> list[Any]:
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(sql)
            rows: list[Any] = cursor.fetchall()
            return rows

    def load(self, result: Any) -> None:
        spec = importlib.util.spec_from_file_location("load_feed_postgres", SQL / "load_feed_postgres.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with self._connection, self._connection.cursor() as cursor:
            module.load_feed(cursor, self._s3, result, "a run")

    def contents(self) -> dict[str, list[str]]:
        return {name: sorted(map(str, self.query(f"SELECT * FROM {name}"))) for name in TABLES}


@pytest.fixture(scope="module")
def feed(s3_server: S3Server) -> tuple[Company, list[Any]]:
    """A company, and the results of its feed's runs."""
    company, results = write_files(s3_server.client(), "warehouse", bucket="e2e")
    return company, list(results)


@pytest.fixture
def warehouse(s3_server: S3Server) -> Iterator[Warehouse]:
    """An empty warehouse."""
    import psycopg2

    with PostgresServer() as server:
        url = server.url().replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection:
            yield Warehouse(connection, s3_server.client())


def test_the_tables_are_the_books_whatever_the_order_of_the_loads(
    feed: tuple[Company, list[Any]], warehouse: Warehouse
) -> None:
    company, results = feed
    for result in results:
        warehouse.load(result)
    check_books(warehouse.query, company)
    assert warehouse.query(completeness()) == []
    in_order = warehouse.contents()
    # A second time, and over what later runs have brought.
    for result in random.Random(1).sample(results, len(results)):
        warehouse.load(result)
    assert warehouse.contents() == in_order
    warehouse.execute(f"TRUNCATE {', '.join(TABLES)}")
    for result in random.Random(2).sample(results, len(results)):
        warehouse.load(result)
    assert warehouse.contents() == in_order


def test_the_return_value_of_a_cleared_task_is_enough(s3_server: S3Server, warehouse: Warehouse) -> None:
    company, results = write_files(s3_server.client(), "cleared", bucket="e2e", run="the only run")
    # Only the last return value is ever loaded.
    warehouse.load(results[-1])
    check_books(warehouse.query, company)
    assert warehouse.query(completeness()) == []
    loaded = warehouse.contents()
    warehouse.load(results[-1])
    warehouse.load(results[0])
    assert {name: rows for name, rows in warehouse.contents().items() if name != "feed_runs"} == {
        name: rows for name, rows in loaded.items() if name != "feed_runs"
    }


def test_the_auditors_query_finds_what_is_missing(feed: tuple[Company, list[Any]], warehouse: Warehouse) -> None:
    _, results = feed
    for result in results:
        warehouse.load(result)
    missing = "in no document, and on no list of open or expired items"
    item = (
        "SELECT min(order_id) FROM open_items AS item "
        "WHERE NOT EXISTS (SELECT 1 FROM expired_items WHERE order_id = item.order_id)"
    )
    losses = {
        f"DELETE FROM open_items WHERE order_id = ({item})": {
            missing,
            "the latest list of open items has lost or extra rows",
        },
        # What a file with the most rows has brought.
        "DELETE FROM document_lines WHERE loaded_run = (SELECT loaded_run FROM document_lines GROUP BY loaded_run "
        "ORDER BY count(*) DESC LIMIT 1)": {missing},
        "DELETE FROM documents WHERE object_uri = (SELECT min(object_uri) FROM documents)": {
            "in a document that has no file"
        },
        "UPDATE document_lines SET total = total + 0.01 WHERE ctid = ("
        "SELECT min(ctid) FROM document_lines WHERE NOT is_retracted)": {
            "in a document with another amount than in its transaction"
        },
    }
    complete = warehouse.contents()
    for loss, findings in losses.items():
        warehouse.execute(loss)
        assert {row[0] for row in warehouse.query(completeness())} == findings
        # A load again brings everything back.
        for result in results:
            warehouse.load(result)
        assert warehouse.contents() == complete
