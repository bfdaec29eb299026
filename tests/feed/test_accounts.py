"""Accounts that share one prefix of the tables: none of them loses what another one has."""

from __future__ import annotations

import shutil

import duckdb
import pytest

from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.feed.tables import S3Tables
from tests.feed.test_warehouse_scripts import ALL_TABLES, contents, merge
from tests.feed.warehouse import completeness, download, load_duckdb
from tests.feed.world import DAY, RowsApi, World, charge, invoice, line

LOST = "the latest list of open items has lost or extra rows"


@pytest.fixture
def worlds():
    """Two accounts, with an open item each."""
    found = [
        World(RowsApi([charge(f"T{number}", line(f"O{number}"))]), account=f"account-{number}")
        for number in (1, 2)
    ]
    found[1].tables = found[0].tables
    for number, world in enumerate(found):
        world.clock.advance(DAY + number * DAY / 24)
    return found


def issue(world):
    """Have the account's document issued, so that nothing of it is open."""
    (row,) = world.api.transactions
    ids = row["transactionLineItems"][0]
    world.api.details[tuple(ids[name] for name in ("orderId", "orderLineItemId", "shipmentId"))] = [
        invoice(f"N-{row['transactionId']}")
    ]


def orders(world):
    return sorted((row["account"], row["order_id"]) for row in world.tables.open_items)


def test_accounts_on_one_prefix_have_a_list_of_open_items_each(worlds):
    results = [world.run()[0] for world in worlds]
    assert [result["account"] for result in results] == ["account-1", "account-2"]
    assert orders(worlds[0]) == [("account-1", "O1"), ("account-2", "O2")]
    issue(worlds[0])
    worlds[0].clock.advance(DAY)
    worlds[0].run()
    # Its list is empty now, and replaces its own only.
    assert orders(worlds[0]) == [("account-2", "O2")]
    for name in TABLES:
        for file, rows in worlds[0].tables.files[name].items():
            assert {row["account"] for row in rows} <= {worlds[0].tables.marks[file]["account"]}


def test_the_scripts_keep_the_list_of_each_account(worlds, s3, tmp_path):
    for world in worlds:
        world.tables = S3Tables(s3, "s3://tests/two-accounts/")
        world.run()
    shutil.copytree(download(s3, "two-accounts", tmp_path / "all"), tmp_path / "before")
    with load_duckdb(tmp_path / "before") as warehouse:
        check(warehouse, [("account-1", "O1"), ("account-2", "O2")])
    issue(worlds[0])
    worlds[0].clock.advance(DAY)
    worlds[0].run()
    with load_duckdb(download(s3, "two-accounts", tmp_path / "all")) as warehouse:
        check(warehouse, [("account-2", "O2")])
        expected = {name: contents(warehouse, name) for name in ALL_TABLES}
        runs = sorted(run for (run,) in warehouse.execute("SELECT loaded_run FROM feed_runs").fetchall())
        warehouse.execute("ALTER TABLE feed_runs RENAME TO all_feed_runs")
        for name in ("expired_items", "feed_runs", *TABLES):
            of = "open_items" if name == "expired_items" else name
            warehouse.execute(f"CREATE OR REPLACE TABLE {name} AS FROM all_{of} LIMIT 0")
        for run in (*reversed(runs), *runs):
            merge(warehouse, run)
        assert {name: contents(warehouse, name) for name in ALL_TABLES} == expected
        # The list of the account whose run is not the latest of all counts, too.
        warehouse.execute("DELETE FROM open_items WHERE account = 'account-2'")
        assert LOST in {row[0] for row in warehouse.execute(completeness()).fetchall()}


def check(warehouse: duckdb.DuckDBPyConnection, expected: list[tuple[str, str]]) -> None:
    found = warehouse.execute("SELECT account, order_id FROM open_items ORDER BY ALL").fetchall()
    assert found == expected
    assert warehouse.execute(completeness()).fetchall() == []
