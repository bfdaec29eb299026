"""Creating one report per task, although createReport has no idempotency key.

A lost response leaves open whether there is a report. A report without options shows everything that it was
requested with. If exactly one report matches, and it was created while the request was in progress, the task
adopts it. No listing shows options, so two invoices look the same, and such a report is never adopted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.client.models import USELESS
from airflow_provider_amzbiz.client.sleeping import interruptible_sleep
from airflow_provider_amzbiz.create_record import CreateRecord, Sent
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ReportNotFoundError,
    ResponseLostError,
    TaskKilledError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.report_search import find_created_while_sent

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.request import ReportRequest

__all__ = [
    "CreateRecord",
    "Sent",
    "cancel_newest",
    "cancel_quietly",
    "create",
    "find_lost",
    "resume",
]

log = logging.getLogger(__name__)

# Seconds to wait before each look-up of a report whose id was lost, because the listing may show it late.
LOOKUP_PAUSES = (3.0, 15.0)
# Seconds for which getReport may not know a report that createReport has just created.
NOT_FOUND_GRACE = 120.0
# Seconds after which a cancellation sends nothing more, because its task is being ended.
CANCEL_SECONDS = 15.0


def create(
    sender: AmazonBusinessHook, hook: AmazonBusinessHook, request: ReportRequest, record: CreateRecord
) -> str:
    """Create a report, and make sure that a lost response does not create two; return the report id.

    :param sender: creates.
    :param hook: looks up what may have been created.
    :raises ThrottledError: one of the hooks may not wait for a permit; ``operation`` names the call.
    :raises ResponseLostError: two responses in a row were lost.
    """
    sent: list[Sent] = list((record.load(request) or {}).get("sent", ()))
    lost, report_id = "", None
    try:
        report_id = _send(sender, request, record, sent)
    except ResponseLostError as error:
        lost = str(error)
    if lost:
        # After the except clause: an error raised inside it would show the first one as its context.
        report_id = find_lost(hook, request, sent, lost, record)
    if report_id is None:
        report_id = _send(sender, request, record, sent)
    try:
        record.save(request, report_id=report_id)
    except AmazonBusinessError as error:
        # Failing the task now would certainly lose the id.
        log.warning("Report %s could not be recorded for a retry: %s", report_id, error)
    log.info("Created report %s of type %s%s", report_id, request.report_type, _in_brackets(request.summary))
    return report_id


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _send(sender: AmazonBusinessHook, request: ReportRequest, record: CreateRecord, sent: list[Sent]) -> str:
    """Send a request; the record shows when, for as long as the request may have created a report.

    :param sent: the times of previous requests; this request's time is appended.
    """
    before = len(sent)

    def on_sending() -> None:
        # The client repeats only a request that had no effect, so the last one alone counts.
        sent[before:] = [[time.time(), None]]
        record.save(request, sent=sent, lookups=0, adopted=False)

    try:
        return sender.send(request, on_sending=on_sending)
    except ResponseLostError:
        sent[before:] = [[each[0], time.time()] for each in sent[before:]]
        record.save(request, sent=sent)
        raise
    except AmazonBusinessError:
        # Throttled, rejected or never connected: it created no report.
        del sent[before:]
        _discard_rejected(request, record, sent)
        raise


def _discard_rejected(request: ReportRequest, record: CreateRecord, previous: list[Sent]) -> None:
    """Remove a request that created nothing from the record.

    A store that fails is only logged: the error that the caller raises is the one that matters.
    """
    try:
        if previous:
            record.save(request, sent=previous)
        else:
            record.clear()
    except AmazonBusinessError as error:
        log.warning("%s. A retry will search for a report that was never created", error)


def find_lost(
    hook: AmazonBusinessHook,
    request: ReportRequest,
    sent: Sequence[Sent],
    why: str,
    record: CreateRecord,
    taken: Collection[str] = (),
) -> str | None:
    """Return the id of the report that was created by a request whose response was lost.

    :param sent: when the requests that may have created it were in progress.
    :param why: what happened, for the log.
    :param taken: ids of reports that are known to be of other requests.
    :return: the id; None where there is no report, or where it cannot be told from others.
    :raises ThrottledError: the hook may not wait for a permit of getReports; the next call continues.
    """
    if not request.is_recognizable:
        log.warning("%s. No listing shows its options, so the report is created again", why)
        return None
    log.warning("%s. Searching the listing for it", why)
    done = (record.load(request) or {}).get("lookups", 0)
    for lookup, pause in list(enumerate(LOOKUP_PAUSES, 1))[done:]:
        _sleep(hook, pause if _is_recent(sent) else 0.0)
        found = [each for each in find_created_while_sent(hook, request, sent) if each.report_id not in taken]
        record.save(request, lookups=lookup)
        if len(found) == 1:
            log.info("Report %s was created nevertheless: continuing with it", found[0].report_id)
            record.save(request, adopted=True)
            return found[0].report_id
        if found:
            ids = [report.report_id for report in found]
            log.warning("It may be any of the reports %s, so the report is created again", ids)
            return None
    log.warning("The listing does not have it, so the report is created again")
    return None


def resume(hook: AmazonBusinessHook, request: ReportRequest, record: CreateRecord) -> str | None:
    """Return the id of the report that a previous attempt of the task created, None where it is not usable.

    :raises ThrottledError: the hook may not wait for a permit; the next call continues.
    """
    saved = record.load(request)
    if saved is None:
        return None
    report_id, sent = saved.get("report_id"), saved.get("sent", [])
    if not report_id:
        why = "A previous attempt ended while it created its report"
        found = find_lost(hook, request, sent, why, record) if sent else None
        if found:
            record.save(request, report_id=found, from_previous_attempt=True)
        return found
    try:
        report = hook.get_report(report_id)
    except ReportNotFoundError:
        if any(time.time() < (since or 0.0) + NOT_FOUND_GRACE for since, _ in sent):
            record.save(request, from_previous_attempt=True)
            return str(report_id)
        log.warning("Report %s of a previous attempt is no longer known to the API: creating a new one", report_id)
        record.clear()
        return None
    if report.processing_status in USELESS:
        log.info("Report %s of a previous attempt is %s: creating a new one", report_id, report.processing_status)
        record.clear()
        return None
    log.info("Continuing with report %s of a previous attempt, which is %s", report_id, report.processing_status)
    record.save(request, from_previous_attempt=True)
    return str(report_id)


def cancel_quietly(amazon_business_conn_id: str, report_id: str, *, mask_access_tokens: bool = False) -> bool:
    """Cancel a report while it is IN_QUEUE; send nothing after :data:`CANCEL_SECONDS`, and never raise.

    :param mask_access_tokens: False in a triggerer; see :class:`.AmazonBusinessHook`.
    :return: whether it is cancelled now.
    """
    hook = AmazonBusinessHook.with_time_limit(
        amazon_business_conn_id, CANCEL_SECONDS, mask_access_tokens=mask_access_tokens
    )
    until = time.monotonic() + CANCEL_SECONDS
    # The limit of the hook is that of each call, and a cancellation may take several.
    hook.stopped = lambda: time.monotonic() >= until
    return _cancel(hook, report_id)


def cancel_newest(amazon_business_conn_id: str, report_ids: Iterable[str]) -> None:
    """Cancel as many reports as the limit of cancelReport allows at once, in the order given; never raise."""
    hook = AmazonBusinessHook.for_trigger(amazon_business_conn_id)
    try:
        left = hook.token_bucket("cancelReport").burst
    except AmazonBusinessError as error:
        log.warning("The reports could not be cancelled: %s", error)
        return
    until = time.monotonic() + CANCEL_SECONDS
    for report_id in report_ids:
        if left <= 0 or time.monotonic() >= until:
            return
        left -= 1
        _cancel(hook, report_id)


def _cancel(hook: AmazonBusinessHook, report_id: str) -> bool:
    try:
        cancelled = hook.cancel_report(report_id)
    except AmazonBusinessError as error:
        log.warning("Report %s could not be cancelled: %s", report_id, error)
        return False
    if cancelled:
        log.info("Cancelled report %s", report_id)
    else:
        log.info("Report %s was no longer in the queue, so it was not cancelled", report_id)
    return cancelled


def _sleep(hook: AmazonBusinessHook, seconds: float) -> None:
    """Sleep, unless the hook's task is being ended."""

    def check() -> None:
        if hook.stopped():
            raise TaskKilledError("The task was ended while it searched for its report; a retry continues")

    interruptible_sleep(seconds, check)


def _is_recent(sent: Sequence[Sent]) -> bool:
    """Return whether the listing may not show yet what these requests created."""
    return any(time.time() < (until or since or 0.0) + sum(LOOKUP_PAUSES) for since, until in sent)
