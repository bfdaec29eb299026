"""The five operations of the Reports API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.sandbox import validation
from airflow_provider_amzbiz.sandbox.answers import Answer, good, invalid, not_found
from airflow_provider_amzbiz.sandbox.state import SandboxAccount, SandboxReport, new_report

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.clock import Clock
    from airflow_provider_amzbiz.sandbox.storage import Storage

# Amazon keeps reports in the listing for so long.
_RETENTION = timedelta(days=90)


class Operations:
    """Carries out the operations for an account that has been let in.

    :param queue_seconds: sandbox seconds that a report is IN_QUEUE.
    :param processing_seconds: sandbox seconds that it is IN_PROGRESS after that.
    :param not_found_seconds: sandbox seconds for which getReport does not know a new report.
    """

    def __init__(
        self,
        clock: Clock,
        storage: Storage,
        *,
        queue_seconds: float,
        processing_seconds: float,
        not_found_seconds: float,
    ) -> None:
        self._clock = clock
        self._storage = storage
        self._queue_seconds = queue_seconds
        self._processing_seconds = processing_seconds
        self._not_found = timedelta(seconds=not_found_seconds)

    def create_report(self, account: SandboxAccount, body: bytes) -> Answer:
        """Spec, createReport."""
        asked = validation.create_body(body, self._clock.now())
        report = new_report(
            self._clock,
            report_type=asked["reportType"],
            marketplace_ids=asked["marketplaceIds"],
            report_options=asked["reportOptions"],
            window=asked["window"],
            queue_seconds=self._queue_seconds,
            processing_seconds=self._processing_seconds,
            script=account.next_script(),
        )
        account.add(report)
        return good({"reportId": report.report_id}, 202)

    def get_report(self, account: SandboxAccount, report_id: str) -> Answer:
        """Spec, getReport."""
        report = self._report(account, report_id)
        if self._clock.now() - report.created_time < self._not_found:
            raise not_found()
        return good(report.to_api())

    def get_reports(self, account: SandboxAccount, query: str) -> Answer:
        """Spec, getReports: newest first."""
        asked = validation.list_query(query)
        token = asked.get("nextToken")
        if token is None:
            found = [each for each in account.reports.values() if self._matches(each, asked)]
            found.sort(key=lambda each: each.created_time, reverse=True)
            left, size = [each.report_id for each in found], asked["pageSize"]
        elif token in account.pages:
            left, size = account.pages[token]
        else:
            # What a token that was not percent-encoded is answered with.
            raise invalid(None, None)
        answer: dict[str, Any] = {"reports": [account.reports[each].to_api() for each in left[:size]]}
        if left[size:]:
            answer["nextToken"] = account.keep_page(left[size:], size)
        return good(answer)

    def cancel_report(self, account: SandboxAccount, report_id: str) -> Answer:
        """Spec, cancelReport: only what is IN_QUEUE."""
        report = self._report(account, report_id)
        if report.status != "IN_QUEUE":
            raise invalid(f"Report {report_id} is {report.status} and cannot be cancelled")
        report.cancelled = True
        return Answer(200)

    def get_report_document(self, account: SandboxAccount, document_id: str) -> Answer:
        """Spec, getReportDocument."""
        for report in account.reports.values():
            if report.document_id == document_id and report.has_document:
                return good(self._storage.describe(report))
        raise invalid(f"Invalid reportDocumentId {document_id}")

    def _report(self, account: SandboxAccount, report_id: str) -> SandboxReport:
        if report_id not in account.reports:
            raise not_found()
        return account.reports[report_id]

    def _matches(self, report: SandboxReport, asked: dict[str, Any]) -> bool:
        kept = self._clock.now() - _RETENTION
        since: datetime = max(asked["createdSince"] or kept, kept)
        until: datetime = asked["createdUntil"] or self._clock.now()
        return (
            report.report_type in asked["reportTypes"]
            and (not asked["processingStatuses"] or report.status in asked["processingStatuses"])
            and (not asked["marketplaceIds"] or bool(set(asked["marketplaceIds"]) & set(report.marketplace_ids)))
            and since <= report.created_time <= until
        )
