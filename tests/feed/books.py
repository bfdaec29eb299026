"""The tables of a feed as a warehouse reads them, and the company's own books to compare them with."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.demo.s3_server import objects_under
from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.sandbox import Company

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Row = Mapping[str, Any]


@dataclass
class FeedTables:
    """The four tables, read as upserts in the order of the runs.

    :ivar files: rows by the table's name and the file's.
    :ivar marks: contents of the markers, by the file's name; files without one do not count.
    """

    files: dict[str, dict[str, list[Row]]] = field(default_factory=lambda: {name: {} for name in TABLES})
    marks: dict[str, Any] = field(default_factory=dict)

    def upserted(self, name: str, *key: str) -> dict[tuple[Any, ...], Row]:
        """Return the rows that are left after all files were read in their order, by their key."""
        found: dict[tuple[Any, ...], Row] = {}
        for file in sorted(self.files[name]):
            if file in self.marks:
                found.update((tuple(row[each] for each in key), row) for row in self.files[name][file])
        return found

    @property
    def documents(self) -> list[Row]:
        """Return the last row of each object, of those that say which document it is, where there are any."""
        found: dict[str, Row] = {}
        for file in sorted(self.marks):
            for row in self.files["documents"].get(file, ()):
                if row["document_number"] or not found.get(row["object_uri"], row)["document_number"]:
                    found[row["object_uri"]] = row
        return list(found.values())

    @property
    def lines(self) -> list[Row]:
        key = ("document_number", "transaction_id", "order_id", "order_line_item_id", "shipment_id", "line_number")
        return list(self.upserted("document_lines", *key).values())

    @property
    def transactions(self) -> list[Row]:
        return list(self.upserted("transactions", "transaction_id", "line_number").values())

    @property
    def open_items(self) -> list[Row]:
        """Return the whole list, as of each account's last run."""
        latest = {content["account"]: file for file, content in sorted(self.marks.items())}
        return [row for file in latest.values() for row in self.files["open_items"][file]]

    @property
    def expired(self) -> list[Row]:
        """Return what any run gave up."""
        files = [self.files["open_items"][name] for name in self.marks]
        return [row for file in files for row in file if row["status"] == "expired"]


def stored_tables(s3: S3Client, bucket: str, prefix: str) -> FeedTables:
    """Return the tables, as JSON Lines, that a feed has written under a prefix that ends with a slash."""
    found = FeedTables()
    for key, body in objects_under(s3, bucket, prefix).items():
        table, _, file = key.partition("/")
        name = file.rpartition(".")[0]
        if table == "_SUCCESS":
            found.marks[name] = json.loads(body)
        else:
            found.files[table][name] = [json.loads(line) for line in body.splitlines()]
    return found


def stored_documents(s3: S3Client, bucket: str, prefix: str) -> dict[str, bytes]:
    """Return the documents that a feed has stored under a prefix that ends with a slash, by their URI."""
    found = objects_under(s3, bucket, prefix)
    return {
        f"s3://{bucket}/{prefix}{key}": body for key, body in found.items() if not key.startswith("_manifests/")
    }


def check_books(company: Company, tables: FeedTables, stored: Mapping[str, bytes]) -> None:
    """Assert that all that was fetched is the company's own books, to the byte and to the cent.

    :param stored: documents by their URI.
    """
    documents = {each.number: each for each in company.documents}
    check_equal(Counter(row["document_number"] for row in tables.documents), Counter(documents.keys()))
    for row in tables.documents:
        book = documents[row["document_number"]]
        assert (row["document_type"], row["marketplace_id"]) == (book.kind, book.marketplace_id), row
        assert row["consolidated_number"] in (book.consolidated_number, None), row
        assert stored[row["object_uri"]] == company.pdf(book), row
    # Each document once.
    check_equal(Counter(stored.values()), Counter(company.pdf(each) for each in company.documents))
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    taxes: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in tables.lines:
        totals[row["document_number"]] += Decimal(row["total"])
        taxes[row["document_number"]] += Decimal(row["tax"])
    check_equal(totals, {each.number: each.total for each in company.documents})
    check_equal(taxes, {each.number: each.tax for each in company.documents})
    check_lines_are_covered(tables)
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in tables.transactions:
        spent[row["transaction_id"]] += Decimal(row["total"])
    check_equal(spent, {each.transaction_id: each.amount for each in company.transactions})


def check_equal(found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Assert that two mappings are equal, and show only what differs."""
    keys = found.keys() | expected.keys()
    differences = {key: (found.get(key), expected.get(key)) for key in keys if found.get(key) != expected.get(key)}
    assert not differences, f"found and expected: {differences}"


def check_lines_are_covered(tables: FeedTables) -> None:
    """Assert that every line is in a document, or on the list of what people chase."""
    covered = {(row["transaction_id"], row["line_number"]) for row in tables.lines if not row["is_retracted"]}
    chased = {each for row in [*tables.open_items, *tables.expired] for each in row["transaction_ids"]}
    for row in tables.transactions:
        assert (row["transaction_id"], row["line_number"]) in covered or row["transaction_id"] in chased, row
