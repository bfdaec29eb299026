"""Watching for finished reports, whoever made them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ReportNotFoundError,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.base import run_in_thread
from airflow_provider_amzbiz.triggers.connections import PAUSE, forget, shared_hook
from airflow_provider_amzbiz.triggers.permits import acquire_permits
from airflow_provider_amzbiz.triggers.poll_failures import may_be_outdated

log = logging.getLogger(__name__)

# For so long a new report may be missing in the listing.
_OVERLAP = timedelta(minutes=15)
# How far back a first look searches for reports that are still on their way.
_FIRST_LOOK = timedelta(days=2)
# Amazon forgets a report after so long.
_RETENTION = timedelta(days=90)
# Precision of the API's times.
_SECOND = timedelta(seconds=1)
# Of the reports that are on their way, the oldest are looked at one by one: one that takes for ever would make the
# listing long.
_BY_ONE = 20
# How often a page is asked for, and the seconds after the first refusal.
_PAGE_TRIES = 4
_PAGE_PAUSE = 10.0
# Seconds after which a look that failed is repeated, at most.
_LONGEST_PAUSE = 900.0
# Seconds after which the state store is asked again, if it failed.
_STORE_PAUSE = 10.0
# Seconds that Airflow's triggerer may take to hand an event on to its database.
_HANDED_ON = 3.0
# Seconds in which a scheduler makes the run of an event. An event that comes meanwhile is not given to that run,
# and starts none itself: it waits for the next event (seen on Airflow 3.3.2).
_RUN_MADE = 20.0


@dataclass
class _Watermark:
    """What has been announced.

    A report that was created before ``mark`` has been announced, or is in ``pending``, or will never be DONE. So
    it does not matter in which order reports finish.

    :ivar mark: by the API's clock.
    :ivar pending: creation times of reports that were not finished at the last look, by id.
    :ivar announced: creation times of the announced reports that are not older than the mark, by id.
    """

    mark: datetime
    pending: dict[str, datetime] = field(default_factory=dict)
    announced: dict[str, datetime] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "mark": self.mark.isoformat(),
            "pending": {key: each.isoformat() for key, each in self.pending.items()},
            "announced": {key: each.isoformat() for key, each in self.announced.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> _Watermark:
        parse = datetime.fromisoformat
        return cls(
            parse(values["mark"]),
            {key: parse(each) for key, each in values["pending"].items()},
            {key: parse(each) for key, each in values["announced"].items()},
        )

    def take(self, report: Report) -> bool:
        """Note a report, and tell whether it has to be announced now."""
        waited_for = self.pending.pop(report.report_id, None)
        if waited_for is None and (report.created_time < self.mark or report.report_id in self.announced):
            return False
        if report.processing_status == ProcessingStatus.DONE:
            self.announced[report.report_id] = report.created_time
            return True
        if not report.is_terminal:
            self.pending[report.report_id] = report.created_time
        return False

    def advance(self, now: datetime, listed: Iterable[Report]) -> None:
        """Move the mark to shortly before the time at which a listing was asked for.

        But not past the newest report that was listed: a clock of the API that is ahead for a moment would hide
        the reports created until it is right again.
        """
        newest = max((report.created_time for report in listed), default=self.mark)
        self.mark = max(self.mark, min(now - _OVERLAP, newest))
        self.announced = {key: each for key, each in self.announced.items() if each >= self.mark}
        self.pending = {key: each for key, each in self.pending.items() if each > now - _RETENTION}


class ReportsDoneTrigger(BaseEventTrigger):
    """Yields one event for each report that becomes DONE, whoever made it; for an ``AssetWatcher`` (Airflow 3).

    The event's payload is :meth:`.Report.to_dict`. In a DAG run it is found at
    ``triggering_asset_events[asset][n].extra["payload"]``; one run may be given several events. The last one of
    several that are found at once comes 20 seconds after the others, because Airflow would start no run for it.

    What has been announced is kept in Airflow's asset state store (3.3 and newer), so that a restarted triggerer
    goes on where it was: it misses no report, and announces one again only if it died within half a minute of the
    event, before the record was written. Without the store (Airflow 3.0 to 3.2), ``since`` decides what a restart
    does.

    Each look is one call of getReports for a page of 100 and, for reports that take long, some of getReport. A
    fault of the API, a secret that is refused and a connection that cannot be read are logged; the watch goes on.

    :param report_types: 1 to 10 report types, or one comma-separated text.
    :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces; by default of all.
    :param since: announce the reports that were created at or after this time, an aware datetime or an ISO 8601
        text with an offset. By default those that were not DONE when the watch began.
    :param poll_interval: seconds between two looks.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; its secrets are read in the
        triggerer and not kept here.
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
        # A mistake shows where the DAG is parsed, and never in the triggerer.
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
        """Return the class path and what a triggerer needs to make this trigger again."""
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
        """Yield an event for each new DONE report, for ever."""
        store = _Store(getattr(self, "asset_state_store", None), self._state_key())
        stored = await store.load()
        watermark = _Watermark.from_dict(stored) if stored else None
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
                    await store.save(watermark.to_dict())
                found = await self._look(hook, watermark)
            except AmazonBusinessError as error:
                failures += 1
                if may_be_outdated(error):
                    forget(hook)
                level = logging.ERROR if isinstance(error, AmazonBusinessPermanentError) else logging.WARNING
                log.log(level, "Polling for finished reports failed, the watch continues: %s", error)
                grown = self.poll_interval * 2 ** min(failures - 1, 10)
                await asyncio.sleep(min(grown, max(_LONGEST_PAUSE, self.poll_interval)))
                continue
            failures = 0
            for number, report in enumerate(found, 1):
                if 1 < number == len(found):
                    # The last one starts a run that is given all that the first one's run was not.
                    await asyncio.sleep(_RUN_MADE)
                log.info("Report %s of type %s is DONE", report.report_id, report.report_type)
                yield TriggerEvent(report.to_dict())  # type: ignore[no-untyped-call]
            if found:
                await store.until_handed_on()
            await store.save(watermark.to_dict())
            await asyncio.sleep(self.poll_interval)

    def _state_key(self) -> str:
        """Return the key of what was announced: another filter has a record of its own."""
        watched = [self.amazon_business_conn_id, self.report_types, self.marketplace_ids, self.since]
        return "amazon_business_reports_done_" + hashlib.sha256(json.dumps(watched).encode()).hexdigest()[:16]

    async def _begin(self, hook: AmazonBusinessHook) -> _Watermark:
        """Return the watermark of a watch that begins."""
        if self.since:
            return _Watermark(datetime.fromisoformat(self.since))
        since = datetime.now(timezone.utc) - _FIRST_LOOK
        watermark = _Watermark(since)
        reports, now = await self._listed(hook, since)
        for report in reports:
            # What is DONE by now counts as announced.
            watermark.take(report)
        watermark.advance(now, reports)
        log.info("The watch begins; %s reports are on their way", len(watermark.pending))
        return watermark

    async def _look(self, hook: AmazonBusinessHook, watermark: _Watermark) -> list[Report]:
        """Return the reports that have become DONE, oldest first, and advance the watermark.

        Where it fails, the watermark stays as it was.
        """
        older = sorted(
            (created, report_id) for report_id, created in watermark.pending.items() if created < watermark.mark
        )
        single, others = older[:_BY_ONE], older[_BY_ONE:]
        seen: list[Report] = []
        gone: list[str] = []
        for _, report_id in single:
            try:
                await acquire_permits(hook, "getReport")
                seen.append(await run_in_thread(hook.get_report, report_id))
            except ReportNotFoundError:
                log.warning("Report %s is no longer known, so it is not watched any more", report_id)
                gone.append(report_id)
        # The API shows whole seconds, and a report created in the mark's own second is a new one.
        listed, now = await self._listed(hook, min([watermark.mark, *(created for created, _ in others)]))
        for report_id in gone:
            del watermark.pending[report_id]
        by_age = sorted({each.report_id: each for each in [*seen, *listed]}.values(), key=_created)
        found = [report for report in by_age if watermark.take(report)]
        watermark.advance(now, listed)
        return found

    async def _listed(self, hook: AmazonBusinessHook, since: datetime) -> tuple[list[Report], datetime]:
        """Return all reports since a time, and the API's time when they were asked for.

        Not filtered by status: what is on its way has to be remembered, in a status of the future too.
        """
        asked = datetime.now(timezone.utc)
        reports: list[Report] = []
        arguments: dict[str, Any] = {
            "report_types": self.report_types,
            "marketplace_ids": self.marketplace_ids,
            # Bounded first: there is no time a second before year 1.
            "created_since": max(since, asked - _RETENTION + _SECOND) - _SECOND,
        }
        while True:
            page, token = await self._page(hook, arguments)
            reports += page
            if token is None:
                return reports, asked + timedelta(seconds=hook.clock_offset)
            arguments = {"next_token": token}

    async def _page(self, hook: AmazonBusinessHook, arguments: dict[str, Any]) -> tuple[list[Report], str | None]:
        for tried in range(_PAGE_TRIES):
            await acquire_permits(hook, "getReports")
            try:
                return await run_in_thread(partial(hook.get_reports_page, **arguments))
            except AmazonBusinessPermanentError:
                raise
            except AmazonBusinessError as error:
                if tried == _PAGE_TRIES - 1:
                    raise
                # A fault in the last of many pages should not cost the first ones.
                log.info("%s. The page is asked for again", error)
                await asyncio.sleep(_PAGE_PAUSE * 2**tried)
        raise AssertionError("the loop returns or raises")


class _Store:
    """A value in Airflow's asset state store, where there is one (Airflow 3.3 and newer, one asset)."""

    def __init__(self, accessors: Any, key: str) -> None:
        self._accessors = accessors
        self._key = key

    async def load(self) -> dict[str, Any] | None:
        """Return the value, or None where there is none; wait for a store that fails."""
        while self._accessors is not None:
            try:
                value: dict[str, Any] | None = await self._call("get", self._key)
                return value
            except ValueError as error:
                log.warning(
                    "The watcher forgets what it has announced when it restarts, because several assets share its "
                    "trigger; give each its own, with another poll_interval: %s",
                    error,
                )
                self._accessors = None
            except Exception as error:  # noqa: BLE001
                # To begin without the record would announce reports again, or miss some.
                log.warning("The record of what was announced cannot be read, it is waited for: %s", error)
                await asyncio.sleep(_STORE_PAUSE)
        log.warning("This watch has no state store (Airflow 3.3 and newer, one asset): a restart begins anew")
        return None

    async def save(self, value: dict[str, Any]) -> None:
        """Write the value; if that fails, the next look writes it."""
        if self._accessors is None:
            return
        try:
            await self._call("set", self._key, value)
        except Exception as error:  # noqa: BLE001
            log.warning("What was announced could not be recorded, the next look does so: %s", error)

    async def until_handed_on(self) -> None:
        """Wait until the events have left this process, so that no kill can lose them once they are recorded.

        The triggerer sends events to its parent once a second and does not tell when they have arrived. It does
        serve one request after the other: after a first answer none of before is stuck, after a second one the
        events have gone with what was sent in between.
        """
        for _ in range(2):
            if self._accessors is not None:
                await asyncio.sleep(_HANDED_ON)
                await self.load()

    async def _call(self, method: str, *arguments: Any) -> Any:
        # Airflow 3.3.0 and 3.3.1 have the blocking methods only.
        if hasattr(self._accessors, f"a{method}"):
            return await getattr(self._accessors, f"a{method}")(*arguments)
        return await run_in_thread(getattr(self._accessors, method), *arguments)


def _created(report: Report) -> datetime:
    return report.created_time
