"""What one run has read, in a file on the worker: memory stays flat, however many transactions there are."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_provider_amzbiz.documents.errors import WorkerError
from airflow_provider_amzbiz.documents.foreign_errors import worker_errors
from airflow_provider_amzbiz.feed.documents import Detail, Document, Form
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
    marketplace TEXT, order_id TEXT, line_id TEXT, shipment_id TEXT, type TEXT, tx TEXT, first_asked TEXT,
    asked INTEGER, PRIMARY KEY (marketplace, order_id, line_id, shipment_id, type, tx)
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
    tx TEXT, order_id TEXT, line_id TEXT, shipment_id TEXT, document TEXT, type TEXT, body TEXT,
    PRIMARY KEY (tx, order_id, line_id, shipment_id, document, type)
);
CREATE TABLE reasons (tx TEXT, number INTEGER, reason TEXT, PRIMARY KEY (tx, number)) WITHOUT ROWID;
"""
_OWN_SHIPPED = """
    NOT EXISTS (
        SELECT 1 FROM lines other
        WHERE other.order_id = lines.order_id AND other.shipment_id IS NULL AND other.type = lines.type
    )
"""
_RETRACTED = """
SELECT written.body FROM written JOIN transactions ON id = written.tx WHERE (
    fresh OR EXISTS (
        SELECT 1 FROM lines WHERE lines.tx = written.tx AND COALESCE(lines.order_id, '') = written.order_id
        AND COALESCE(lines.line_id, '') = written.line_id AND COALESCE(lines.shipment_id, '') = written.shipment_id
    )
) AND NOT EXISTS (
    SELECT 1 FROM lines JOIN sources ON sources.tx = lines.tx AND sources.number = lines.number
    JOIN documents ON documents.id = sources.document
    WHERE own AND lines.tx = written.tx AND COALESCE(lines.order_id, '') = written.order_id
    AND COALESCE(lines.line_id, '') = written.line_id AND COALESCE(lines.shipment_id, '') = written.shipment_id
    AND documents.number = written.document AND documents.type = written.type
)
"""

Triple = tuple[str, str, str]
OpenKey = tuple[str, str, str, str, str, str]


class Spool:
    """The file. It is used by one thread, and gone when it is closed.

    :raises WorkerError: the worker has no place for it; of the block that uses it, too.
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

    def mark(self, key: OpenKey, first_asked: str, asked: int) -> None:
        """Remember since when an open line has been asked for, and how often."""
        self._db.execute("REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*key, first_asked, asked))

    def marked(self, key: OpenKey) -> tuple[str, int] | None:
        """Return when an open line was first asked for, and how often since; None where it is new.

        A line that had no shipment id at first is the same line.
        """
        query = (
            "SELECT first_asked, asked FROM marks WHERE marketplace = ? AND order_id = ? AND line_id = ? "
            "AND shipment_id IN (?, '') AND type = ? AND tx = ? ORDER BY first_asked"
        )
        found = self._db.execute(query, key).fetchone()
        return (found[0], found[1]) if found else None

    def triples(self) -> Iterator[Triple]:
        """Yield the ids of all order lines that can be asked for, each once."""
        yield from self._db.execute(
            "SELECT DISTINCT order_id, line_id, shipment_id FROM lines "
            "WHERE order_id IS NOT NULL AND line_id IS NOT NULL AND shipment_id IS NOT NULL"
        )

    def add_details(self, triple: Triple, details: Sequence[Detail]) -> None:
        """Add what Amazon says of an order line; several parts of it add up."""
        known = self.details(triple)
        body = json.dumps([*known, *(each for each in details if each not in known)], separators=(",", ":"))
        self._db.execute("REPLACE INTO details VALUES (?, ?, ?, ?)", (*triple, body))

    def details(self, triple: Triple | None) -> list[Detail]:
        """Return what Amazon says of an order line."""
        query = "SELECT body FROM details WHERE order_id = ? AND line_id = ? AND shipment_id = ?"
        found = triple and self._db.execute(query, triple).fetchone()
        return json.loads(found[0]) if found else []

    def lines(self) -> Iterator[tuple[Line, bool, bool]]:
        """Yield lines, those of the same ids in a row: each, whether it is fresh, whether its order shipped."""
        query = (
            f"SELECT body, fresh, {_OWN_SHIPPED} FROM lines JOIN transactions ON id = tx "  # noqa: S608
            "ORDER BY marketplace, order_id, line_id, shipment_id, type, tx, number"
        )
        for body, fresh, shipped in self._db.execute(query):
            yield json.loads(body), bool(fresh), bool(shipped)

    def add_document(self, document: Document) -> int:
        """Add a document, and return its number in the run."""
        key = document.marketplace_id, document.document_type, document.number
        query = "SELECT id, form, detail FROM documents WHERE marketplace = ? AND type = ? AND number = ?"
        found = self._db.execute(query, key).fetchone()
        if found is None:
            added = self._db.execute(
                "INSERT INTO documents (marketplace, type, number, form, detail) VALUES (?, ?, ?, ?, ?)",
                (*key, document.form, json.dumps(document.detail)),
            )
            assert added.lastrowid is not None  # noqa: S101 - an INSERT has one
            return added.lastrowid
        identity, form, detail = found
        # What one line does not show, another one may.
        merged = {**document.detail, **{name: value for name, value in json.loads(detail).items() if value}}
        by_number = Form.NUMBER in (form, document.form)
        self._db.execute(
            "UPDATE documents SET form = ?, detail = ? WHERE id = ?",
            (Form.NUMBER if by_number else form, json.dumps(merged), identity),
        )
        return int(identity)

    def add_source(self, document: int, line: Line, *, own: bool) -> None:
        """Remember that a line leads to a document, and whether it belongs to it."""
        values = document, line["transaction_id"], line["line_number"], own
        self._db.execute("REPLACE INTO sources VALUES (?, ?, ?, ?)", values)

    def add_reason(self, line: Line, reason: str) -> None:
        """Remember why a document of a line is still to come."""
        values = line["transaction_id"], line["line_number"], reason
        self._db.execute("REPLACE INTO reasons VALUES (?, ?, ?)", values)

    def reason(self, line: Line) -> str | None:
        """Return why a document of a line is still to come."""
        query = "SELECT reason FROM reasons WHERE tx = ? AND number = ?"
        found = self._db.execute(query, (line["transaction_id"], line["line_number"])).fetchone()
        return found[0] if found else None

    def sources(self, line: Line) -> list[tuple[int, bool]]:
        """Return the documents that a line leads to, and whether it belongs to each."""
        query = "SELECT document, own FROM sources WHERE tx = ? AND number = ? ORDER BY document"
        found = self._db.execute(query, (line["transaction_id"], line["line_number"]))
        return [(document, bool(own)) for document, own in found]

    def documents(self) -> Iterator[tuple[int, Document]]:
        """Yield all documents, by number in the run."""
        query = (
            "SELECT id, marketplace, type, number, form, detail FROM documents ORDER BY marketplace, type, number"
        )
        for identity, marketplace_id, kind, number, form, detail in self._db.execute(query):
            yield identity, Document(marketplace_id, kind, number, Form(form), json.loads(detail))

    def lines_of(self, document: int) -> Iterator[tuple[Line, bool]]:
        """Yield the lines that lead to a document, and whether they belong to it."""
        query = (
            "SELECT body, own FROM sources JOIN lines USING (tx, number) WHERE document = ? "
            "ORDER BY order_id, line_id, shipment_id, tx, number"
        )
        for body, own in self._db.execute(query, (document,)):
            yield json.loads(body), bool(own)

    def counts(self) -> Mapping[str, int]:
        """Return how much there is."""
        query = "SELECT (SELECT COUNT(*) FROM transactions WHERE fresh), (SELECT COUNT(*) FROM lines)"
        transactions, lines = self._db.execute(query).fetchone()
        return {"transactions": transactions, "lines": lines}

    def add_written(self, record: Mapping[str, Any]) -> None:
        """Remember a row that an earlier run has written to ``document_lines``."""
        ids = (record[name] or "" for name in ("order_id", "order_line_item_id", "shipment_id"))
        values = record["transaction_id"], *ids, record["document_number"], record["document_type"]
        self._db.execute("REPLACE INTO written VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, json.dumps(record)))

    def kept(self) -> Iterator[dict[str, Any]]:
        """Yield rows of earlier runs whose transactions were not read again."""
        query = "SELECT body FROM written LEFT JOIN transactions ON id = tx WHERE fresh IS NOT 1"
        for (body,) in self._db.execute(query):
            yield json.loads(body)

    def retracted(self) -> Iterator[dict[str, Any]]:
        """Yield rows of earlier runs that are wrong now: the line has another document, or other ids."""
        for (body,) in self._db.execute(_RETRACTED):
            yield json.loads(body)

    def latest_feed_date(self) -> str | None:
        """Return the latest feed date that was read in this run."""
        found = self._db.execute("SELECT MAX(feed_date) FROM transactions WHERE fresh").fetchone()[0]
        return found or None
