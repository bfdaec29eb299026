"""The five operations of the Reports API 2021-09-30."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import (
    NotFoundError,
    RequestRejectedError,
    ResponseLostError,
    UnavailableError,
)
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report, ReportDocument
from airflow_provider_amzbiz.client.report_listing import list_query, read_page, read_pages
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.client.transport import Transport

_REPORTS = "/reports/2021-09-30/reports"
_DOCUMENTS = "/reports/2021-09-30/documents"
# Pauses in seconds between attempts to cancel a report that is not found: the API may not know a new one yet.
CANCEL_GRACE = (2.0, 5.0)

# Amazon's static sandbox creates the first and then returns the second; no other account has such ids.
_STATIC_SANDBOX = ("ID323", "ReportId1")

# Fingerprints of the requests that this process has sent, by account and report id.
_created: dict[tuple[str, str, str], dict[str, str]] = {}


class ReportsClient:
    """Calls the API for one account; threads may share it.

    :param config: where and as whom.
    :param retry_for: seconds for which one call may be repeated after a transient error; 0 sends it once.
    :param max_throttle_wait: seconds that one call may wait for a permit; 0 calls at once or raises.
    :param on_token: receives each access token before it is first used, so that it can be masked in logs.
    :param listener: receives what happens to calls, for metrics.
    :param stopped: called at least once a second while a call waits, and before anything is sent; when it returns
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
        """Seconds by which the API's clock is ahead of this machine's, by its last response, to a second."""
        return self._transport.clock_offset

    def grant(self, operation: str, permits: int = 1) -> None:
        """Take over permits that were acquired elsewhere: as many calls do not queue again."""
        self._transport.grant(operation, permits)

    def token(self) -> str:
        """Return the current access token, requesting one where there is none."""
        return self._transport.token()

    def create_report(
        self,
        report_type: str,
        marketplace_ids: str | Iterable[str] | None,
        *,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Create a report and return its id; the parameters are those of :meth:`.ReportRequest.of`."""
        request = ReportRequest.of(
            report_type,
            marketplace_ids,
            data_start_time=data_start_time,
            data_end_time=data_end_time,
            report_options=report_options,
            endpoint=self.config.endpoint,
        )
        return self.send(request)

    def send(self, request: ReportRequest, *, on_sending: Callable[[], None] | None = None) -> str:
        """Create a report (spec, createReport) and return its id.

        :param on_sending: called right before each time the HTTP request goes out, so that the caller can record
            when it was really sent: after the wait for a permit, and again for each repetition.
        :raises ResponseLostError: a report may have been created, but its id did not arrive. The API
            cannot recognize a repeated request for the same report, so it is not sent again here.
        """
        try:
            response = self._transport.call(
                "createReport", "POST", _REPORTS, body=dict(request.body), repeatable=False, on_sending=on_sending
            )
            report_id = response.get("reportId") if isinstance(response, dict) else None
            if not isinstance(report_id, str) or not report_id:
                raise UnavailableError("createReport returned no report id", operation="createReport")
            self._created[report_id] = request.fingerprint
        except UnavailableError as error:
            if error.operation == "token":
                raise
            raise ResponseLostError(
                f"{error}. The report may have been created all the same, and creating it again would "
                "create it twice; search for it with getReports before you do",
                operation="createReport",
                status=error.status,
                code=error.code,
                details=error.details,
                request_id=error.request_id,
            ) from error
        return report_id

    def is_of_another_request(self, report_id: str, request: ReportRequest) -> bool:
        """Return whether this process created a report for another request, whose options no listing shows."""
        return self._created.get(report_id, request.fingerprint) != request.fingerprint

    def get_report(self, report_id: str) -> Report:
        """Return one report (spec, getReport).

        :raises UnavailableError: the response is about another report.
        """
        report_id = parameters.required_id("report_id", report_id)
        report = Report.from_api(self._transport.call("getReport", "GET", _path(_REPORTS, "report_id", report_id)))
        if report.report_id != report_id and (report_id, report.report_id) != _STATIC_SANDBOX:
            # Its status, or worse its document, must not be taken for those of the report in question.
            raise UnavailableError(
                f"getReport returned report {report.report_id!r} instead of {report_id!r}", operation="getReport"
            )
        return report

    def get_reports(
        self,
        *,
        report_types: str | Iterable[str] | None = None,
        processing_statuses: str | Iterable[str] | None = None,
        marketplace_ids: str | Iterable[str] | None = None,
        page_size: int = 100,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        next_token: str | None = None,
    ) -> Iterator[Report]:
        """Return an iterator over all reports that match, page after page (spec, getReports).

        A filter that is not allowed is an error at once. Each page is one call, made when the iterator reaches it.

        :param report_types: 1 to 10 types; required unless ``next_token`` is given.
        :param processing_statuses: only reports in these statuses.
        :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces.
        :param page_size: reports per call, 1 to 100.
        :param created_since: earliest creation time; by default 90 days ago.
        :param created_until: latest creation time; by default now.
        :param next_token: continue from an earlier response; it contains the filters, which must not be given too.
        """
        query = list_query(
            endpoint=self.config.endpoint,
            report_types=report_types,
            processing_statuses=processing_statuses,
            marketplace_ids=marketplace_ids,
            page_size=page_size,
            created_since=created_since,
            created_until=created_until,
            next_token=next_token,
        )
        return read_pages(self._transport, query)

    def get_reports_page(
        self,
        *,
        report_types: str | Iterable[str] | None = None,
        processing_statuses: str | Iterable[str] | None = None,
        marketplace_ids: str | Iterable[str] | None = None,
        page_size: int = 100,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        next_token: str | None = None,
    ) -> tuple[list[Report], str | None]:
        """Return one page of :meth:`get_reports`, and the token of the next one, None on the last one."""
        query = list_query(
            endpoint=self.config.endpoint,
            report_types=report_types,
            processing_statuses=processing_statuses,
            marketplace_ids=marketplace_ids,
            page_size=page_size,
            created_since=created_since,
            created_until=created_until,
            next_token=next_token,
        )
        return read_page(self._transport, query)

    def cancel_report(self, report_id: str) -> bool:
        """Cancel a report (spec, cancelReport): only while it is IN_QUEUE.

        :return: True if it is now cancelled; False if it was no longer IN_QUEUE.
        """
        path = _path(_REPORTS, "report_id", report_id)

        def attempt() -> bool:
            try:
                # A successful response has no body.
                self._transport.call("cancelReport", "DELETE", path, read=lambda _: None)
                return True
            except RequestRejectedError as error:
                # The spec has no error of its own for "too late", so the status of the report decides.
                report = self.get_report(report_id)
                if report.processing_status == ProcessingStatus.IN_QUEUE:
                    raise error
                # Where the response to an earlier attempt was lost, that attempt cancelled the report.
                return error.attempts > 1 and report.processing_status == ProcessingStatus.CANCELLED

        retrying = Retrying(
            # A report that was just created may be unknown for some seconds, as users of the API report.
            retry=retry_if_exception_type(NotFoundError),
            wait=wait_chain(*(wait_fixed(pause) for pause in CANCEL_GRACE)),
            stop=stop_after_attempt(len(CANCEL_GRACE) + 1),
            sleep=lambda seconds: self._transport.sleep("cancelReport", seconds),
            reraise=True,
        )
        return retrying(attempt)

    def get_report_document(self, report_document_id: str) -> ReportDocument:
        """Return a document's URL, which is valid for five minutes (spec, getReportDocument)."""
        path = _path(_DOCUMENTS, "report_document_id", report_document_id)
        return ReportDocument.from_api(self._transport.call("getReportDocument", "GET", path))


def _path(base: str, name: str, value: str) -> str:
    return f"{base}/{quote(parameters.required_id(name, value), safe='')}"
