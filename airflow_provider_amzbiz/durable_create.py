"""Creating a report once per intent, although the API cannot be told that two requests mean the same.

A lost response leaves open whether there is a report. Without options a report shows everything that it was asked
with, so that the one report which fits, and which was created while the request was under way, is adopted. Options
are shown nowhere: two invoices look the same, so such a report is never taken from a listing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    InvalidInputError,
    ReportNotFoundError,
    ResponseLostError,
    TaskKilledError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.request import ReportRequest

log = logging.getLogger(__name__)

# Seconds to wait before each look-up of a report whose id was lost, because the listing may show it late.
LOOKUP_PAUSES = (3.0, 15.0)
# Seconds for which getReport may not know a report that createReport has just made.
NOT_FOUND_GRACE = 120.0
# Seconds that a cancellation may wait for its permit, and repeat itself, when its task is being ended.
CANCEL_SECONDS = 15.0
# Seconds after it was sent in which the API may still carry out the request of a process that died.
_CARRIED_OUT_SECONDS = 120.0
# Precision of the API's clock: its times have whole seconds.
_CLOCK_ERROR = timedelta(seconds=2)
# How far this machine's clock and the API's may differ, before the first response.
_CLOCKS_APART = timedelta(minutes=15)
# Documents are kept for 30 days (facts, 0), and reading one takes its time.
MAX_REUSE = timedelta(days=30)
_DOCUMENT_MARGIN = timedelta(hours=1)
_USELESS = (ProcessingStatus.FATAL, ProcessingStatus.CANCELLED)
_USEFUL = ("IN_QUEUE", "IN_PROGRESS", "DONE")
# Maximum marketplaces per getReports call (spec, getReports).
_MAX_MARKETPLACES = 10

# Unix times between which a request was under way; the second is None while it is, or if its process died.
Sent = list[float | None]


class CreateRecord:
    """What a task remembers of its report: through retries in Airflow's task state store, from 3.3 on.

    The record is a dict of ``fingerprint``, ``report_id`` (None while it is not known), ``sent`` (a list of
    :data:`Sent`, one for each request that may have created a report), ``lookups`` (how often the listing was
    searched for it), ``earlier`` (whether an earlier attempt of the task created it), ``adopted`` (whether the
    report was taken from a listing) and ``waiting_since`` (Unix time from which the task's timeout counts).

    :param context: the task's context; without a store, only this process and its deferrals remember.
    :param durable: whether to remember at all.
    :param carried: the record that a deferral has brought along.
    """

    KEY = "amazon_business_report"

    def __init__(
        self, context: Mapping[str, Any], *, durable: bool, carried: Mapping[str, Any] | None = None
    ) -> None:
        self.durable = durable
        self._store = context.get("task_state_store") if durable else None
        self._record: Mapping[str, Any] | None = carried if durable else None
        self._adopted = False

    def load(self, request: ReportRequest) -> dict[str, Any] | None:
        """Return the record of an equal request."""
        record = self._record
        if self._store is not None:
            with _store_errors("read"):
                record = self._store.get(self.KEY)
        if not isinstance(record, Mapping) or record.get("fingerprint") != request.fingerprint:
            return None
        return dict(record)

    def is_earlier(self, request: ReportRequest) -> bool:
        """Tell whether the report on record is that of an earlier attempt."""
        return bool((self.load(request) or {}).get("earlier"))

    def is_adopted(self, request: ReportRequest) -> bool:
        """Tell whether the report was taken from a listing, so that it may be somebody else's."""
        return self._adopted or bool((self.load(request) or {}).get("adopted"))

    def save(self, request: ReportRequest, **values: Any) -> None:
        """Write the record: what is given, and of an equal request's record the rest."""
        # Known here even where the store fails: nothing that was adopted may be cancelled.
        self._adopted = values.get("adopted", self._adopted)
        if not self.durable:
            return
        empty: dict[str, Any] = {
            "report_id": None,
            "sent": [],
            "lookups": 0,
            "earlier": False,
            "adopted": False,
            "waiting_since": None,
        }
        record = {**empty, **(self.load(request) or {}), **values, "fingerprint": request.fingerprint}
        if self._store is not None:
            with _store_errors("written"):
                self._store.set(self.KEY, record)
        self._record = record

    def clear(self) -> None:
        """Drop the record, so that a cleared task makes a new report."""
        if self._store is not None:
            with _store_errors("written"):
                self._store.delete(self.KEY)
        self._record, self._adopted = None, False

    def begin_attempt(self, request: ReportRequest) -> None:
        """Have a report that a previous attempt did not find looked up again."""
        record = self.load(request)
        if record and not record.get("report_id"):
            self.save(request, lookups=0)


@contextmanager
def _store_errors(done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001
        # Before a request is sent, so that nothing is created that nobody knows of.
        raise AmazonBusinessError(f"Airflow's task state store could not be {done}: {error}") from None


def create(
    sender: AmazonBusinessHook, hook: AmazonBusinessHook, request: ReportRequest, record: CreateRecord
) -> str:
    """Create a report, and see to it that a lost response does not make two; return its id.

    :param sender: creates.
    :param hook: looks up what may have been created.
    :raises ThrottledError: one of the hooks may not wait for a permit; its ``operation`` tells for which.
    :raises ResponseLostError: two responses in a row were lost.
    """
    sent: list[Sent] = list((record.load(request) or {}).get("sent", ()))
    lost, report_id = "", None
    try:
        report_id = _send(sender, request, record, sent)
    except ResponseLostError as error:
        lost = str(error)
    if lost:
        # Not where the error is being handled: what fails here would show it as its context.
        report_id = find_lost(hook, request, sent, lost, record)
    if report_id is None:
        report_id = _send(sender, request, record, sent)
    try:
        record.save(request, report_id=report_id)
    except AmazonBusinessError as error:
        # Whatever the store's trouble is: failing the task now would lose the id for certain.
        log.warning("Report %s could not be remembered for a retry: %s", report_id, error)
    log.info("Created report %s of type %s", report_id, request.report_type)
    return report_id


def _send(sender: AmazonBusinessHook, request: ReportRequest, record: CreateRecord, sent: list[Sent]) -> str:
    """Send a request, and keep on record when, as long as it may have created a report.

    :param sent: gets the time of this request; what was there before stays.
    """
    before = len(sent)

    def on_sending() -> None:
        # A request that is repeated had no effect, so that only the last one counts.
        sent[before:] = [[time.time(), None]]
        record.save(request, sent=sent, lookups=0, adopted=False)

    try:
        return sender.send(request, on_sending=on_sending)
    except ResponseLostError:
        sent[before:] = [[each[0], time.time()] for each in sent[before:]]
        record.save(request, sent=sent)
        raise
    except AmazonBusinessError:
        # Throttled, refused or never connected: there is no report of it.
        del sent[before:]
        _forget_refused(request, record, sent)
        raise


def _forget_refused(request: ReportRequest, record: CreateRecord, earlier: list[Sent]) -> None:
    """Take a request that created nothing off the record; what the API said of it counts more than the store."""
    try:
        if earlier:
            record.save(request, sent=earlier)
        else:
            record.clear()
    except AmazonBusinessError as error:
        log.warning("%s. A retry will look for a report that was never created", error)


def find_lost(
    hook: AmazonBusinessHook, request: ReportRequest, sent: Sequence[Sent], why: str, record: CreateRecord
) -> str | None:
    """Return the id of the report that a request made whose response was lost, if there is provably one.

    :param sent: when the requests that may have made it were under way.
    :raises ThrottledError: the hook may not wait for a permit of getReports; the next call continues.
    """
    if not request.is_recognizable:
        log.warning("%s. It has options, which no listing shows, so the report is created again", why)
        return None
    log.warning("%s. Looking it up in the listing", why)
    done = (record.load(request) or {}).get("lookups", 0)
    for lookup, pause in list(enumerate(LOOKUP_PAUSES, 1))[done:]:
        _sleep(hook, pause if _is_recent(sent) else 0.0)
        found = _created_while_sent(hook, request, sent)
        record.save(request, lookups=lookup)
        if len(found) == 1:
            log.info("Report %s was created all the same: continuing with it", found[0].report_id)
            record.save(request, adopted=True)
            return found[0].report_id
        if found:
            ids = [report.report_id for report in found]
            log.warning("It may be any of the reports %s, so the report is created again", ids)
            return None
    log.warning("There is none, so the report is created again")
    return None


def resume(hook: AmazonBusinessHook, request: ReportRequest, record: CreateRecord) -> str | None:
    """Return the id of the report that an earlier attempt of the task created, if it is still of use."""
    saved = record.load(request)
    if saved is None:
        return None
    report_id, sent = saved.get("report_id"), saved.get("sent", [])
    if not report_id:
        why = "An earlier attempt ended while it created its report"
        found = find_lost(hook, request, sent, why, record) if sent else None
        if found:
            record.save(request, report_id=found, earlier=True)
        return found
    try:
        report = hook.get_report(report_id)
    except ReportNotFoundError:
        if any(time.time() < (since or 0.0) + NOT_FOUND_GRACE for since, _ in sent):
            record.save(request, earlier=True)
            return str(report_id)
        log.warning("Report %s of an earlier attempt is no longer known: creating a new one", report_id)
        record.clear()
        return None
    if report.processing_status in _USELESS:
        log.info("Report %s of an earlier attempt is %s: creating a new one", report_id, report.processing_status)
        record.clear()
        return None
    log.info("Continuing with report %s of an earlier attempt, which is %s", report_id, report.processing_status)
    record.save(request, earlier=True)
    return str(report_id)


def check_reuse(within: timedelta | None) -> None:
    """Refuse a ``reuse_within`` that cannot be meant.

    :raises InvalidInputError: it is neither None nor a timedelta above 0 and of at most 30 days.
    """
    if within is not None and not (isinstance(within, timedelta) and timedelta(0) < within <= MAX_REUSE):
        raise InvalidInputError(
            f"reuse_within is {within!r}, but must be None, or a timedelta above 0 and of at most the "
            f"{MAX_REUSE.days} days for which Amazon keeps documents"
        )


def reuse(
    hook: AmazonBusinessHook, request: ReportRequest, within: timedelta, progress: MutableMapping[str, Any]
) -> str | None:
    """Return the id of the newest equal report of the last while, whoever created it.

    :param progress: where an earlier call was throttled; kept up to date here.
    :raises InvalidInputError: the request has options, which no listing shows.
    :raises ThrottledError: the hook may not wait for a permit of getReports; the next call continues.
    """
    if not request.is_recognizable:
        raise InvalidInputError(
            f"reuse_within is {within}, but no listing shows options, so that a report of type "
            f"{request.report_type} with report_options {dict(request.options)} cannot be recognized; leave "
            "reuse_within out"
        )
    now = datetime.now(timezone.utc)
    filters: dict[str, Any] = {
        **_filters(request),
        "processing_statuses": _USEFUL,
        "created_since": now - within - _CLOCKS_APART,
    }
    while True:
        token = progress.get("next_token")
        try:
            page = hook.get_reports_page(**({"next_token": token} if token else filters))
        except InvalidInputError as error:
            if not token or progress.get("restarted"):
                raise
            # A token may have expired while the task waited for its permit, which may take days.
            log.warning("%s. The listing is read from its first page again", error)
            progress.update(next_token=None, restarted=True)
            continue
        reports, progress["next_token"] = page
        earliest = now - min(within, MAX_REUSE - _DOCUMENT_MARGIN) + timedelta(seconds=hook.clock_offset)
        for report in reports:
            if report.created_time >= earliest - _CLOCK_ERROR and _is_useful(hook, request, report):
                log.info(
                    "Reusing report %s of %s, which is %s",
                    report.report_id,
                    report.created_time,
                    report.processing_status,
                )
                return report.report_id
        if not progress["next_token"]:
            progress["done"] = True
            return None


def cancel_quietly(amazon_business_conn_id: str, report_id: str, *, mask_access_tokens: bool = False) -> bool:
    """Cancel a report if that is still possible, within some seconds.

    It never fails, because it is part of ending a task.

    :return: whether it is cancelled now.
    """
    hook = AmazonBusinessHook.with_time_limit(
        amazon_business_conn_id, CANCEL_SECONDS, mask_access_tokens=mask_access_tokens
    )
    return _cancel(hook, report_id)


def cancel_newest(amazon_business_conn_id: str, report_ids: Iterable[str]) -> None:
    """Cancel as many reports as the limit of cancelReport allows at once, in the order given; never fail."""
    hook = AmazonBusinessHook.for_trigger(amazon_business_conn_id)
    try:
        left = hook.token_bucket("cancelReport").burst
    except AmazonBusinessError as error:
        log.warning("The reports are not cancelled: %s", error)
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
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if hook.stopped():
            raise TaskKilledError("The task was ended while it looked up its report; a retry continues")
        time.sleep(min(left, 0.5))


def _is_recent(sent: Sequence[Sent]) -> bool:
    """Tell whether the listing may not show yet what these requests have made."""
    return any(time.time() < (until or since or 0.0) + sum(LOOKUP_PAUSES) for since, until in sent)


def _created_while_sent(hook: AmazonBusinessHook, request: ReportRequest, sent: Sequence[Sent]) -> list[Report]:
    """Return the useful reports of a request that were created while it was under way."""
    spans = [(since, until or since + _CARRIED_OUT_SECONDS) for since, until in sent if since]
    if not spans:
        return []
    listed = _listed_around(hook, request, spans)
    # Known better than before: the response came with the API's time.
    offset = timedelta(seconds=hook.clock_offset)
    times = [
        (_time(since) + offset - _CLOCK_ERROR, _time(until) + offset + _CLOCK_ERROR) for since, until in spans
    ]
    return [
        report
        for report in listed
        if any(since <= report.created_time <= until for since, until in times)
        and _is_useful(hook, request, report)
    ]


def _listed_around(
    hook: AmazonBusinessHook, request: ReportRequest, spans: Sequence[tuple[float, float]]
) -> list[Report]:
    """List the reports of some spans of this machine's time, and again where the API's clock is far from it."""
    first, last = min(since for since, _ in spans), max(until for _, until in spans)
    past = last + 2 * _CLOCKS_APART.seconds < time.time()

    def listed(offset: float) -> list[Report]:
        return list(
            hook.get_reports(
                **_filters(request),
                created_since=_time(first + offset) - _CLOCKS_APART,
                created_until=_time(last + offset) + _CLOCKS_APART if past else None,
            )
        )

    assumed = hook.clock_offset
    found: list[Report] = []
    try:
        found = listed(assumed)
    except InvalidInputError:
        # Perhaps a time in the API's future.
        if not _is_far(hook.clock_offset - assumed):
            raise
    # A first response tells the API's time; before it, the clocks were taken to agree.
    return listed(hook.clock_offset) if _is_far(hook.clock_offset - assumed) else found


def _is_far(seconds: float) -> bool:
    """Tell whether clocks are further apart than a listing allows for; half of that is left for what drifts."""
    return abs(seconds) > _CLOCKS_APART.seconds / 2


def _filters(request: ReportRequest) -> dict[str, Any]:
    marketplaces = request.body["marketplaceIds"]
    return {
        "report_types": [request.report_type],
        "marketplace_ids": marketplaces if len(marketplaces) <= _MAX_MARKETPLACES else None,
    }


def _is_useful(hook: AmazonBusinessHook, request: ReportRequest, report: Report) -> bool:
    return (
        request.fits(report)
        and report.processing_status not in _USELESS
        and not hook.is_of_another_request(report.report_id, request)
    )


def _time(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, timezone.utc)
