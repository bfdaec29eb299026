"""The five operations of the Reports API 2021-09-30."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from airflow_provider_amzbiz.client import marketplaces, parameters
from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import (
    InvalidParameterError,
    NotFoundError,
    RequestRejectedError,
    ResponseLostError,
    UnavailableError,
)
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report, ReportDocument
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.client.transport import Transport

_REPORTS = "/reports/2021-09-30/reports"
_DOCUMENTS = "/reports/2021-09-30/documents"
# Seconds after which a report that cannot be cancelled, because nobody knows it, is cancelled again.
CANCEL_GRACE = (2.0, 5.0)

# Fingerprints of the requests that this process has sent, by account and report id.
_created: dict[tuple[str, str, str], dict[str, str]] = {}


class ReportsClient:
    """Calls the API for one account; may be shared by threads.

    :param config: where and as whom.
    :param retry_for: seconds that one call may go on repeating itself after a transient error.
    :param max_throttle_wait: seconds that one call may wait for a permit; 0 calls at once or not at all.
    :param on_token: told each access token before it is first used, so that it can be masked in logs.
    :param listener: told about calls, for metrics.
    :param stopped: asked at least once a second while a call waits, and before anything is sent; when it returns
        True, the call raises :class:`.StoppedError`. By default never.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        retry_for: float = 120.0,
        max_throttle_wait: float = 3600.0,
        on_token: Callable[[str], None] = lambda _: None,
        listener: CallListener | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self._created = _created.setdefault(config.identity, {})
        self._transport = Transport(
            config,
            retry_for=retry_for,
            max_throttle_wait=max_throttle_wait,
            on_token=on_token,
            listener=listener or CallListener(),
            stopped=stopped,
        )

    @property
    def transport(self) -> Transport:
        """The transport, for the other APIs of the same account."""
        return self._transport

    @property
    def clock_offset(self) -> float:
        """Seconds by which the API's clock is ahead of this machine's, by its last answer; right to a second."""
        return self._transport.clock_offset

    def grant(self, operation: str, count: int = 1) -> None:
        """Hand over permits that somebody else queued for: so many calls do not queue again."""
        self._transport.grant(operation, count)

    def token(self) -> str:
        """Return the current access token, getting one where there is none."""
        return self._transport.token()

    def create_report(self, report_type: str, marketplace_ids: str | Iterable[str] | None, **others: Any) -> str:
        """Ask for a report and return its id; parameters as :meth:`.ReportRequest.of` takes them."""
        endpoint = self.config.endpoint
        return self.send(ReportRequest.of(report_type, marketplace_ids, endpoint=endpoint, **others))

    def send(self, request: ReportRequest, *, on_sending: Callable[[], None] | None = None) -> str:
        """Ask for a report (spec, createReport) and return its id.

        :param on_sending: called right before each time the HTTP request goes out, so that the caller can record
            when it was really sent: after the wait for a permit, and again for each repetition.
        :raises ResponseLostError: a report may have been made, but its id did not arrive. Nothing tells the
            API that a second request means the same report, so it is not sent again here.
        """
        try:
            answer = self._transport.call(
                "createReport", "POST", _REPORTS, body=dict(request.body), repeatable=False, on_sending=on_sending
            )
            report_id = answer.get("reportId") if isinstance(answer, dict) else None
            if not isinstance(report_id, str) or not report_id:
                raise UnavailableError("createReport was answered without an id", operation="createReport")
            self._created[report_id] = request.fingerprint
        except UnavailableError as error:
            if error.operation == "token":
                raise
            raise ResponseLostError(
                f"{error}. The report may have been created all the same, and creating it again would "
                "create it twice; look for it with getReports before you do",
                operation="createReport",
                status=error.status,
                code=error.code,
                details=error.details,
                request_id=error.request_id,
            ) from error
        return report_id

    def is_of_another_request(self, report_id: str, request: ReportRequest) -> bool:
        """Tell whether this process created a report for another request, whose options no listing shows."""
        return self._created.get(report_id, request.fingerprint) != request.fingerprint

    def get_report(self, report_id: str) -> Report:
        """Return one report (spec, getReport)."""
        answer = self._transport.call("getReport", "GET", _path(_REPORTS, "report_id", report_id))
        return Report.from_api(answer)

    def get_reports(self, *, next_token: str | None = None, **filters: Any) -> Iterator[Report]:
        """Yield all reports that match, page after page (spec, getReports).

        Each page is one call, made when the iterator reaches it.

        :param next_token: go on from an earlier answer; the filters are in it and may not be given too.
        :param filters: as :func:`list_query` takes them.
        """
        # Filters that are not allowed are an error now, and not when the first page is asked for.
        return self._pages(self._list_query(next_token, **filters), next_token)

    def get_reports_page(
        self, *, next_token: str | None = None, **filters: Any
    ) -> tuple[list[Report], str | None]:
        """Return one page of reports, and the token of the next one, if there is one."""
        return self._page(self._list_query(next_token, **filters), next_token)

    def _list_query(self, next_token: str | None, **filters: Any) -> str:
        if given := filters.get("marketplace_ids"):
            filters["marketplace_ids"] = parameters.listed_marketplace_ids(given)
            marketplaces.check_region(filters["marketplace_ids"], self.config.endpoint)
        return list_query(next_token, **filters)

    def _pages(self, query: str, next_token: str | None) -> Iterator[Report]:
        while True:
            reports, next_token = self._page(query, next_token)
            yield from reports
            if next_token is None:
                return
            # Not checked as a user's is: whatever the API gives is what it wants back.
            query = _query({"nextToken": next_token})

    def _page(self, query: str, asked: str | None) -> tuple[list[Report], str | None]:
        answer = self._transport.call("getReports", "GET", _REPORTS, query=query)
        if not isinstance(answer, dict) or not isinstance(answer.get("reports"), list):
            raise UnavailableError("getReports was answered without a list of reports", operation="getReports")
        following = answer.get("nextToken") or None
        if following is not None and not (isinstance(following, str) and following.isascii()):
            raise UnavailableError(
                "getReports was answered with a nextToken that is no ASCII string", operation="getReports"
            )
        if following is not None and following == asked:
            raise UnavailableError(
                "getReports answers with the same nextToken again and again", operation="getReports"
            )
        return [Report.from_api(each) for each in answer["reports"]], following

    def cancel_report(self, report_id: str) -> bool:
        """Cancel a report (spec, cancelReport): only what is IN_QUEUE can be cancelled.

        :return: True when it is cancelled now; False when it was no longer IN_QUEUE.
        """
        path = _path(_REPORTS, "report_id", report_id)
        for pause in CANCEL_GRACE:
            try:
                return self._cancel(path, report_id)
            except NotFoundError:
                # A report that was just created may be unknown for some seconds (facts, 8).
                self._transport.sleep("cancelReport", pause)
        return self._cancel(path, report_id)

    def _cancel(self, path: str, report_id: str) -> bool:
        try:
            # A successful response has no body.
            self._transport.call("cancelReport", "DELETE", path, read=lambda _: None)
            return True
        except RequestRejectedError as refused:
            # The spec has no error of its own for "too late", so the report itself has to tell.
            report = self.get_report(report_id)
            if report.processing_status == ProcessingStatus.IN_QUEUE:
                raise refused
            # Where an earlier try's answer was lost, it is that try which cancelled the report.
            return refused.tries > 1 and report.processing_status == ProcessingStatus.CANCELLED

    def get_report_document(self, report_document_id: str) -> ReportDocument:
        """Return where a document lies, for five minutes (spec, getReportDocument)."""
        path = _path(_DOCUMENTS, "report_document_id", report_document_id)
        return ReportDocument.from_api(self._transport.call("getReportDocument", "GET", path))


def list_query(
    next_token: str | None,
    *,
    report_types: str | Iterable[str] | None = None,
    processing_statuses: str | Iterable[str] | None = None,
    marketplace_ids: str | Iterable[str] | None = None,
    page_size: int = 100,
    created_since: datetime | str | None = None,
    created_until: datetime | str | None = None,
) -> str:
    """Return the query of getReports: its checked filters, or an earlier answer's token alone."""
    if next_token not in (None, ""):
        if report_types or processing_statuses or marketplace_ids or created_since or created_until:
            raise InvalidParameterError("next_token is given together with filters, but must be given alone")
        return _query({"nextToken": parameters.required_text("next_token", next_token)})
    since, until = parameters.window(
        ("created_since", created_since), ("created_until", created_until), past=False
    )
    return _query(
        {
            "reportTypes": parameters.report_types(report_types),
            "processingStatuses": (
                None if processing_statuses is None else parameters.processing_statuses(processing_statuses)
            ),
            "marketplaceIds": (
                None if marketplace_ids is None else parameters.listed_marketplace_ids(marketplace_ids)
            ),
            "pageSize": str(parameters.page_size(page_size)),
            "createdSince": since,
            "createdUntil": until,
        }
    )


def _path(base: str, name: str, value: str) -> str:
    return f"{base}/{quote(parameters.required_id(name, value), safe='')}"


def _query(values: Mapping[str, str | list[str] | None]) -> str:
    """Encode a query: lists comma separated, everything else strictly, so that ``+/=`` survive."""
    parts = []
    for name, value in values.items():
        if value is not None:
            several = [value] if isinstance(value, str) else value
            parts.append(f"{name}=" + ",".join(quote(each, safe="") for each in several))
    return "?" + "&".join(parts)
