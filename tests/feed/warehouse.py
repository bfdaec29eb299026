"""A warehouse with the feed's tables: the files of a company, loaded with the SQL of the documentation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from airflow_provider_amzbiz.demo.s3_server import download_under
from airflow_provider_amzbiz.feed.documents import Rules
from airflow_provider_amzbiz.feed.run import FeedSettings
from airflow_provider_amzbiz.feed.tables import S3Tables
from airflow_provider_amzbiz.sandbox import Company
from tests.feed.test_company import world_of
from tests.feed.world import DAY, KEY

ROOT = Path(__file__).resolve().parents[2]
SQL = ROOT / "docs" / "sql"
BUCKET = "tests"
DOCUMENT_TYPES = ("Invoice", "CreditMemo")
US, JP, DE = "ATVPDKIKX0DER", "A1VC38T7YXB528", "A1PA6795UKMFR9"


def write_files(
    s3: Any, prefix: str, form: str = "jsonl", *, bucket: str = BUCKET, run: str | None = None
) -> tuple[Company, list[Mapping[str, Any]]]:
    """Have a company's feed run for weeks, and write its files to S3; return the company and the runs' results.

    Card orders have no invoice here, so that some items expire.

    :param run: of a task that is cleared each time; by default, each run is one of its own.
    """
    world = world_of(7, 30, {US, JP, DE}, days=12, document_types=DOCUMENT_TYPES)
    world.settings = FeedSettings(KEY, Rules(DOCUMENT_TYPES), open_for=18 * DAY)
    world.tables = S3Tables(s3, f"s3://{bucket}/{prefix}/", form)
    results = []
    while world.clock.now() < world.company.end + 2 * DAY:
        world.clock.advance(4 * DAY)
        results.append(world.run(run)[0])
    return world.company, results


def download(s3: Any, prefix: str, folder: Path) -> Path:
    """Copy files from S3 to a folder."""
    download_under(s3, BUCKET, f"{prefix}/", folder)
    return folder


def load_duckdb(folder: Path, form: str = "jsonl") -> duckdb.DuckDBPyConnection:
    """Load files into DuckDB, as the documentation does."""
    script = (SQL / "load_feed_duckdb.sql").read_text()
    if form == "parquet":
        pattern = r"read_json\(\n    (getvariable\('tables'\) \|\| '/\w+/\*)\.jsonl',.*?\n    \},\n"
        script, count = re.subn(pattern, r"read_parquet(\n    \1.parquet',\n", script, flags=re.DOTALL)
        assert count == 4
    warehouse = duckdb.connect()
    warehouse.execute(script.replace("{tables}", str(folder)))
    return warehouse


def page(table: str) -> str:
    """Return the page of a table."""
    return (ROOT / "docs" / "tables" / f"{table}.rst").read_text()


def columns_of_page(table: str) -> list[tuple[str, str, str]]:
    """Return what a table's page says of each column: its name, its type, and whether it may be null."""
    return re.findall(r"   \* - ``(\w+)``\n     - (\w+)\n     - (yes|no)\n", page(table))


def completeness() -> str:
    """Return the auditor's query."""
    return (SQL / "feed_completeness.sql").read_text()


def check_books(query: Callable[[str], list[Any]], company: Company) -> None:
    """Compare a warehouse with the company's books, to the cent.

    :param query: from SQL to rows.
    """
    books = {each.number: each for each in company.documents if each.kind in DOCUMENT_TYPES}
    sums = query("SELECT document_number, sum(total), sum(tax) FROM document_lines GROUP BY document_number")
    assert {number: (total, tax) for number, total, tax in sums if number in books or total} == {
        number: (each.total, each.tax) for number, each in books.items()
    }
    files = query("SELECT document_number, document_type, marketplace_id, size_bytes FROM documents")
    assert sorted(files) == sorted(
        (number, each.kind, each.marketplace_id, len(company.pdf(each))) for number, each in books.items()
    )
    spent = defaultdict(Decimal)
    for identity, total in query("SELECT transaction_id, total FROM transactions"):
        spent[identity] += total
    assert spent == {each.transaction_id: each.amount for each in company.transactions}
    listed = {each for (each,) in query("SELECT unnest(transaction_ids) FROM expired_items")}
    assert listed
    assert listed <= set(spent)
