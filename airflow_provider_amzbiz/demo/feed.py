"""The demo's feed: three mornings of ``example_all_invoices``, checked against the books of the company."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from airflow_provider_amzbiz.demo.books import available_documents, has_final_sum
from airflow_provider_amzbiz.demo.s3_server import download_under, objects_under
from airflow_provider_amzbiz.demo.shipped_files import shipped_file
from airflow_provider_amzbiz.demo.stage import BUCKET, HISTORY, Stage
from airflow_provider_amzbiz.sandbox.company_records import CREDIT_MEMO, INVOICE, BookDocument

DAG_ID = "example_all_invoices"
TASK_ID = "all_invoices"
_DAY_SECONDS = 86400

# Runs a DAG, given its id and what it is triggered with (None: as scheduled); returns the id of the run.
RunDag = Callable[[str, dict[str, Any] | None], str]


class FeedDemo:
    """Runs the feed day by day, and checks what is in S3.

    :param run_dag: raises where the run does not succeed.
    :param log: prints a line.
    """

    def __init__(self, on: Stage, run_dag: RunDag, log: Callable[[str], None]) -> None:
        self._on = on
        self._run_dag = run_dag
        self._log = log
        self.results: list[dict[str, Any]] = []

    def run(self, folder: Path) -> None:
        """Let three mornings pass, repeat the last one, and load the tables into DuckDB.

        :param folder: for the tables.
        :raises RuntimeError: a document is missing, is there twice, or a sum differs from the books.
        """
        self._morning("the schedule reads from midnight on", None)
        since = (datetime.now(timezone.utc) - HISTORY).isoformat()
        self._morning("triggered with feed_start, it reads the company's history", {"feed_start": since})
        for day in ("second", "third"):
            self._on.sandbox.clock.advance(_DAY_SECONDS)
            self._morning(f"a {day} morning", {})
        created = self._creates()
        self._morning("the third morning again", {})
        if self._creates() != created:
            raise RuntimeError("A repeated run created reports")
        self._show_tables(folder)

    def _morning(self, title: str, conf: dict[str, Any] | None) -> None:
        self._log(f"{DAG_ID}: {title}")
        known = available_documents(self._on.company, self._on.sandbox.clock.now(), (INVOICE, CREDIT_MEMO))
        run_id = self._run_dag(DAG_ID, conf)
        result = self._on.airflow.xcom(DAG_ID, run_id, TASK_ID)
        self.results.append(result)
        self._log(
            f"{DAG_ID}: {result['landed']} reports landed, {result['already_delivered']} were there already, "
            f"{result['open_items']} lines have no document yet"
        )
        if conf is not None:
            self._check_documents(known)

    def _creates(self) -> int:
        return self._on.sandbox.count("createReport")

    def _check_documents(self, known: list[BookDocument]) -> None:
        """Check that every known document is there once, and nothing that the books do not have."""
        found = objects_under(self._on.s3.client(), BUCKET, "documents/")
        stored = Counter(body for key, body in found.items() if key.endswith(".pdf"))
        company = self._on.company
        if missing := [each.number for each in known if company.pdf(each) not in stored]:
            raise RuntimeError(f"Documents are missing in S3: {missing}")
        books = {company.pdf(each): each.number for each in company.documents}
        wrong = [books.get(body, "unknown") for body, count in stored.items() if count > 1 or body not in books]
        if wrong:
            raise RuntimeError(f"Documents are in S3 twice, or are not in the books: {wrong}")

    def _show_tables(self, folder: Path) -> None:
        tables = folder / "tables"
        download_under(self._on.s3.client(), BUCKET, "tables/", tables)
        with duckdb.connect() as database:
            database.execute(
                shipped_file("docs/sql/load_feed_duckdb.sql").read_text().replace("{tables}", str(tables))
            )
            self._check_sums(dict(database.execute(_TOTALS).fetchall()))
            print("\nThe tables in DuckDB:")
            for name in ("documents", "document_lines", "transactions", "open_items"):
                count = database.table(name).count("*").fetchall()[0][0]
                print(f"  {name}: {count} rows")
            for row in database.execute(_BY_MONTH).fetchall():
                print("  " + ", ".join(str(each) for each in row))
            for reason, count in database.execute(_OPEN).fetchall():
                print(f"  still open: {count} x {reason}")

    def _check_sums(self, totals: dict[str, Decimal]) -> None:
        """Check the sums to the cent, of those documents whose sum cannot change any more."""
        company, now = self._on.company, self._on.sandbox.clock.now()
        for number, total in totals.items():
            document = company.document(number)
            if has_final_sum(company, document, now) and total != document.total:
                raise RuntimeError(f"The lines of {number} add up to {total}, but the books have {document.total}")


_TOTALS = "SELECT document_number, sum(total) FROM document_lines GROUP BY document_number"
_BY_MONTH = """
    SELECT strftime(document_date, '%Y-%m'), document_type, count(*), sum(total_amount)::DECIMAL(18, 2), currency
    FROM documents GROUP BY ALL ORDER BY ALL
"""
_OPEN = "SELECT reason, count(*) FROM open_items GROUP BY reason ORDER BY reason"
