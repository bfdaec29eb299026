"""Waiting for the next handful of work of a batch, in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from typing import Any

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.client.clock import MAX_CLOCK_DIFFERENCE
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.client.token_bucket import TokenBucket, token_buckets
from airflow_provider_amzbiz.durable_create import cancel_newest
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.base import WaitingTrigger, run_in_thread
from airflow_provider_amzbiz.triggers.connections import wait_for_hook
from airflow_provider_amzbiz.triggers.listing import Created
from airflow_provider_amzbiz.triggers.permits import wait_for_permits
from airflow_provider_amzbiz.triggers.poller import poller
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)

# Permits to wait for before a worker is asked for: few enough that they do not overflow the API's own bucket
# while a worker is found, and many enough that workers are rarely needed.
_HANDFUL = 10
# Reports that one event tells of; the rest is told by the next one.
_MOST_TOLD = 200
# Seconds that a finished document may wait for others, when there is nothing to create.
HOLD = 120.0


class BatchTrigger(WaitingTrigger):
    """Fires when there is work for a worker: permits to create, or finished reports to move, or the deadline.

    The event is a dict with ``status``: ``go_on`` with ``permits`` (operation to number), ``reports`` (those that
    ended, each as :meth:`.Report.to_dict`) and ``errors`` (report id to :meth:`.AmazonBusinessError.to_dict`), or
    ``error`` with ``error``.

    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param creates: how many reports are still to be created.
    :param running: id, type and earliest creation time (ISO 8601) of each report to wait for.
    :param adopted: ids of those that were taken from a listing, which are never cancelled.
    :param documents: how many finished documents wait to be moved already.
    :param poke_interval: seconds between two looks.
    :param deadline: Unix time at which to fire at the latest.
    :param not_before: Unix time before which there is no use, after a fault.
    :param refused: operations that were answered 429 although there was a permit.
    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    """

    def __init__(
        self,
        *,
        amazon_business_conn_id: str,
        creates: int,
        running: list[list[str]],
        documents: int,
        poke_interval: float,
        deadline: float,
        not_before: float = 0.0,
        refused: list[str] | None = None,
        not_found_grace_until: float = 0.0,
        adopted: list[str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.amazon_business_conn_id = amazon_business_conn_id
        self.creates = creates
        self.running = running
        self.documents = documents
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.not_before = not_before
        self.refused = refused or []
        self.not_found_grace_until = not_found_grace_until
        self.adopted = adopted or []

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and what a triggerer needs to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "amazon_business_conn_id": self.amazon_business_conn_id,
                "creates": self.creates,
                "running": self.running,
                "documents": self.documents,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "not_before": self.not_before,
                "refused": self.refused,
                "not_found_grace_until": self.not_found_grace_until,
                "adopted": self.adopted,
            },
        )

    async def wait(self) -> dict[str, Any]:
        """Wait until there is work, and say which."""
        await asyncio.sleep(max(min(self.not_before, self.deadline) - time.time(), 0.0))
        hook = await wait_for_hook(self.amazon_business_conn_id, self.deadline)
        buckets = token_buckets(hook.client.config)
        for operation in self.refused:
            buckets[operation].throttled()
        return await _Gathering(self, buckets["createReport"], buckets["getReportDocument"]).gather()

    async def on_kill(self) -> None:
        """Cancel what is still IN_QUEUE, as far as the limit of cancelReport goes, the newest first."""
        newest_first = [each[0] for each in reversed(self.running) if each[0] not in self.adopted]
        await run_in_thread(cancel_newest, self.amazon_business_conn_id, newest_first)


class _Gathering:
    """One wait of a batch: what has come together so far."""

    def __init__(self, trigger: BatchTrigger, creating: TokenBucket, moving: TokenBucket) -> None:
        self._trigger = trigger
        self._creating = creating
        self._moving = moving
        self._news: asyncio.Queue[tuple[str, Report | AmazonBusinessError] | None] = asyncio.Queue()
        self._reports: dict[str, Report] = {}
        self._errors: dict[str, AmazonBusinessError] = {}
        self._waits: list[Subscription] = []
        self._ready = trigger.documents
        self._ready_since = time.monotonic()

    async def gather(self) -> dict[str, Any]:
        trigger = self._trigger
        shared = await poller(trigger.amazon_business_conn_id, trigger.deadline)
        waits = self._waits = [self._wait(*each) for each in trigger.running]
        for wait in waits:
            shared.join(wait)
        queueing = None
        creates = min(trigger.creates, _handful(self._creating))
        if creates:
            queueing = asyncio.create_task(wait_for_permits(self._creating, "createReport", creates))
            queueing.add_done_callback(lambda _: self._news.put_nowait(None))
        try:
            while not (queueing and queueing.done()) and not self._enough():
                await self._hear(self._patience())
            permits = {"createReport": creates if queueing and queueing.done() else 0}
            permits["getReportDocument"] = await self._permits_to_move(wait=queueing is None)
            while not self._news.empty():
                await self._hear(0)
        finally:
            if queueing:
                queueing.cancel()
            for wait in waits:
                shared.leave(wait)
        return {
            "status": "go_on",
            "permits": permits,
            "reports": [report.to_dict() for report in list(self._reports.values())[:_MOST_TOLD]],
            "errors": {report_id: error.to_dict() for report_id, error in self._errors.items()},
        }

    def _wait(self, report_id: str, report_type: str, created: str) -> Subscription:
        # The request was sent at most one distance of clocks after this, and responded to within minutes.
        earliest = datetime.fromisoformat(created)
        wait = Subscription(
            report_id=report_id,
            amazon_business_conn_id=self._trigger.amazon_business_conn_id,
            poke_interval=self._trigger.poke_interval,
            not_found_grace_until=self._trigger.not_found_grace_until,
            report_type=report_type,
            created=Created(earliest, earliest + 3 * MAX_CLOCK_DIFFERENCE),
        )
        wait.on_update = lambda news: self._news.put_nowait((report_id, news))
        return wait

    def _enough(self) -> bool:
        left = len(self._trigger.running) - len(self._reports) - len(self._errors)
        if time.time() >= self._trigger.deadline:
            return True
        if self._trigger.creates:
            # The permits to create come soon enough.
            return False
        held = time.monotonic() - self._ready_since
        return left == 0 or self._ready >= _handful(self._moving) or (self._ready > 0 and held >= HOLD)

    def _patience(self) -> float:
        left = self._trigger.deadline - time.time()
        if self._ready and not self._trigger.creates:
            left = min(left, self._ready_since + HOLD - time.monotonic())
        return max(left, 0.05)

    async def _hear(self, seconds: float) -> None:
        try:
            news = await asyncio.wait_for(self._news.get(), seconds) if seconds else self._news.get_nowait()
        except TimeoutError:
            return
        if news is None:
            return
        report_id, told = news
        if isinstance(told, Report):
            if told.is_terminal:
                metrics.report_ended(told.processing_status)
                self._reports[report_id] = told
            if told.processing_status == ProcessingStatus.DONE:
                self._ready_since = self._ready_since if self._ready else time.monotonic()
                self._ready += 1
        elif any(wait.finished for wait in self._waits if wait.report_id == report_id):
            self._errors[report_id] = told

    async def _permits_to_move(self, *, wait: bool) -> int:
        wanted = min(self._ready, _handful(self._moving))
        if not wanted:
            return 0
        left = self._trigger.deadline - time.time()
        if not wait or left <= 0:
            return self._moving.take_up_to(wanted)
        try:
            await asyncio.wait_for(wait_for_permits(self._moving, "getReportDocument", wanted), left)
        except TimeoutError:
            return 0
        return wanted


def _handful(bucket: TokenBucket) -> int:
    return max(min(_HANDFUL, bucket.burst * 2 // 3), 1)
