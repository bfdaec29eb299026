"""The end of a run: tables first, the cursor last, so that a run that is killed in between is repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.feed.lines import iso
from airflow_provider_amzbiz.feed.open_items import OpenItem, open_items
from airflow_provider_amzbiz.feed.outcomes import Outcomes
from airflow_provider_amzbiz.feed.plan import Plan
from airflow_provider_amzbiz.feed.rows import (
    Outcome,
    Row,
    document_rows,
    line_rows,
    retraction,
    transaction_row,
    written_record,
)
from airflow_provider_amzbiz.feed.state import CURSOR_BUSY, CURSOR_WRITES, Cursor, FeedState, RunFolder
from airflow_provider_amzbiz.feed.window import Window, advanced, parsed

log = logging.getLogger(__name__)


class Tables(Protocol):
    """Where the tables go."""

    def write(self, name: str, file: str, rows: Iterable[Row]) -> str:
        """Write a table's file, whole or not at all, and return its URI."""

    def mark(self, file: str, content: Mapping[str, Any]) -> str:
        """Write the marker that says that all tables of a run are there, and return its URI."""


class Finish:
    """The end of one run.

    :param begun: what the run has frozen when it began.
    :param began_at: when that was, by S3's clock.
    """

    def __init__(
        self,
        state: FeedState,
        folder: RunFolder,
        plan: Plan,
        outcomes: Mapping[int, Outcome],
        *,
        begun: Mapping[str, Any],
        began_at: datetime,
        overlap: timedelta,
        open_for: timedelta,
    ) -> None:
        self._state = state
        self._folder = folder
        self._plan = plan
        self._outcomes = Outcomes(plan, outcomes)
        self._run_id = begun["task"]["run_id"]
        self._base = Cursor(open=begun["open"], feed=begun.get("feed"))
        self._begun_at = datetime.fromisoformat(begun["begun_at"])
        # Files must sort in the order of the runs, and S3's clock is the only one that all of them share: one run
        # may have the API's, and another one its worker's, where the API's is unknown or implausible.
        began = began_at.astimezone(timezone.utc)
        self._file = f"{began:%Y%m%dT%H%M%S.%fZ}-{folder.name.replace('/', '-')}"
        self._overlap = overlap
        self._open_for = open_for
        # Of the objects that have a row in this run's tables.
        self._uris: set[str] = set()
        self._amended: set[str] = set()
        found = plan.latest_feed_date
        self.latest_feed_date = datetime.fromisoformat(found) if found else None

    def write_tables(self, tables: Tables | None) -> dict[str, Any]:
        """Write the tables and their marker, and return the run's result."""
        self._find_amended(self._state.read_cursor()[0])
        account = self._state.account
        result: dict[str, Any] = {**self._counts(), "account": account, "tables": {}}
        if tables is None:
            return result
        rows: Mapping[str, Iterable[Row]] = {
            "documents": self._documents(),
            "document_lines": self._document_lines(),
            "transactions": self._transactions(),
            "open_items": self._open_rows(),
        }
        for name in TABLES:
            of_account = ({**row, "account": account} for row in rows[name])
            result["tables"][name] = [tables.write(name, self._file, of_account)]
        tables.mark(self._file, {"run_id": self._run_id, **result})
        for run, identities in self._outcomes.rows_for_others(self._folder.name, self._uris).items():
            self._state.existing(run).add_rows(self._folder.name, identities)
        # Whoever loads what a run returns may never have seen what the task returned before it was cleared.
        earlier = self._state.earlier_result(self._folder.name).get("tables", {})
        return {**result, "tables": {name: [*earlier.get(name, []), *result["tables"][name]] for name in TABLES}}

    def advance(self, window: Window, latest: datetime) -> None:
        """Advance the cursor, and leave the open lines to the next run.

        :param latest: the time up to which Amazon surely had its transactions.
        :raises DocumentStorageError: others write the cursor all the time.
        """
        for _ in range(CURSOR_WRITES):
            cursor, etag = self._state.read_cursor()
            if cursor.run == self._folder.name:
                # A previous attempt was killed after this.
                return
            self._find_amended(cursor)
            is_alone = cursor.open == self._base.open
            keys = self._folder.write_lines("open", self._state_after() if is_alone else self._merged(cursor))
            before = parsed(cursor.feed_end)
            feed_end = advanced(before, window, latest, first_start=parsed(cursor.feed_start))
            # After a gap, another feed has not read what the cursor stands for.
            feed = self._base.feed if before is None or window.start <= before else cursor.feed
            after = Cursor(iso(feed_end), keys, self._folder.name, cursor.feed_start, feed)
            if self._state.write_cursor(after, etag):
                return
        raise DocumentStorageError(CURSOR_BUSY)

    def _find_amended(self, cursor: Cursor) -> None:
        """Find the transactions of which other runs have read a later version since this one began."""
        self._amended = set()
        if cursor.open == self._base.open:
            return
        latest: dict[str, str] = {}
        for record in self._state.read_lines(cursor.open):
            row = record["written"] if "written" in record else record["line"]
            latest[row["transaction_id"]] = max(latest.get(row["transaction_id"], ""), row["feed_date"] or "")
        lines = (each["line"] for each in self._plan.lines())
        self._amended = {
            line["transaction_id"]
            for line in lines
            if latest.get(line["transaction_id"], "") > (line["feed_date"] or "")
        }

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield the plan's lines, without those of which another run knows better."""
        return (each for each in self._plan.lines() if each["line"]["transaction_id"] not in self._amended)

    def _merged(self, cursor: Cursor) -> Iterator[Any]:
        """Yield this run's open lines, and those of other runs that this one has not seen."""
        seen = {each["line"]["transaction_id"] for each in self._plan.lines()}
        yield from self._state_after()
        for record in self._state.read_lines(cursor.open):
            # A row that both have is the same one, and a later run takes it once.
            transaction = "written" not in record and record["line"]["transaction_id"]
            is_later = not transaction or transaction in self._amended
            if is_later or transaction not in seen:
                yield record

    def _counts(self) -> dict[str, int]:
        return {**self._outcomes.counts(), "open_items": sum(1 for _ in self._open_items())}

    def _documents(self) -> Iterator[Row]:
        for stored in self._outcomes.stored():
            for row in document_rows(stored, self._run_id):
                self._uris.add(row["object_uri"])
                yield row

    def _document_lines(self) -> Iterator[Row]:
        for record in self._plan.retracted():
            yield retraction(record, self._run_id)
        for each in self._lines():
            yield from self._line_rows(each)

    def _line_rows(self, planned: Mapping[str, Any]) -> Iterator[Row]:
        own = [
            document
            for document, is_own in planned["documents"]
            if is_own and not self._outcomes.failure(document)
        ]
        return line_rows(planned["line"], (self._plan.documents[number] for number in own), self._run_id)

    def _transactions(self) -> Iterator[Row]:
        for each in self._lines():
            if each["fresh"]:
                yield transaction_row(each["line"], self._run_id)

    def _open_items(self) -> Iterator[OpenItem]:
        return open_items(self._lines(), self._outcomes.failure, self._begun_at, self._open_for)

    def _open_rows(self) -> Iterator[Row]:
        for item in self._open_items():
            yield {**item.row(iso(self._begun_at) or "", self._open_for), "run_id": self._run_id}

    def _state_after(self) -> Iterator[dict[str, Any]]:
        """Yield what the next run needs: open lines, and rows that it may have to retract."""
        expired = 0
        for item in self._open_items():
            if item.is_expired:
                expired += 1
                continue
            yield from item.state()
        if expired:
            log.warning(
                "%s lines have no document after %s days, and are not asked for any more; open_items lists them",
                expired,
                self._open_for.days,
            )
        for record in self._plan.kept():
            if self._may_change(record, is_named=record["is_named"]):
                yield {"written": record}
        for each in self._lines():
            is_named = bool(each["line"]["invoice_number"])
            for row in self._line_rows(each):
                if self._may_change(row, is_named=is_named):
                    yield {"written": {**written_record(row), "is_named": is_named}}

    def _may_change(self, row: Mapping[str, Any], *, is_named: bool) -> bool:
        """Tell whether a line may still turn out to belong elsewhere, as far as a later run reads it again."""
        is_settled = is_named and row["shipment_id"]
        since = self._begun_at - (2 * self._overlap if is_settled else self._open_for)
        known = row["feed_date"] or row["transaction_date"]
        return known is None or known >= (iso(since) or "")
