"""What earlier runs have left to a run: since when lines are open, and rows that may prove wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_amzbiz.feed.spool_lines import LineSpool, Triple

_RETRACTED = """
SELECT written.body FROM written JOIN transactions ON id = written.tx WHERE (
    fresh OR EXISTS (
        SELECT 1 FROM lines WHERE lines.tx = written.tx AND lines.number = written.number
        AND COALESCE(lines.order_id, '') = written.order_id
        AND COALESCE(lines.line_id, '') = written.line_id AND COALESCE(lines.shipment_id, '') = written.shipment_id
    )
) AND NOT EXISTS (
    SELECT 1 FROM lines JOIN sources ON sources.tx = lines.tx AND sources.number = lines.number
    JOIN documents ON documents.id = sources.document
    WHERE own AND lines.tx = written.tx AND lines.number = written.number
    AND COALESCE(lines.order_id, '') = written.order_id
    AND COALESCE(lines.line_id, '') = written.line_id AND COALESCE(lines.shipment_id, '') = written.shipment_id
    AND documents.number = written.document AND documents.type = written.type
)
"""

OpenKey = tuple[str, str, str, str, str, str]


class HistorySpool(LineSpool):
    """Lines of transactions, and what earlier runs have left."""

    def mark(self, key: OpenKey, transaction: str, first_asked: str, asked: int) -> None:
        """Remember since when an open line has been asked for, and how often."""
        values = *key, transaction, first_asked, asked
        self._db.execute("REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def marked(self, key: OpenKey, transaction: str) -> tuple[str, int] | None:
        """Return when an open line was first asked for, and how often since; None where it is new.

        A line that had no shipment id at first is the same line.
        """
        query = (
            "SELECT first_asked, asked FROM marks WHERE marketplace = ? AND order_id = ? AND line_id = ? "
            "AND shipment_id IN (?, '') AND type = ? AND alone = ? AND tx = ? ORDER BY first_asked"
        )
        found = self._db.execute(query, (*key, transaction)).fetchone()
        return (found[0], found[1]) if found else None

    def add_written(self, record: Mapping[str, Any]) -> None:
        """Remember a row that an earlier run has written to ``document_lines``."""
        ids = (record[name] or "" for name in ("order_id", "order_line_item_id", "shipment_id"))
        values = record["transaction_id"], record["line_number"], *ids
        document = record["document_number"], record["document_type"], json.dumps(record)
        self._db.execute("REPLACE INTO written VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, *document))

    def written_of_others(self, triple: Triple | None, document_type: str) -> list[tuple[str, str, bool]]:
        """Return the documents to which an order line's other transactions belong, which this run has not read.

        :return: of each, the transaction, the document's number, and whether the transaction names it.
        """
        query = (
            "SELECT tx, document, body FROM written WHERE order_id = ? AND line_id = ? AND shipment_id = ? "
            "AND type = ? AND NOT EXISTS (SELECT 1 FROM transactions WHERE id = written.tx)"
        )
        rows = self._db.execute(query, (*triple, document_type)) if triple else ()
        return [(transaction, number, json.loads(body)["is_named"]) for transaction, number, body in rows]

    def kept(self) -> Iterator[dict[str, Any]]:
        """Yield rows of earlier runs whose transactions were not read again."""
        query = "SELECT body FROM written LEFT JOIN transactions ON id = tx WHERE fresh IS NOT 1"
        for (body,) in self._db.execute(query):
            yield json.loads(body)

    def retracted(self) -> Iterator[dict[str, Any]]:
        """Yield rows of earlier runs that are wrong now: the line has another document, or other ids."""
        for (body,) in self._db.execute(_RETRACTED):
            yield json.loads(body)
