"""Watching for finished reports, whoever created them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from airflow.triggers.base import TriggerEvent
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.clock import CLOCK_PRECISION
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.client.page_tokens import PageTokens
from airflow_provider_amzbiz.compat import BaseEventTrigger
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ReportNotFoundError,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.asset_state import AssetState
from airflow_provider_amzbiz.triggers.base import run_in_thread
from airflow_provider_amzbiz.triggers.connections import PAUSE, forget, shared_hook
from airflow_provider_amzbiz.triggers.permits import acquire_permits
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify, may_be_outdated
from airflow_provider_amzbiz.triggers.watermark import RETENTION, Watermark

log = logging.getLogger(__name__)

# How far back the first poll searches for reports that are in progress.
_FIRST_POLL_RANGE = timedelta(days=2)
# Of the reports in progress, this many of the oldest are polled one by one: a single report that takes very long
# would make every listing long.
_MAX_SINGLE_POLLS = 20
# Attempts to read a page, and the seconds after the first one.
_PAGE_ATTEMPTS = 4
_PAGE_PAUSE = 10.0
# Maximum seconds between polls while they fail, unless the poll_interval is longer.
_LONGEST_PAUSE = 900.0
# Seconds in which a scheduler creates the run of an event. An event that comes meanwhile is not given to that run,
# and starts none itself: it waits for the next event (seen on Airflow 3.3.2).
_RUN_CREATION_SECONDS = 20.0


class ReportsDoneTrigger(BaseEventTrigger):
    """Yields one event for each report that becomes DONE, whoever created it; for an ``AssetWatcher`` (Airflow 3).

    The event's payload is :meth:`.Report.to_dict`. A DAG run has it at
    ``triggering_asset_events[asset][n].extra["payload"]``; one run may receive several events. The last one of
    several that are found at once comes 20 seconds after the others, because Airflow would start no run for it.

    What has been announced is recorded in Airflow's asset state store (3.3 and newer), so that a restarted
    triggerer continues where it stopped: it misses no report. It announces one again only if it died within half a
    minute of the event, before the record was written. Without the store (Airflow 3.0 to 3.2), ``since`` decides
    what a restart does.

    Each poll is one getReports call per page of 100 and, for reports that take long, some getReport calls. A fault
    of the API, rejected credentials and a connection that cannot be read are logged; the watch continues.

    .. seealso:: :doc:`/events`

    :param report_types: 1 to 10 report types, or one comma-separated string.
    :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces; by default all.
    :param since: announce the reports that were created at or after this time, an aware datetime or an ISO 8601
        string with an offset. By default those that were not DONE when the watch began.
    :param poll_interval: seconds, or a timedelta, between two polls; by default 300.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. Its secrets are read in the triggerer and not kept here.
    :raises InvalidInputError: a parameter is not allowed.
    """

    def __init__(
        self,
        *,
        report_types: str | Sequence[str],
        marketplace_ids: str | Sequence[str] | None = None,
        since: datetime | str | None = None,
        poll_interval: timedelta | float = 300.0,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # A mistake fails when the DAG is parsed, and not in the triggerer.
        with translated_errors():
            self.report_types = sorted(parameters.report_types(report_types))
            self.marketplace_ids = (
                None if marketplace_ids is None else sorted(parameters.listed_marketplace_ids(marketplace_ids))
            )
            self.since = None if since is None else parameters.past_time("since", since).isoformat()
            self.amazon_business_conn_id = parameters.required_string(
                "amazon_business_conn_id", amazon_business_conn_id
            )
            self.poll_interval = parameters.seconds("poll_interval", poll_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which a triggerer re-creates this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "report_types": self.report_types,
                "marketplace_ids": self.marketplace_ids,
                "since": self.since,
                "poll_interval": self.poll_interval,
                "amazon_business_conn_id": self.amazon_business_conn_id,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each new DONE report, and never end."""
        state = AssetState(getattr(self, "asset_state_store", None), self._state_key())
        stored = await state.load()
        watermark = Watermark.from_dict(stored) if stored else None
        failures = 0
        while True:
            try:
                hook = await shared_hook(self.amazon_business_conn_id)
            except AmazonBusinessError as error:
                # Somebody may be editing the connection, or Airflow's database may be out of reach.
                log.error("The watch cannot use its connection for the moment: %s", error)
                await asyncio.sleep(min(PAUSE, max(self.poll_interval, 1.0)))
                continue
            try:
                if watermark is None:
                    watermark = await self._begin(hook)
                    await state.save(watermark.to_dict())
                found = await self._poll(hook, watermark)
            except AmazonBusinessError as error:
                failures += 1
                if may_be_outdated(error):
                    forget(hook)
                level = logging.WARNING if _is_transient(error) else logging.ERROR
                log.log(level, "Polling for finished reports failed, the watch continues: %s", error)
                grown = self.poll_interval * 2 ** min(failures - 1, 10)
                await asyncio.sleep(min(grown, max(_LONGEST_PAUSE, self.poll_interval)))
                continue
            failures = 0
            for number, report in enumerate(found, 1):
                if 1 < number == len(found):
                    # The last one starts a run that receives all events that the first one's run did not.
                    await asyncio.sleep(_RUN_CREATION_SECONDS)
                log.info("Report %s of type %s is DONE", report.report_id, report.report_type)
                yield TriggerEvent(report.to_dict())  # type: ignore[no-untyped-call]
            if found:
                await state.wait_for_events()
            await state.save(watermark.to_dict())
            await asyncio.sleep(self.poll_interval)

    def _state_key(self) -> str:
        """Return the key of the record; a watch with another filter has a record of its own."""
        watched = [self.amazon_business_conn_id, self.report_types, self.marketplace_ids, self.since]
        return "amazon_business_reports_done_" + hashlib.sha256(json.dumps(watched).encode()).hexdigest()[:16]

    async def _begin(self, hook: AmazonBusinessHook) -> Watermark:
        """Return the watermark of a watch that begins."""
        if self.since:
            return Watermark(datetime.fromisoformat(self.since))
        since = datetime.now(timezone.utc) - _FIRST_POLL_RANGE
        watermark = Watermark(since)
        reports, now = await self._listed(hook, since)
        for report in reports:
            # A report that is DONE already counts as announced.
            watermark.add(report)
        watermark.advance(now, reports)
        log.info("The watch begins; %s reports are in progress", len(watermark.pending))
        return watermark

    async def _poll(self, hook: AmazonBusinessHook, watermark: Watermark) -> list[Report]:
        """Return the reports that have become DONE, oldest first, and advance the watermark.

        :raises AmazonBusinessError: a call failed; the watermark is unchanged.
        """
        older = sorted(
            (report_id in watermark.unknown, created, report_id)
            for report_id, created in watermark.pending.items()
            if created < watermark.mark
        )
        single, others = older[:_MAX_SINGLE_POLLS], older[_MAX_SINGLE_POLLS:]
        polled: list[Report] = []
        unknown: list[str] = []
        for _, _, report_id in single:
            try:
                await acquire_permits(hook, "getReport")
                polled.append(await run_in_thread(hook.get_report, report_id))
            except ReportNotFoundError as error:
                unknown.append(report_id)
                if report_id not in watermark.unknown:
                    log.warning(
                        "Report %s cannot be polled, the watch of it continues for a day: %s", report_id, error
                    )
            except AmazonBusinessError as error:
                if classify(error) not in (PollFailure.DENIED, PollFailure.REQUEST):
                    raise
                # Where it concerns more than this report, the listing fails, too.
                log.warning("Report %s cannot be polled, the watch of it continues: %s", report_id, error)
        # The API shows whole seconds, so a report that was created in the mark's own second is a new one.
        listed, now = await self._listed(hook, min([watermark.mark, *(created for _, created, _ in others)]))
        for report_id in unknown:
            if watermark.drop_if_gone(report_id, now):
                log.warning("Report %s is no longer known to the API, so the watch drops it", report_id)
        by_age = sorted({each.report_id: each for each in [*polled, *listed]}.values(), key=_created)
        found = [report for report in by_age if watermark.add(report)]
        watermark.advance(now, listed)
        return found

    async def _listed(self, hook: AmazonBusinessHook, since: datetime) -> tuple[list[Report], datetime]:
        """Return all reports since a time, and the API's time when they were requested.

        Not filtered by status: reports in progress must be recorded, also with a status that is not known yet.
        """
        requested = datetime.now(timezone.utc)
        reports: list[Report] = []
        tokens = PageTokens()
        arguments: dict[str, Any] = {
            "report_types": self.report_types,
            "marketplace_ids": self.marketplace_ids,
            # Limited before the subtraction, because no time is a second before year 1.
            "created_since": max(since, requested - RETENTION + CLOCK_PRECISION) - CLOCK_PRECISION,
        }
        while True:
            page, token = await self._page(hook, arguments)
            reports += page
            if token is None:
                return reports, requested + timedelta(seconds=hook.clock_offset)
            with translated_errors():
                tokens.check(token)
            arguments = {"next_token": token}

    async def _page(self, hook: AmazonBusinessHook, arguments: dict[str, Any]) -> tuple[list[Report], str | None]:
        async def read() -> tuple[list[Report], str | None]:
            await acquire_permits(hook, "getReports")
            return await run_in_thread(partial(hook.get_reports_page, **arguments))

        # A fault in the last of many pages should not waste the permits of the first ones.
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(_PAGE_ATTEMPTS),
            wait=wait_exponential(multiplier=_PAGE_PAUSE),
            before_sleep=_log_retry,
            reraise=True,
        )
        return await retrying(read)


def _created(report: Report) -> datetime:
    return report.created_time


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, AmazonBusinessError) and classify(error) is PollFailure.TRANSIENT


def _log_retry(state: RetryCallState) -> None:
    log.info("%s. Requesting the page again", state.outcome.exception() if state.outcome else None)
