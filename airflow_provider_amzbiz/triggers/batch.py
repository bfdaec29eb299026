"""Waiting for the next handful of work of a batch, in the triggerer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.batch.running import RunningReport, unpack
from airflow_provider_amzbiz.client.clock import MAX_CLOCK_DIFFERENCE
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.durable_create import cancel_newest
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, error_from_dict
from airflow_provider_amzbiz.triggers.base import WaitingTrigger, run_in_thread, task_continues
from airflow_provider_amzbiz.triggers.connections import wait_for_hook
from airflow_provider_amzbiz.triggers.events import Event, typed
from airflow_provider_amzbiz.triggers.listing import Created
from airflow_provider_amzbiz.triggers.permits import call_bucket, wait_for_permits
from airflow_provider_amzbiz.triggers.poller import poller
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.token_bucket import AnyBucket

log = logging.getLogger(__name__)

# Permits to wait for before a worker is asked for: few enough that they do not overflow the API's own bucket
# while a worker is found, and many enough that workers are rarely needed.
_HANDFUL = 10
# Reports that one event has; the next one has the rest.
_MAX_REPORTED = 200
# What an event says of the record, with the types that each part may have.
_RECORD: Mapping[str, tuple[type, ...]] = {
    "bucket": (str,),
    "key": (str,),
    "attempt": (str,),
    "stint": (int,),
    "rotation": (int,),
    "amazon_business_conn_id": (str,),
    "aws_conn_id": (str, type(None)),
}
# Seconds that a finished document may wait for others, when there is nothing to create.
HOLD = 120.0


@dataclass(frozen=True)
class BatchReady(Event):
    """There is work for a worker.

    :ivar record: where the record of the batch lies, and what it was when the task deferred.
    :ivar permits: operation id of the API to the number of calls that may be made.
    :ivar reports: those that have ended.
    :ivar errors: by report id, of those that cannot be waited for.
    """

    status = "ready"

    record: Mapping[str, Any]
    permits: Mapping[str, int]
    reports: Sequence[Report]
    errors: Mapping[str, AmazonBusinessError]

    def fields(self) -> dict[str, Any]:
        """Return the fields, JSON-safe."""
        return {
            "record": dict(self.record),
            "permits": dict(self.permits),
            "reports": [report.to_dict() for report in self.reports],
            "errors": {report_id: error.to_dict() for report_id, error in self.errors.items()},
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> BatchReady:
        """Read the fields."""
        permits, errors = typed(fields, "permits", Mapping), typed(fields, "errors", Mapping)
        record = typed(fields, "record", Mapping)
        for name, kinds in _RECORD.items():
            typed(record, name, *kinds)
        return cls(
            record,
            {operation: typed(permits, operation, int) for operation in permits},
            [Report.from_dict(report) for report in typed(fields, "reports", list)],
            {report_id: error_from_dict(dict(typed(errors, report_id, Mapping))) for report_id in errors},
        )


class BatchTrigger(WaitingTrigger):
    """Fires when there is work for a worker: permits to create, finished reports to store, or the deadline.

    The event is a :class:`BatchReady`, or a :class:`.WaitFailed`.

    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param record: where the record of the batch lies, and what it was when the task deferred; the event has it.
    :param creates: how many reports are still to be created.
    :param running: the reports to wait for, as :func:`.batch.running.pack` packs them.
    :param documents: how many finished documents wait to be stored already.
    :param poke_interval: seconds between two polls.
    :param deadline: Unix time at which to fire at the latest.
    :param rotate_at: Unix time at which to fire so that other reports get their turn, if there are others and
        nothing is to be created.
    :param not_before: Unix time before which there is no use, after a fault.
    :param throttled: operations that were throttled (429) although there was a permit.
    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    """

    def __init__(
        self,
        *,
        amazon_business_conn_id: str,
        record: dict[str, Any],
        creates: int,
        running: list[str],
        documents: int,
        poke_interval: float,
        deadline: float,
        rotate_at: float | None = None,
        not_before: float = 0.0,
        throttled: list[str] | None = None,
        not_found_grace_until: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.amazon_business_conn_id = amazon_business_conn_id
        self.record = record
        self.creates = creates
        self.running = running
        self.documents = documents
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.rotate_at = rotate_at
        self.not_before = not_before
        self.throttled = throttled or []
        self.not_found_grace_until = not_found_grace_until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and what a triggerer needs to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "amazon_business_conn_id": self.amazon_business_conn_id,
                "record": self.record,
                "creates": self.creates,
                "running": self.running,
                "documents": self.documents,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "rotate_at": self.rotate_at,
                "not_before": self.not_before,
                "throttled": self.throttled,
                "not_found_grace_until": self.not_found_grace_until,
            },
        )

    async def wait(self) -> BatchReady:
        """Wait until there is work, and return which."""
        await asyncio.sleep(max(min(self.not_before, self.deadline) - time.time(), 0.0))
        hook = await wait_for_hook(self.amazon_business_conn_id, self.deadline)
        for operation in self.throttled:
            bucket = hook.token_bucket(operation)
            # With a limit store, the worker has told it.
            if not bucket.is_shared:
                bucket.throttled()
        return await _BatchWait(
            self, hook.token_bucket("createReport"), hook.token_bucket("getReportDocument")
        ).run()

    async def on_kill(self) -> None:
        """Cancel what is still IN_QUEUE, as far as the limit of cancelReport goes, the newest first.

        Not where another triggerer, or another attempt, has taken over; see :func:`.task_continues`.
        """
        if await task_continues(self):
            return
        newest_first = sorted(unpack(self.running), key=lambda report: report.sent_at, reverse=True)
        own = [report.report_id for report in newest_first if not report.adopted]
        await run_in_thread(cancel_newest, self.amazon_business_conn_id, own)


class _BatchWait:
    """One wait of a batch: what has come together so far."""

    def __init__(self, trigger: BatchTrigger, creating: AnyBucket, storing: AnyBucket) -> None:
        self._trigger = trigger
        self._creating = creating
        self._storing = storing
        self._news: asyncio.Queue[tuple[str, Report | AmazonBusinessError] | None] = asyncio.Queue()
        self._reports: dict[str, Report] = {}
        self._errors: dict[str, AmazonBusinessError] = {}
        self._waits: dict[str, Subscription] = {}
        self._ready = trigger.documents
        self._ready_since = time.monotonic()

    async def run(self) -> BatchReady:
        trigger = self._trigger
        shared = await poller(trigger.amazon_business_conn_id, trigger.deadline)
        first_poll = self._first_poll()
        self._waits = {
            report.report_id: self._subscription(report, first_poll) for report in unpack(trigger.running)
        }
        for wait in self._waits.values():
            shared.join(wait)
        queueing = None
        creates = min(trigger.creates, _handful(self._creating))
        if creates:
            # Another triggerer that takes over from this one gets its place.
            name = "-".join(str(trigger.record.get(each)) for each in ("key", "attempt", "stint"))
            hidden = hashlib.sha256(name.encode()).hexdigest()
            queueing = asyncio.create_task(wait_for_permits(self._creating, "createReport", creates, name=hidden))
            queueing.add_done_callback(lambda _: self._news.put_nowait(None))
        try:
            while not (queueing and queueing.done()) and not self._should_fire():
                await self._receive(self._patience())
            permits = {"createReport": creates if queueing and queueing.done() else 0}
            permits["getReportDocument"] = await self._permits_to_store(wait=queueing is None)
            while not self._news.empty():
                await self._receive(0)
        finally:
            if queueing:
                queueing.cancel()
            for wait in self._waits.values():
                shared.leave(wait)
        return BatchReady(
            trigger.record,
            permits,
            list(self._reports.values())[:_MAX_REPORTED],
            dict(list(self._errors.items())[:_MAX_REPORTED]),
        )

    def _first_poll(self) -> float:
        """Return the seconds until the next poll of the batch, by the clock: each of its waits may be shorter."""
        interval = self._trigger.poke_interval
        # Batches that begin together are not polled together all the time.
        phase = zlib.crc32(str(self._trigger.record.get("key")).encode())
        return interval - (time.time() - phase) % interval

    def _subscription(self, report: RunningReport, first_poll: float) -> Subscription:
        # The request was sent at most one distance of clocks after this, and responded to within minutes.
        earliest = datetime.fromtimestamp(report.sent_at, timezone.utc) - MAX_CLOCK_DIFFERENCE
        wait = Subscription(
            report_id=report.report_id,
            amazon_business_conn_id=self._trigger.amazon_business_conn_id,
            poke_interval=self._trigger.poke_interval,
            not_found_grace_until=self._trigger.not_found_grace_until,
            report_type=report.report_type,
            created=Created(earliest, earliest + 3 * MAX_CLOCK_DIFFERENCE),
            first_poll=first_poll,
        )
        wait.on_update = lambda news: self._news.put_nowait((report.report_id, news))
        return wait

    @property
    def _fires_at(self) -> float:
        if self._trigger.creates or self._trigger.rotate_at is None:
            # Others get their turn with the next permits; a wait that left the queue would be its last again.
            return self._trigger.deadline
        return min(self._trigger.deadline, self._trigger.rotate_at)

    def _should_fire(self) -> bool:
        left = len(self._waits) - len(self._reports) - len(self._errors)
        if time.time() >= self._fires_at:
            return True
        if self._trigger.creates:
            # The permits to create come soon enough.
            return False
        held = time.monotonic() - self._ready_since
        return left == 0 or self._ready >= _handful(self._storing) or (self._ready > 0 and held >= HOLD)

    def _patience(self) -> float:
        left = self._fires_at - time.time()
        if self._ready and not self._trigger.creates:
            left = min(left, self._ready_since + HOLD - time.monotonic())
        return max(left, 0.05)

    async def _receive(self, seconds: float) -> None:
        try:
            news = await asyncio.wait_for(self._news.get(), seconds) if seconds else self._news.get_nowait()
        except TimeoutError:
            return
        if news is None:
            return
        report_id, update = news
        if isinstance(update, Report):
            if update.is_terminal:
                metrics.report_ended(update.processing_status)
                self._reports[report_id] = update
            if update.processing_status == ProcessingStatus.DONE:
                self._ready_since = self._ready_since if self._ready else time.monotonic()
                self._ready += 1
        elif update is self._waits[report_id].ended_by:
            self._errors[report_id] = update

    async def _permits_to_store(self, *, wait: bool) -> int:
        wanted = min(self._ready, _handful(self._storing))
        if not wanted:
            return 0
        left = self._fires_at - time.time()
        if not wait or left <= 0:
            return await call_bucket(self._storing, self._storing.take_up_to, wanted)
        try:
            await asyncio.wait_for(wait_for_permits(self._storing, "getReportDocument", wanted), left)
        except TimeoutError:
            return 0
        return wanted


def _handful(bucket: AnyBucket) -> int:
    return max(min(_HANDFUL, bucket.burst * 2 // 3), 1)
