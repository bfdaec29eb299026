"""Rows of the tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_amzbiz.batch.table import DECIMAL
from airflow_provider_amzbiz.feed.arrivals import is_changed, known_objects, match
from airflow_provider_amzbiz.feed.columns import DOCUMENT_LINES, TRANSACTIONS
from airflow_provider_amzbiz.feed.lines import is_number

log = logging.getLogger(__name__)

Row = dict[str, Any]
_WRITTEN = (
    "document_number",
    "document_type",
    "marketplace_id",
    "transaction_id",
    "transaction_type",
    "transaction_date",
    "feed_date",
    "order_id",
    "order_line_item_id",
    "shipment_id",
    "currency",
    "line_number",
)


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    :ivar objects: what was stored, as the transfer describes it; None where nothing was.
    :ivar reason: why nothing was.
    :ivar fetched_at: when it was stored.
    :ivar skipped: whether its report was CANCELLED and that is no failure.
    :ivar already_delivered: whether another run delivered it since this one looked.
    """

    objects: Sequence[Mapping[str, Any]] | None = None
    reason: str | None = None
    report_id: str | None = None
    report_document_id: str | None = None
    fetched_at: datetime | None = None
    skipped: bool = False
    already_delivered: bool = False


@dataclass(frozen=True)
class Stored:
    """Objects, and the documents that are in them.

    :ivar options: report options that brought them.
    :ivar is_again: whether some may have been delivered before, so that they have their rows.
    :ivar has_row: URIs of objects whose rows another one of these brings.
    :ivar earlier: what those rows say, by URI, as :meth:`.EarlierRuns.files` gives it.
    """

    documents: Sequence[Mapping[str, Any]]
    objects: Sequence[Mapping[str, Any]]
    options: Mapping[str, str]
    report_id: str | None
    report_document_id: str | None
    fetched_at: str | None
    is_again: bool = False
    earlier: Mapping[str, Any] = field(default_factory=dict)
    has_row: Collection[str] = ()


def document_rows(stored: Stored, run_id: str) -> Iterator[Row]:
    """Yield a row for each object.

    A document that has its row already keeps it, unless its file has changed. Then the row has the new content,
    and still says of the document what it said: what this run knows of it may be a part only.
    """
    known = known_objects(stored.documents)
    for described, document in match(stored.objects, stored.documents):
        uri = described["uri"]
        if uri in stored.has_row:
            continue
        has_row = stored.is_again and uri in known if document is None else document["has_row"]
        before = stored.earlier.get(uri) or known.get(uri) if has_row else None
        if has_row and (before is None or not is_changed(before, described)):
            log.debug("%s has its row already", uri)
            continue
        if before is not None:
            log.info("Amazon has made %s again, with another content: its row is written again", uri)
        said = before and before.get("about")
        yield {
            **(said or (_about_unknown(stored.documents) if document is None else about(document))),
            "report_id": stored.report_id,
            "report_document_id": stored.report_document_id,
            "object_uri": described["uri"],
            "size_bytes": described["bytes"],
            "sha256": described.get("sha256"),
            "archive_entry": described["uri"].rpartition("/")[2] if len(stored.objects) > 1 else None,
            "requested_options": json.dumps(stored.options, sort_keys=True),
            "fetched_at": stored.fetched_at,
            "run_id": run_id,
        }


def line_rows(line: Mapping[str, Any], documents: Iterable[Mapping[str, Any]], run_id: str) -> Iterator[Row]:
    """Yield the rows of a line in ``document_lines``: one for each document that it belongs to."""
    for document in documents:
        known = {name: line[name] for name in DOCUMENT_LINES if name in line}
        about = {"document_number": document["number"], "document_type": document["document_type"]}
        place = {"marketplace_id": document["marketplace_id"]}
        yield {**known, **about, **place, "is_retracted": False, "run_id": run_id}


def written_record(row: Mapping[str, Any]) -> Row:
    """Return what the next runs need of a row of ``document_lines``, to retract it if it proves wrong."""
    return {name: row.get(name) for name in _WRITTEN}


def retraction(record: Mapping[str, Any], run_id: str) -> Row:
    """Return the row that replaces a wrong one: the same key, and nothing for sums to count."""
    zeros = {name: "0" for name, kind in DOCUMENT_LINES.items() if kind == DECIMAL}
    return {**written_record(record), **zeros, "quantity": 0, "is_retracted": True, "run_id": run_id}


def transaction_row(line: Mapping[str, Any], run_id: str) -> Row:
    """Return the row of a line in ``transactions``."""
    return {**{name: line[name] for name in TRANSACTIONS if name in line}, "run_id": run_id}


def about(document: Mapping[str, Any]) -> Row:
    """Return what a row says of its document, apart from its file."""
    detail = document["detail"]
    consolidated = detail.get("consolidated")
    copied = ("document_type", "marketplace_id", "legal_entity", "group_name", "order_ids", "currency")
    more = ("purchase_order_numbers", "payment_instrument_type", "last4", "charge_identifier")
    return {
        **{name: document[name] for name in (*copied, *more, "feed_date_min", "feed_date_max")},
        "document_number": document["number"],
        "consolidated_number": consolidated if is_number(consolidated) else None,
        "document_date": detail.get("date"),
        "total_amount": document["total"],
        "tax_amount": document["tax"],
        "issuer_name": document["issuer"],
        "issuer_registration_number": detail.get("registration"),
        "due_date": document.get("due_date"),
        "payment_status": document.get("payment_status"),
        "related_document_number": detail.get("related"),
    }


def _about_unknown(documents: Sequence[Mapping[str, Any]]) -> Row:
    """Return what is true of all files of an archive that does not say which one is which document."""
    abouts = [about(document) for document in documents]
    shared = ("marketplace_id", "legal_entity", "group_name", "currency")
    lists = ("order_ids", "purchase_order_numbers")
    return {
        **{name: abouts[0][name] for name in shared if all(each[name] == abouts[0][name] for each in abouts)},
        **{name: sorted({each for document in documents for each in document[name]}) for name in lists},
    }
