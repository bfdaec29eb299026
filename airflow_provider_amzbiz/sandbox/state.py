"""The state of the sandbox: accounts and their reports."""

from __future__ import annotations

import base64
import itertools
import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.documents import RawDocument
from airflow_provider_amzbiz.sandbox.marketplaces import REGION_OF
from airflow_provider_amzbiz.sandbox.throttle import Buckets

# Outcome of a report by the beginning of its invoiceId; the longer ones come first.
SCRIPTED_INVOICES: Mapping[str, str] = {
    "NO-DATA": "CANCELLED",
    "FATAL-DOC": "FATAL_WITH_DOCUMENT",
    "FATAL": "FATAL",
}
# Outcomes; any other one is a status that a report has from the beginning and for ever.
OUTCOMES = frozenset({"DONE", "CANCELLED", "FATAL", "FATAL_WITH_DOCUMENT", "DONE_WITHOUT_DOCUMENT"})
_SLOW_FACTOR = 10


@dataclass
class Script:
    """How the next reports are processed; None stands for the sandbox's usual time."""

    outcome: str
    document: RawDocument | None = None
    queue_seconds: float | None = None
    processing_seconds: float | None = None
    extra_fields: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1


@dataclass
class Course:
    """How one report is processed."""

    outcome: str
    queue_seconds: float
    processing_seconds: float
    document: RawDocument | None = None
    extra_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class SandboxReport:
    """A report of the sandbox; its status follows from the clock.

    :ivar ready: its earliest start, after its time in the queue.
    :ivar outcome: DONE, CANCELLED, FATAL, FATAL_WITH_DOCUMENT, DONE_WITHOUT_DOCUMENT, or a status that never
        changes.
    """

    clock: Clock
    report_id: str
    report_type: str
    marketplace_ids: list[str]
    report_options: dict[str, str]
    data_start_time: datetime
    data_end_time: datetime
    created_time: datetime
    ready: datetime
    starts: datetime
    ends: datetime
    outcome: str = "DONE"
    document: RawDocument | None = None
    document_id: str = ""
    cancelled: bool = False
    # Order of creation over all accounts; times do not show it, because reports can be added in the past.
    number: int = field(default_factory=itertools.count().__next__)
    extra_fields: Mapping[str, Any] = field(default_factory=dict)
    # As requested: without a window, each report shows other times.
    window: tuple[datetime | None, datetime | None] = (None, None)

    @property
    def region(self) -> str:
        """Its region; added reports may have marketplaces that do not exist."""
        return next((REGION_OF[each] for each in self.marketplace_ids if each in REGION_OF), "na")

    @property
    def age(self) -> timedelta:
        """Sandbox time since its creation."""
        return self.clock.now() - self.created_time

    def equals(self, other: SandboxReport) -> bool:
        """Return whether both have equal requests."""
        return (self.report_type, self.report_options, self.window, sorted(self.marketplace_ids)) == (
            other.report_type,
            other.report_options,
            other.window,
            sorted(other.marketplace_ids),
        )

    def start_at(self, start: datetime) -> None:
        """Move its processing to another time."""
        self.starts, self.ends = start, start + (self.ends - self.starts)

    @property
    def status(self) -> str:
        """The processing status now."""
        now = self.clock.now()
        if self.cancelled:
            return "CANCELLED"
        if self.outcome not in OUTCOMES:
            return self.outcome
        if now < self.starts:
            return "IN_QUEUE"
        if now < self.ends:
            return "IN_PROGRESS"
        if self.outcome == "DONE_WITHOUT_DOCUMENT":
            return "DONE"
        return "FATAL" if self.outcome == "FATAL_WITH_DOCUMENT" else self.outcome

    @property
    def has_document(self) -> bool:
        """Whether there is a document now."""
        ended = not self.cancelled and self.clock.now() >= self.ends
        return ended and self.outcome in ("DONE", "FATAL_WITH_DOCUMENT")

    def to_api(self) -> dict[str, Any]:
        """Return the Report object, without its options and without fields that are not set."""
        status = self.status
        now = self.clock.now()
        started = status != "IN_QUEUE" and not self.cancelled and now >= self.starts
        ended = self.outcome in OUTCOMES and now >= self.ends
        wire = self.clock.wire
        fields: dict[str, Any] = {
            "reportType": self.report_type,
            "processingStatus": status,
            "marketplaceIds": self.marketplace_ids,
            "reportId": self.report_id,
            "dataStartTime": wire(self.data_start_time),
            "dataEndTime": wire(self.data_end_time),
            "createdTime": wire(self.created_time),
        }
        if started:
            fields["processingStartTime"] = wire(self.starts)
        if started and ended:
            fields["processingEndTime"] = wire(self.ends)
        if self.has_document:
            fields["reportDocumentId"] = self.document_id
        return {**fields, **self.extra_fields}


class SandboxAccount:
    """An application with the consent of one customer.

    :ivar region: the region of the consent; only its marketplaces are served.
    :ivar has_role: whether the application had the role Business Purchase Reconciliation at the consent; without
        it, every operation returns 403.
    """

    def __init__(
        self,
        credentials: Mapping[str, str],
        buckets: Buckets,
        *,
        region: str,
        has_role: bool,
    ) -> None:
        self.client_id = credentials["client_id"]
        self.client_secret = credentials["client_secret"]
        self.refresh_token = credentials["refresh_token"]
        self.buckets = buckets
        self.region = region
        self.has_role = has_role
        self.revoked = False
        self.reports: dict[str, SandboxReport] = {}
        self.pages: dict[str, tuple[list[str], int]] = {}
        self.scripts: list[Script] = []

    def add(self, report: SandboxReport) -> None:
        """Store a report."""
        self.reports[report.report_id] = report

    def line_up(self, now: datetime) -> None:
        """Make the reports that have not started yet start one after the other, in the order of creation."""
        free = now
        for report in self.reports.values():
            if report.cancelled or report.outcome not in OUTCOMES:
                continue
            if report.starts >= now:
                report.start_at(max(report.ready, free))
            free = max(report.ends, free)

    def next_script(self) -> Script | None:
        """Take the script of the next report, if there is one."""
        if not self.scripts:
            return None
        script = self.scripts[0]
        script.times -= 1
        if script.times <= 0:
            self.scripts.pop(0)
        return script

    def keep_page(self, report_ids: list[str], page_size: int) -> str:
        """Return a token for the remaining reports; it has all the characters that need encoding."""
        token = base64.b64encode(b"\xfb\xff\xbf" + os.urandom(31)).decode()
        self.pages[token] = (report_ids, page_size)
        return token


def random_credentials() -> dict[str, str]:
    """Return credentials of Amazon's form."""
    return {
        "client_id": f"amzn1.application-oa2-client.{uuid.uuid4().hex}",
        "client_secret": f"amzn1.oa2-cs.v1.{secrets.token_hex(32)}",
        "refresh_token": f"Atzr|{base64.b64encode(os.urandom(64)).decode()}",
    }


def course(
    report_options: Mapping[str, str], queue_seconds: float, processing_seconds: float, script: Script | None
) -> Course:
    """Return how a new report is processed: by script if there is one, else by its invoice id."""
    invoice = report_options.get("invoiceId", "")
    factor = _SLOW_FACTOR if invoice.startswith("SLOW") else 1
    queue, processing = queue_seconds * factor, processing_seconds * factor
    if script is None:
        outcome = next((end for start, end in SCRIPTED_INVOICES.items() if invoice.startswith(start)), "DONE")
        return Course(outcome, queue, processing)
    return Course(
        script.outcome,
        queue if script.queue_seconds is None else script.queue_seconds,
        processing if script.processing_seconds is None else script.processing_seconds,
        script.document,
        script.extra_fields,
    )


def new_report(
    clock: Clock,
    course: Course,
    *,
    report_type: str,
    marketplace_ids: list[str],
    report_options: dict[str, str],
    window: tuple[datetime | None, datetime | None] = (None, None),
    created: datetime | None = None,
) -> SandboxReport:
    """Return a report as createReport creates it.

    :param created: aware; by default now.
    """
    now = created or clock.now()
    starts = now + timedelta(seconds=course.queue_seconds)
    report = SandboxReport(
        clock=clock,
        report_id=str(secrets.randbelow(9 * 10**10) + 10**10),
        report_type=report_type,
        marketplace_ids=marketplace_ids,
        report_options=report_options,
        data_start_time=window[0] or now,
        data_end_time=window[1] or now,
        created_time=now,
        ready=starts,
        starts=starts,
        ends=starts + timedelta(seconds=course.processing_seconds),
        outcome=course.outcome,
        document=course.document,
        extra_fields=course.extra_fields,
        window=window,
    )
    report.document_id = new_document_id(report.region)
    return report


def new_document_id(region: str) -> str:
    """Return an id in the form of the sibling Selling Partner API."""
    mark = "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(13))
    return f"amzn1.spdoc.1.4.{region}.{uuid.uuid4()}.T{mark}.{secrets.randbelow(9000) + 1000}"
