"""Creating a report once per intent, although the API cannot be told that two requests mean the same.

An answer that was lost leaves open whether there is a report. Without options a report shows everything that it
was asked with, so that the one report which fits and is younger than the request is adopted. Options are shown
nowhere: two invoices look the same, so such a report is never taken from a listing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AnswerLostError,
    InvalidInputError,
    ReportNotFoundError,
    ThrottledError,
)

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.request import ReportRequest
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

log = logging.getLogger(__name__)

# Seconds to wait before each look into the listing for a report whose id was lost.
LOOKUP_PAUSES = (3.0, 15.0)
# Seconds for which getReport may not know a report that createReport has just made.
NOT_FOUND_GRACE = 120.0
# What the API's clock is known to, its times being shown in whole seconds.
_CLOCK_ERROR = timedelta(seconds=2)
# How far back the listing is asked for, before the API's clock is known.
_CLOCKS_APART = timedelta(minutes=15)
_USELESS = (ProcessingStatus.FATAL, ProcessingStatus.CANCELLED)
# Of marketplaces, the most that getReports can be asked for (spec, getReports).
_MARKETPLACES = 10


class Memory:
    """What a task remembers of its report through retries: Airflow's task state store, from 3.3 on.

    The record is a dict of ``fingerprint``, ``sent_at`` (Unix time), ``report_id``, which is None while the
    request is on its way, and ``earlier``, whether an earlier try has made the report.

    :param context: the task's context; where it has no store, nothing is remembered.
    :param durable: whether to remember at all.
    """

    KEY = "amazon_business_report"

    def __init__(self, context: Mapping[str, Any], *, durable: bool) -> None:
        self._store = context.get("task_state_store") if durable else None

    def recall(self, request: ReportRequest) -> Mapping[str, Any] | None:
        """Return the record of an equal request."""
        record = None if self._store is None else self._store.get(self.KEY)
        if not isinstance(record, dict) or record.get("fingerprint") != request.fingerprint:
            return None
        return record

    def is_earlier(self, request: ReportRequest) -> bool:
        """Tell whether the report on record is that of an earlier try."""
        return bool((self.recall(request) or {}).get("earlier"))

    def note(
        self, request: ReportRequest, report_id: str | None, sent_at: float, *, earlier: bool = False
    ) -> None:
        """Write the record.

        :param earlier: whether the report is that of an earlier try.
        """
        if self._store is not None:
            record = {"fingerprint": request.fingerprint, "sent_at": sent_at, "report_id": report_id}
            self._store.set(self.KEY, {**record, "earlier": earlier})

    def forget(self) -> None:
        """Drop the record, so that a cleared task makes a new report."""
        if self._store is not None:
            self._store.delete(self.KEY)


def create(sender: AmazonBusinessHook, hook: AmazonBusinessHook, request: ReportRequest, memory: Memory) -> str:
    """Create a report, and see to it that a lost answer does not make two; return its id.

    :param sender: creates.
    :param hook: looks for what may have been created.
    :raises ThrottledError: the sender may not wait for a permit; nothing was created.
    :raises AnswerLostError: two answers in a row were lost.
    """
    sent_at = time.time()
    memory.note(request, None, sent_at)
    try:
        report_id = sender.send(request)
    except ThrottledError:
        memory.forget()
        raise
    except AnswerLostError as error:
        # From here on the record stays, whatever happens: there may be a report.
        report_id = find_lost(hook, request, sent_at, str(error)) or sender.send(request)
    try:
        memory.note(request, report_id, sent_at)
    except Exception as error:  # noqa: BLE001
        # Whatever the store's trouble is: failing the task now would lose the id for certain.
        log.warning("Report %s could not be remembered for a retry: %s", report_id, error)
    log.info("Created report %s of type %s", report_id, request.report_type)
    return report_id


def find_lost(hook: AmazonBusinessHook, request: ReportRequest, sent_at: float, why: str) -> str | None:
    """Return the id of the report that a request made whose answer was lost, if there is provably one.

    :param sent_at: Unix time at which the request was sent, or some moments earlier.
    """
    if request.options:
        log.warning("%s. It has options, which no listing shows, so the report is created again", why)
        time.sleep(LOOKUP_PAUSES[0])
        return None
    log.warning("%s. Looking for the report", why)
    for pause in LOOKUP_PAUSES:
        time.sleep(pause)
        found = _fitting(hook, request, datetime.fromtimestamp(sent_at, timezone.utc))
        if len(found) == 1:
            log.info("Report %s was created all the same: going on with it", found[0].report_id)
            return found[0].report_id
        if found:
            ids = [report.report_id for report in found]
            log.warning("It may be any of the reports %s, so the report is created again", ids)
            return None
    log.warning("There is none, so the report is created again")
    return None


def recall(hook: AmazonBusinessHook, request: ReportRequest, memory: Memory) -> tuple[str | None, float]:
    """Return the id of the report that an earlier try of the task created, if it is of use, and its Unix time."""
    record = memory.recall(request)
    if record is None:
        return None, 0.0
    report_id, sent_at = record.get("report_id"), float(record.get("sent_at") or 0)
    if not report_id:
        found = find_lost(hook, request, sent_at, "An earlier try ended while it created its report")
        if found:
            memory.note(request, found, sent_at, earlier=True)
        return found, sent_at
    try:
        report = hook.get_report(report_id)
    except ReportNotFoundError:
        if time.time() < sent_at + NOT_FOUND_GRACE:
            memory.note(request, report_id, sent_at, earlier=True)
            return str(report_id), sent_at
        log.warning("Report %s of an earlier try is no longer known: creating a new one", report_id)
        return None, 0.0
    if report.processing_status in _USELESS:
        log.info("Report %s of an earlier try is %s: creating a new one", report_id, report.processing_status)
        return None, 0.0
    log.info("Going on with report %s of an earlier try, which is %s", report_id, report.processing_status)
    memory.note(request, report_id, sent_at, earlier=True)
    return str(report_id), sent_at


def reuse(hook: AmazonBusinessHook, request: ReportRequest, within: timedelta) -> str | None:
    """Return the id of the newest equal report of the last while, whoever created it.

    :raises InvalidInputError: the request has options, which no listing shows.
    """
    if request.options:
        raise InvalidInputError(
            f"reuse_within is {within} and report_options is {dict(request.options)}, but only a report without "
            "options can be recognized; leave one of them out"
        )
    found = _fitting(hook, request, datetime.now(timezone.utc) - within)
    if not found:
        return None
    newest = found[0]
    log.info(
        "Reusing report %s of %s, which is %s", newest.report_id, newest.created_time, newest.processing_status
    )
    return newest.report_id


def cancel_quietly(hook: AmazonBusinessHook, report_id: str) -> None:
    """Cancel a report if that is still possible; never fail, because it is part of ending a task."""
    try:
        if hook.cancel_report(report_id):
            log.info("Cancelled report %s", report_id)
        else:
            log.info("Report %s was no longer in the queue, so it was not cancelled", report_id)
    except AmazonBusinessError as error:
        log.warning("Report %s could not be cancelled: %s", report_id, error)


def _fitting(hook: AmazonBusinessHook, request: ReportRequest, since: datetime) -> list[Report]:
    """Return the useful reports of a request since a time of this machine's clock, newest first."""
    marketplaces = request.body["marketplaceIds"]
    listed = list(
        hook.get_reports(
            report_types=[request.report_type],
            marketplace_ids=marketplaces if len(marketplaces) <= _MARKETPLACES else None,
            created_since=since - _CLOCKS_APART,
        )
    )
    # Known better than before: the answer came with the API's time.
    earliest = since + timedelta(seconds=hook.client.clock_offset) - _CLOCK_ERROR
    return [
        report
        for report in listed
        if request.fits(report) and report.created_time >= earliest and report.processing_status not in _USELESS
    ]
