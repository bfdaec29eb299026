"""The transactions that one run has read, in a file on the worker: memory stays flat, however many there are."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from airflow_provider_amzbiz.documents.errors import WorkerError
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.feed.lines import Line, document_type_of

# Pages of memory that SQLite keeps, in KiB.
_CACHE_KIB = 4096
_SCHEMA = """
CREATE TABLE transactions (id TEXT PRIMARY KEY, feed_date TEXT, fresh INTEGER) WITHOUT ROWID;
CREATE TABLE lines (
    tx TEXT, number INTEGER, marketplace TEXT, order_id TEXT, line_id TEXT, shipment_id TEXT, type TEXT, body TEXT,
    PRIMARY KEY (tx, number)
) WITHOUT ROWID;
CREATE INDEX lines_by_triple ON lines (order_id, line_id, shipment_id);
CREATE TABLE marks (
    marketplace TEXT, order_id TEXT, line_id TEXT, shipment_id TEXT, type TEXT, alone TEXT, tx TEXT,
    first_asked TEXT, asked INTEGER, PRIMARY KEY (marketplace, order_id, line_id, type, tx, shipment_id, alone)
) WITHOUT ROWID;
CREATE TABLE details (
    order_id TEXT, line_id TEXT, shipment_id TEXT, body TEXT, PRIMARY KEY (order_id, line_id, shipment_id)
) WITHOUT ROWID;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, marketplace TEXT, type TEXT, number TEXT, form TEXT, detail TEXT,
    UNIQUE (marketplace, type, number)
);
CREATE TABLE sources (
    document INTEGER, tx TEXT, number INTEGER, own INTEGER, PRIMARY KEY (tx, number, document)
) WITHOUT ROWID;
CREATE INDEX sources_by_document ON sources (document);
CREATE TABLE written (
    tx TEXT, number INTEGER, order_id TEXT, line_id TEXT, shipment_id TEXT, document TEXT, type TEXT, body TEXT,
    PRIMARY KEY (tx, number, order_id, line_id, shipment_id, document, type)
);
CREATE INDEX written_by_triple ON written (order_id, line_id, shipment_id, type);
CREATE TABLE reasons (tx TEXT, number INTEGER, reason TEXT, PRIMARY KEY (tx, number)) WITHOUT ROWID;
"""
_OWN_SHIPPED = """
    NOT EXISTS (
        SELECT 1 FROM lines other
        WHERE other.order_id = lines.order_id AND other.shipment_id IS NULL AND other.type = lines.type
    )
"""
Triple = tuple[str, str, str]


class LineSpool:
    """Lines of transactions, the latest version of each.

    :raises WorkerError: the worker has no place for the file; of the block that uses it, too.
    """

    def __init__(self) -> None:
        with worker_errors():
            self._folder = tempfile.TemporaryDirectory(prefix="amzbiz-feed-")
        # Nothing in it is to survive a crash.
        self._db = sqlite3.connect(Path(self._folder.name) / "spool.db", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._folder.cleanup()
        if isinstance(error, sqlite3.Error):
            raise WorkerError(
                f"The feed's file in {tempfile.gettempdir()} failed, for which a full disk is the usual "
                f"reason: {error}"
            ) from error

    def add(self, lines: Sequence[Line]) -> None:
        """Add the lines of a transaction that was read, in the place of an earlier version of it.

        Of several versions, the one with the latest feed date counts, and of those the one that was read last.
        """
        identity, feed_date = lines[0]["transaction_id"], lines[0]["feed_date"] or ""
        known = self._db.execute("SELECT feed_date FROM transactions WHERE id = ?", (identity,)).fetchone()
        if known and known[0] > feed_date:
            return
        if known:
            self._db.execute("DELETE FROM lines WHERE tx = ?", (identity,))
        self._db.execute("REPLACE INTO transactions VALUES (?, ?, 1)", (identity, feed_date))
        for line in lines:
            self._insert(line)

    def carry(self, line: Line) -> None:
        """Take over an open line of an earlier run; a version of its transaction that is read now replaces it."""
        values = line["transaction_id"], line["feed_date"] or ""
        self._db.execute("INSERT OR IGNORE INTO transactions VALUES (?, ?, 0)", values)
        self._insert(line)

    def _insert(self, line: Line) -> None:
        self._db.execute(
            "REPLACE INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                line["transaction_id"],
                line["line_number"],
                line["marketplace_id"],
                line["order_id"],
                line["order_line_item_id"],
                line["shipment_id"],
                document_type_of(line),
                json.dumps(line, separators=(",", ":")),
            ),
        )

    def triples(self) -> Iterator[Triple]:
        """Yield the ids of all order lines that can be asked for, each once."""
        yield from self._db.execute(
            "SELECT DISTINCT order_id, line_id, shipment_id FROM lines "
            "WHERE order_id IS NOT NULL AND line_id IS NOT NULL AND shipment_id IS NOT NULL"
        )

    def lines(self) -> Iterator[tuple[Line, bool, bool]]:
        """Yield lines, those of the same ids in a row: each, whether it is fresh, whether its order shipped."""
        query = (
            f"SELECT body, fresh, {_OWN_SHIPPED} FROM lines JOIN transactions ON id = tx "  # noqa: S608
            "ORDER BY marketplace, order_id, line_id, shipment_id, type, tx, number"
        )
        for body, fresh, shipped in self._db.execute(query):
            yield json.loads(body), bool(fresh), bool(shipped)

    def counts(self) -> Mapping[str, int]:
        """Return how much there is."""
        query = "SELECT (SELECT COUNT(*) FROM transactions WHERE fresh), (SELECT COUNT(*) FROM lines)"
        transactions, lines = self._db.execute(query).fetchone()
        return {"transactions": transactions, "lines": lines}

    def latest_feed_date(self) -> str | None:
        """Return the latest feed date that was read in this run."""
        found = self._db.execute("SELECT MAX(feed_date) FROM transactions WHERE fresh").fetchone()[0]
        return found or None
