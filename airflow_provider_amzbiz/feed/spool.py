"""What one run has read, in a file on the worker: memory stays flat, however many transactions there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from airflow_provider_amzbiz.feed.documents import Detail, Document, Form
from airflow_provider_amzbiz.feed.lines import Line
from airflow_provider_amzbiz.feed.spool_history import HistorySpool
from airflow_provider_amzbiz.feed.spool_lines import Triple


class Spool(HistorySpool):
    """The file. It is used by one thread, and gone when it is closed."""

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

    def documents(self) -> Iterator[tuple[int, Document]]:
        """Yield all documents, by number in the run."""
        query = (
            "SELECT id, marketplace, type, number, form, detail FROM documents ORDER BY marketplace, type, number"
        )
        for identity, marketplace_id, kind, number, form, detail in self._db.execute(query):
            yield identity, Document(marketplace_id, kind, number, Form(form), json.loads(detail))

    def add_source(self, document: int, line: Line, *, own: bool) -> None:
        """Remember that a line leads to a document, and whether it belongs to it."""
        values = document, line["transaction_id"], line["line_number"], own
        self._db.execute("REPLACE INTO sources VALUES (?, ?, ?, ?)", values)

    def sources(self, line: Line) -> list[tuple[int, bool]]:
        """Return the documents that a line leads to, and whether it belongs to each."""
        query = "SELECT document, own FROM sources WHERE tx = ? AND number = ? ORDER BY document"
        found = self._db.execute(query, (line["transaction_id"], line["line_number"]))
        return [(document, bool(own)) for document, own in found]

    def lines_of(self, document: int) -> Iterator[tuple[Line, bool]]:
        """Yield the lines that lead to a document, and whether they belong to it."""
        query = (
            "SELECT body, own FROM sources JOIN lines USING (tx, number) WHERE document = ? "
            "ORDER BY order_id, line_id, shipment_id, tx, number"
        )
        for body, own in self._db.execute(query, (document,)):
            yield json.loads(body), bool(own)

    def add_reason(self, line: Line, reason: str) -> None:
        """Remember why a document of a line is still to come."""
        values = line["transaction_id"], line["line_number"], reason
        self._db.execute("REPLACE INTO reasons VALUES (?, ?, ?)", values)

    def reason(self, line: Line) -> str | None:
        """Return why a document of a line is still to come."""
        query = "SELECT reason FROM reasons WHERE tx = ? AND number = ?"
        found = self._db.execute(query, (line["transaction_id"], line["line_number"])).fetchone()
        return found[0] if found else None
