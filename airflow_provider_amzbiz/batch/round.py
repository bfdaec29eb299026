"""What one process of a batch does: record how reports have ended, create the next ones, store documents."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from airflow_provider_amzbiz.batch.errors import ItemError, NothingSent, ThrottledCall
from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.key_claims import KeyClaims
from airflow_provider_amzbiz.batch.plan import Place
from airflow_provider_amzbiz.batch.record import Record, Stint
from airflow_provider_amzbiz.batch.steps import Step, Steps
from airflow_provider_amzbiz.client.models import USELESS, Report

log = logging.getLogger(__name__)

# How often an item is tried in one attempt, after faults that may pass.
MAX_FAILURES = 5
# How often a document must prove damaged until its report is created again, and how often an attempt does that.
MAX_DAMAGES = 2
MAX_RECREATIONS = 1

Objects = list[dict[str, Any]]


class Actions(Protocol):
    """What a round does outside: with the API, the documents and the ledger. Called by several threads."""

    def find_lost(self, item: Item) -> str | None:
        """Return the id of the report that came of an item's request when it was sent before, None where none did.

        :raises ThrottledCall: the account's limit is used up.
        :raises NothingSent: the listing cannot be read, and nothing else can be done now.
        :raises ItemError: it is not known yet.
        """

    def create(self, item: Item) -> tuple[str, bool]:
        """Create an item's report, and return its id, and whether it was taken from a listing.

        :raises ThrottledCall: the account's limit is used up.
        :raises NothingSent: nothing was created, and nothing else can be now.
        :raises ItemError: there is no report, as far as is known.
        """

    def document_of(self, item: Item, report: Report) -> str | None:
        """Return the document of a report that has ended, None where its end is no failure, but brings none.

        :raises ItemError: its end is a failure.
        """

    def store(self, item: Item, claim: Callable[[str], None]) -> Objects:
        """Store an item's document, and return its objects.

        :param claim: called with each key before anything is written under it.
        :raises ThrottledCall: nothing was stored.
        :raises ItemError: nothing was stored.
        """

    def find_delivered(self, item: Item) -> Objects | None:
        """Return what an earlier batch has delivered of an item, if there is a ledger and it has it.

        :raises NothingSent: the ledger cannot be read.
        """

    def record_delivery(self, item: Item, objects: Objects) -> None:
        """Put on the ledger, if there is one, that an item was stored.

        :raises ItemError: that is not possible now.
        """


class Round:
    """One round.

    :param stopped: asked before each step whether the task is being ended.
    :ivar throttled: operations that were throttled although there was a permit.
    :ivar faults: what failed and will be tried again, and ``progress`` what did not fail.
    """

    def __init__(
        self,
        record: Record,
        stint: Stint,
        place: Place,
        actions: Actions,
        *,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._record = record
        self._stint = stint
        self._state = stint.state
        self._place = place
        self._actions = actions
        self._steps = Steps(stint, stopped)
        self._clock = clock
        # Indexes of requests that were sent before, and of which no report was found.
        self._searched: set[int] = set()
        self._sent_before: dict[int, float | None] = {}
        self._unsent: dict[int, Item] = {}
        self._claims = KeyClaims(
            record.parts, stint.head.attempt, lambda index: index not in record.dropped(stint.head)
        )
        self._found_delivered = False
        self.throttled: set[str] = set()
        self.faults = self.progress = 0

    def run(self, permits: Mapping[str, int], reports: Iterable[Report], errors: Mapping[str, ItemError]) -> None:
        """Do what can be done now, and put it on record.

        :param permits: operation to the number of calls that may be sent.
        :param reports: those that have ended.
        :param errors: by the ids of reports that cannot be waited for, of each report alone.
        :raises RecordTakenError: another process continues.
        """
        by_id = {item.report_id: item for item in self._state.live.values() if item.report_id}
        for report_id, error in errors.items():
            if report_id in by_id:
                self._lost(by_id[report_id], error)
        steps: list[Step] = [
            (self._ended, by_id[report.report_id], report) for report in reports if report.report_id in by_id
        ]
        creates = permits.get("createReport", 0)
        try:
            # Searches come first: none of them may find the report of a request that is being created now. Until
            # one has found nothing, the record keeps the time around which the next process must search.
            sent = [item for item in self._state.pending().to_create if item.sent_at is not None]
            self._steps.run([*steps, *((self._find_lost, item, None) for item in sent[:creates])])
            self._create_all(self._to_create(creates))
            # After the reports that have ended: some of these documents are theirs.
            due = self._state.pending().to_store[: permits.get("getReportDocument", 0)]
            self._steps.run([(self._store, item, None) for item in due])
        finally:
            for index, item in self._unsent.items():
                # The round was broken off before its turn.
                item.sent_at = self._sent_before[index]
            # Also where one of them ends the task: the next process must not do again what the others have done.
            self._stint.close()

    def _create_all(self, items: Sequence[Item]) -> None:
        self._unsent = {item.index: item for item in items}
        self._sent_before = {item.index: item.sent_at for item in items}
        now = self._clock()
        for item in items:
            item.sent_at = now
        if items:
            # Should this process be lost now, the next one knows what may have been sent.
            self._stint.open(items)
        self._steps.run([(self._create, item, self._sent_before[item.index]) for item in items])

    def _to_create(self, count: int) -> list[Item]:
        """Return the next items to create: those that were sent before only if no report was found of them."""
        to_create = self._state.pending().to_create
        again = [item for item in to_create if item.sent_at is None or item.index in self._searched][:count]
        left = min(count - len(again), self._state.planned - self._state.cursor)
        if left <= 0:
            return again
        new = self._record.planned(self._stint.head, self._state.cursor, left)
        self._state.begin(new)
        return [*again, *new]

    def _find_lost(self, item: Item, _: None) -> None:
        try:
            if self._take_delivered(item):
                return
            report_id = self._actions.find_lost(item)
        except ThrottledCall:
            return
        except NothingSent as refused:
            raise refused.reason from None
        except ItemError as error:
            self._failed(item, error)
            return
        if report_id is None:
            self._searched.add(item.index)
        else:
            self._created(item, report_id, adopted=True)

    def _create(self, item: Item, sent_before: float | None) -> None:
        self._unsent.pop(item.index)
        try:
            if sent_before is None and self._take_delivered(item):
                return
            report_id, adopted = self._actions.create(item)
        except ThrottledCall as throttled:
            if throttled.nothing_sent:
                item.sent_at = sent_before
            if throttled.operation == "createReport":
                self.throttled.add("createReport")
            return
        except NothingSent as refused:
            item.sent_at = sent_before
            raise refused.reason from None
        except ItemError as error:
            self._failed(item, error)
            return
        self._created(item, report_id, adopted=adopted)

    def _created(self, item: Item, report_id: str, *, adopted: bool) -> None:
        item.report_id, item.adopted = report_id, adopted
        item.created_at = self._clock()
        item.failures = 0
        self.progress += 1
        self._stint.note(item)

    def _take_delivered(self, item: Item) -> bool:
        """Finish an item that another batch has delivered since it was planned; tell whether one has."""
        delivered = self._actions.find_delivered(item)
        if delivered is None:
            return False
        # Before any other document may be stored: there may be one that would get its key.
        self._claims.claim_existing(item, delivered, self._place.bucket)
        self._found_delivered = True
        item.objects, item.already_delivered, item.sent_at = delivered, True, None
        item.stored_at = self._clock()
        self.progress += 1
        return True

    def _ended(self, item: Item, report: Report) -> None:
        if item.earlier and report.processing_status in USELESS:
            item.drop_report(f"report {report.report_id} of a previous attempt was {report.processing_status}")
            log.info("%s: %s; creating another one", item.label, item.recreated)
            return
        item.status = str(report.processing_status)
        self.progress += 1
        try:
            item.report_document_id = self._actions.document_of(item, report)
        except ItemError as error:
            self._give_up(item, error)
            return
        item.skipped = item.report_document_id is None

    def _lost(self, item: Item, error: ItemError) -> None:
        self._stint.touch([item])
        # Any other error says nothing of the report, which may be running.
        if item.earlier and error.gone:
            item.drop_report(f"report {item.report_id} of a previous attempt is no longer known")
            log.info("%s: %s; creating another one", item.label, item.recreated)
        else:
            self._give_up(item, error)

    def _store(self, item: Item, _: None) -> None:
        try:
            objects = self._actions.store(item, lambda key: self._claim(item, key))
            item.stored_at = self._clock()
            self._actions.record_delivery(item, objects)
        except ThrottledCall:
            self.throttled.add("getReportDocument")
            return
        except ItemError as error:
            item.damages += error.damaged
            useless = error.gone or item.damages >= MAX_DAMAGES
            if useless and item.recreations < MAX_RECREATIONS:
                self._recreate(item, error)
            else:
                self._failed(item, error)
            return
        item.objects = objects
        self.progress += 1

    def _claim(self, item: Item, key: str) -> None:
        if self._place.is_reserved(key):
            raise ItemError(
                f"Its document would have the key {key!r}, where the batch keeps its manifest or its table; "
                "change s3_key, manifest_key or audit_key",
                permanent=True,
            )
        if self._stint.head.claims:
            self._claims.claim(item, key)
        elif self._found_delivered or self._state.counts.already_delivered:
            # What a round has found delivered is all that may be there without having been planned.
            self._claims.check(item, key)

    def _recreate(self, item: Item, error: ItemError) -> None:
        why = "Amazon no longer has its document" if error.gone else "its document is damaged"
        item.drop_report(f"report {item.report_id}: {why}: {error}")
        self.progress += 1
        log.warning("%s: %s. Creating another report", item.label, item.recreated)

    def _failed(self, item: Item, error: ItemError) -> None:
        item.failures += 1
        self.faults += 1
        if error.permanent or item.failures >= MAX_FAILURES:
            self._give_up(item, error)
        else:
            log.warning("%s failed, and will be tried again: %s", item.label, error)

    def _give_up(self, item: Item, error: ItemError) -> None:
        log.warning("%s failed: %s", item.label, error)
        item.fail(str(error), permanent=error.permanent)
