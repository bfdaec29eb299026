"""The five operations of the Reports API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.sandbox import invoices, validation
from airflow_provider_amzbiz.sandbox.company_reports import company_report
from airflow_provider_amzbiz.sandbox.reconciliation import ReconciliationSettings
from airflow_provider_amzbiz.sandbox.responses import ApiResponse, good, invalid, not_found
from airflow_provider_amzbiz.sandbox.state import SandboxAccount, SandboxReport, course, new_report

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.clock import Clock
    from airflow_provider_amzbiz.sandbox.storage import Storage


@dataclass
class Behaviour:
    """How reports are processed; :class:`.Sandbox` explains each setting."""

    queue_seconds: float
    processing_seconds: float
    not_found_seconds: float
    listing_lag_seconds: float
    document_lag_seconds: float
    document_days: float
    report_days: float
    repeat_seconds: float
    shared_document_seconds: float
    one_at_a_time: bool
    known_invoices: set[str] | None
    reconciliation: ReconciliationSettings

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and value < 0:
                raise ValueError(f"{name} is {value!r}, but must be at least 0")


class Operations:
    """Carries out the operations for an authenticated account."""

    def __init__(self, clock: Clock, storage: Storage, behaviour: Behaviour) -> None:
        self._clock = clock
        self._storage = storage
        self.behaviour = behaviour

    def create_report(self, account: SandboxAccount, body: bytes) -> ApiResponse:
        """Spec, createReport."""
        now = self._clock.now()
        spec = validation.create_body(body, now, account.region)
        script = account.next_script()
        report = new_report(
            self._clock,
            course(spec["reportOptions"], self.behaviour.queue_seconds, self.behaviour.processing_seconds, script),
            report_type=spec["reportType"],
            marketplace_ids=spec["marketplaceIds"],
            report_options=spec["reportOptions"],
            window=spec["window"],
        )
        if script is None:
            self._decide(account, report)
        account.add(report)
        if self.behaviour.one_at_a_time:
            account.line_up(now)
        return good({"reportId": report.report_id}, 202)

    def get_report(self, account: SandboxAccount, report_id: str) -> ApiResponse:
        """Spec, getReport."""
        report = self._report(account, report_id)
        if report.age < timedelta(seconds=self.behaviour.not_found_seconds):
            raise not_found()
        return good(report.to_api())

    def get_reports(self, account: SandboxAccount, query: str) -> ApiResponse:
        """Spec, getReports: newest first."""
        filters = validation.list_query(query, account.region)
        token = filters.get("nextToken")
        if token is None:
            found = [each for each in account.reports.values() if self._matches(each, filters)]
            found.sort(key=lambda each: each.created_time, reverse=True)
            left, size = [each.report_id for each in found], filters["pageSize"]
        elif token in account.pages:
            left, size = account.pages[token]
        else:
            # The response to a token that was not percent-encoded.
            raise invalid(None, None)
        response: dict[str, Any] = {"reports": [account.reports[each].to_api() for each in left[:size]]}
        if left[size:]:
            response["nextToken"] = account.keep_page(left[size:], size)
        return good(response)

    def cancel_report(self, account: SandboxAccount, report_id: str) -> ApiResponse:
        """Spec, cancelReport: only what is IN_QUEUE."""
        report = self._report(account, report_id)
        if report.status != "IN_QUEUE":
            raise invalid(f"Report {report_id} is {report.status} and cannot be cancelled")
        report.cancelled = True
        if self.behaviour.one_at_a_time:
            account.line_up(self._clock.now())
        return ApiResponse(200)

    def get_report_document(self, account: SandboxAccount, document_id: str) -> ApiResponse:
        """Spec, getReportDocument."""
        for report in account.reports.values():
            if report.document_id == document_id and self._has_document(report):
                return good(self._storage.describe(report))
        raise invalid(f"Invalid reportDocumentId {document_id}")

    def _decide(self, account: SandboxAccount, report: SandboxReport) -> None:
        """Choose the outcome that Amazon would choose, for a report without a script."""
        known = self.behaviour.known_invoices
        is_invoice = report.report_type == invoices.INVOICE
        has_no_data = is_invoice and not invoices.has_data(report.report_options, known)
        if is_invoice and account.company is not None and report.outcome == "DONE":
            report.document = company_report(
                account.company, report.marketplace_ids[0], report.report_options, report.created_time
            )
            is_in_books = report.document is not None or invoices.chooses_outcome(report.report_options)
            has_no_data = not is_in_books and (known is None or has_no_data)
        if report.report_type in validation.SIBLING_TYPES:
            report.outcome = "FATAL"
        elif has_no_data or self._earlier(account, report, self.behaviour.repeat_seconds):
            report.outcome = "CANCELLED"
        elif same := self._earlier(account, report, self.behaviour.shared_document_seconds):
            report.document_id, report.document = same.document_id, same.document

    def _earlier(self, account: SandboxAccount, report: SandboxReport, seconds: float) -> SandboxReport | None:
        """Return a report of an equal request of the last ``seconds`` that is or may become DONE."""
        if not seconds:
            return None
        for other in account.reports.values():
            counts = other.outcome == "DONE" and not other.cancelled
            if counts and other.age < timedelta(seconds=seconds) and other.equals(report):
                return other
        return None

    def _report(self, account: SandboxAccount, report_id: str) -> SandboxReport:
        report = account.reports.get(report_id)
        if report is None or not self._is_kept(report):
            raise not_found()
        return report

    def _is_kept(self, report: SandboxReport) -> bool:
        return report.age <= timedelta(days=self.behaviour.report_days)

    def _has_document(self, report: SandboxReport) -> bool:
        known_at = report.ends + timedelta(seconds=self.behaviour.document_lag_seconds)
        is_kept = report.age <= timedelta(days=self.behaviour.document_days)
        return report.has_document and is_kept and self._clock.now() >= known_at

    def _matches(self, report: SandboxReport, filters: dict[str, Any]) -> bool:
        since: datetime = filters["createdSince"] or report.created_time
        until: datetime = filters["createdUntil"] or self._clock.now()
        return (
            report.report_type in filters["reportTypes"]
            and (not filters["processingStatuses"] or report.status in filters["processingStatuses"])
            and (
                not filters["marketplaceIds"] or bool(set(filters["marketplaceIds"]) & set(report.marketplace_ids))
            )
            and since <= report.created_time <= until
            and self._is_kept(report)
            and report.age >= timedelta(seconds=self.behaviour.listing_lag_seconds)
        )
