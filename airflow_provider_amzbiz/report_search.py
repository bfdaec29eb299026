"""Finding the report of a request in the listing: one whose id was lost, or one to reuse.

getReports shows everything that a report was requested with except its options. So only a request without options
is searched for: two invoices look the same in a listing, and nobody may get another's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.clock import CLOCK_PRECISION, MAX_CLOCK_DIFFERENCE
from airflow_provider_amzbiz.client.models import USELESS, ProcessingStatus, Report
from airflow_provider_amzbiz.client.page_tokens import PageTokens
from airflow_provider_amzbiz.exceptions import InvalidInputError, translated_errors

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.request import ReportRequest
    from airflow_provider_amzbiz.create_record import Sent
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

log = logging.getLogger(__name__)

# Seconds after it was sent in which the API may still carry out the request of a process that died.
_CARRIED_OUT_SECONDS = 120.0
# A creation time has whole seconds, and so has the response that the API's clock was read from.
_CLOCK_ERROR = 2 * CLOCK_PRECISION
# Amazon keeps documents for 30 days (Amazon Business API changelog, March 2025), and reading one takes its time.
MAX_REUSE = timedelta(days=30)
_DOCUMENT_MARGIN = timedelta(hours=1)
_USEFUL = [status for status in ProcessingStatus if status not in USELESS]
# Maximum marketplaces per getReports call (spec, getReports).
_MAX_MARKETPLACES = 10


def find_created_while_sent(
    hook: AmazonBusinessHook, request: ReportRequest, sent: Sequence[Sent]
) -> list[Report]:
    """Return the usable reports that may have been created by a request whose response was lost.

    :param sent: when the request was in progress.
    :raises ThrottledError: the hook may not wait for a permit of getReports.
    """
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
        and _is_usable(hook, request, report)
    ]


def check_reuse(within: timedelta | None) -> None:
    """Check ``reuse_within``.

    :raises InvalidInputError: it is neither None nor a timedelta above 0 and of at most 30 days.
    """
    if within is not None and not (isinstance(within, timedelta) and timedelta(0) < within <= MAX_REUSE):
        raise InvalidInputError(
            f"reuse_within is {within!r}, but must be None, or a timedelta above 0 and of at most the "
            f"{MAX_REUSE.days} days for which Amazon keeps documents"
        )


def find_reusable(
    hook: AmazonBusinessHook, request: ReportRequest, within: timedelta, progress: MutableMapping[str, Any]
) -> str | None:
    """Return the id of the newest equal report, whoever created it, if it is not older than ``within``.

    :param progress: where a throttled search continues: ``next_token``, ``seen`` (digests of all tokens),
        ``restarted`` and ``done``, JSON-safe; updated here.
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
        "created_since": hook.api_time() - within - MAX_CLOCK_DIFFERENCE,
    }
    while True:
        page = _next_page(hook, filters, progress)
        # The page shows the API's clock as it is now; the token may be older than its last change.
        earliest = now - min(within, MAX_REUSE - _DOCUMENT_MARGIN) + timedelta(seconds=hook.clock_offset)
        for report in page:
            if report.created_time >= earliest - _CLOCK_ERROR and _is_usable(hook, request, report):
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


def _next_page(
    hook: AmazonBusinessHook, filters: dict[str, Any], progress: MutableMapping[str, Any]
) -> list[Report]:
    while True:
        token, tokens = progress.get("next_token"), PageTokens(progress.get("seen", ()))
        try:
            page, progress["next_token"] = hook.get_reports_page(**({"next_token": token} if token else filters))
            with translated_errors():
                tokens.check(progress["next_token"])
            progress["seen"] = sorted(tokens.seen)
        except InvalidInputError as error:
            if not token or progress.get("restarted"):
                raise
            # A task may wait days for its permit, and the token may have expired meanwhile.
            log.warning("%s. Reading the listing from its first page again", error)
            progress.update(next_token=None, seen=[], restarted=True)
        else:
            return page


def _listed_around(
    hook: AmazonBusinessHook, request: ReportRequest, spans: Sequence[tuple[float, float]]
) -> list[Report]:
    """List the reports of some spans of this machine's time, and again where the API's clock is far from it."""
    first, last = min(since for since, _ in spans), max(until for _, until in spans)
    past = last + 2 * MAX_CLOCK_DIFFERENCE.seconds < time.time()

    def listed(offset: float) -> list[Report]:
        return list(
            hook.get_reports(
                **_filters(request),
                created_since=_time(first + offset) - MAX_CLOCK_DIFFERENCE,
                created_until=_time(last + offset) + MAX_CLOCK_DIFFERENCE if past else None,
            )
        )

    assumed = hook.clock_offset
    found: list[Report] = []
    try:
        found = listed(assumed)
    except InvalidInputError:
        # Perhaps created_since is in the API's future.
        if not _is_far(hook.clock_offset - assumed):
            raise
    # Until the first response shows the API's time, that of its token counts, which may be an hour old.
    return listed(hook.clock_offset) if _is_far(hook.clock_offset - assumed) else found


def _is_far(seconds: float) -> bool:
    """Return whether clocks differ by more than a listing allows for; half of that is left for drift."""
    return abs(seconds) > MAX_CLOCK_DIFFERENCE.seconds / 2


def _filters(request: ReportRequest) -> dict[str, Any]:
    marketplaces = request.body["marketplaceIds"]
    return {
        "report_types": [request.report_type],
        "marketplace_ids": marketplaces if len(marketplaces) <= _MAX_MARKETPLACES else None,
    }


def _is_usable(hook: AmazonBusinessHook, request: ReportRequest, report: Report) -> bool:
    return (
        request.fits(report)
        and report.processing_status not in USELESS
        and not hook.is_of_another_request(report.report_id, request)
    )


def _time(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, timezone.utc)
