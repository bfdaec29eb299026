"""Creating, cancelling and listing reports as tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ReportTimeoutError,
    TaskKilledError,
    ThrottledError,
    about_report,
    error_from_dict,
    translated_errors,
)
from airflow_provider_amzbiz.operators.base import (
    AmazonBusinessOperator,
    QueueingOperator,
    check_rendered,
)
from airflow_provider_amzbiz.report_status import check_on_cancelled, raise_for_status
from airflow_provider_amzbiz.triggers.base import InlineWait
from airflow_provider_amzbiz.triggers.reports import BACKSTOP, ReportStatusTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_amzbiz.client.request import ReportRequest


class CreateReportOperator(QueueingOperator):
    """Asks for a report and returns its id.

    The report is made in Amazon's own time: wait for it with :class:`.ReportStatusSensor`, or here with
    ``wait_for_completion``. Every call makes a new report and costs one of about 0.1 calls a second, so that a
    retry of the task goes on with the report of the try before, if Airflow can remember it (3.3 and newer), if the
    request is the same, and if that report is not FATAL or CANCELLED. A task that succeeded and is cleared makes a
    new report. Where an answer of the API was lost, a report without options is looked for and taken, if there is
    provably one; with options it is created again, because the API does not show options.

    The return value in XCom is the report id, a text.

    A person who ends the task (marks it failed, or clears it while it runs) has the report cancelled, if it is
    IN_QUEUE still; while the task is deferred, that needs Airflow 3.3 or newer.

    :param report_type: such as ``GET_AB_INVOICE_PDF``. (templated)
    :param marketplace_ids: 1 to 25 marketplace ids, or one comma-separated text. By default those of the
        connection. (templated)
    :param data_start_time: start of the data, an aware datetime or an ISO 8601 text with an offset, such as
        ``"{{ data_interval_start }}"``; at or before now. Not all types make use of it. (templated)
    :param data_end_time: end of the data, the same way, not before ``data_start_time``. (templated)
    :param report_options: options of the type, such as ``{"invoiceId": "..."}``: names to texts; numbers and
        booleans are made texts. (templated)
    :param wait_for_completion: whether the task ends only when the report has; see the sensor for what each
        status means.
    :param durable: whether to go on with the report of an earlier try, and to look for one whose answer was lost.
        Without it, the task fails with :class:`.ResponseLostError` then.
    :param reuse_within: take the newest equal report of so long ago, whoever created it, instead of a new one, to
        spare the quota in backfills. Only for requests without options.
    :param deferrable: wait in the triggerer, for the report and for the turn to create it.
    :param on_cancelled: with ``wait_for_completion``, what CANCELLED means: ``"fail"``, ``"skip"``, ``"succeed"``.
    :param poke_interval: with ``wait_for_completion``, seconds between two looks.
    :param timeout: with ``wait_for_completion``, seconds from the creation after which the report is cancelled, if
        that is still possible, and the task fails with :class:`.ReportTimeoutError`, without a retry.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises InvalidInputError: a parameter is not allowed, or the API refused the request; no retry is spent.
    :raises ResponseLostError: a report may have been made, but its id did not arrive.
    :raises ThrottledError: not deferrable, and there was no permit within ``max_throttle_wait``.
    """

    template_fields: Sequence[str] = (
        "report_type",
        "marketplace_ids",
        "data_start_time",
        "data_end_time",
        "report_options",
        *AmazonBusinessOperator.template_fields,
    )
    template_fields_renderers = {"report_options": "json"}

    def __init__(
        self,
        *,
        report_type: str,
        marketplace_ids: str | Sequence[str] | None = None,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
        wait_for_completion: bool = False,
        durable: bool = True,
        reuse_within: timedelta | None = None,
        on_cancelled: str = "fail",
        poke_interval: timedelta | float = 15.0,
        timeout: timedelta | float = 7 * 86400.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_on_cancelled(on_cancelled)
        durable_create.check_reuse(reuse_within)
        self.report_type = report_type
        self.marketplace_ids = marketplace_ids
        self.data_start_time = data_start_time
        self.data_end_time = data_end_time
        self.report_options = report_options
        self.wait_for_completion = wait_for_completion
        self.durable = durable
        self.reuse_within = reuse_within
        self.on_cancelled = on_cancelled
        with translated_errors():
            self.poke_interval = parameters.seconds("poke_interval", poke_interval)
            self.timeout = parameters.seconds("timeout", timeout)

    def execute(self, context: Context) -> str:
        """Create the report, or continue with one."""
        check_rendered(self)
        return self._start(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Continue after a deferral."""
        check_rendered(self)
        with about_report(report_type=self.report_type):
            return self._continue(context, event)

    def _continue(self, context: Context, event: dict[str, Any]) -> str:
        status = event.get("status")
        if status == "permitted":
            self._apply_permits(event)
            return self._start(context, event)
        if status == "ended":
            return self._ended(context, Report.from_dict(event["report"]))
        if status == "timeout":
            self._timed_out(context, event)
        if status == "error":
            raise error_from_dict(event["error"])
        raise AmazonBusinessError(f"The trigger sent an event that this version does not know: {event!r}")

    def on_kill(self) -> None:
        """Cancel the report that this task has created and not handed on."""
        super().on_kill()
        if self._wait is not None:
            # The wait ends, and cancels then: a signal handler is no place for calls.
            self._wait.interrupt()
        elif self._own_report:
            # Airflow's execution_timeout has broken the wait off.
            durable_create.cancel_quietly(self.amazon_business_conn_id, self._own_report, mask_access_tokens=True)

    # The report that ends with the task, while this process waits for it, and that wait.
    _own_report: str | None = None
    _wait: InlineWait | None = None

    def _start(self, context: Context, event: Mapping[str, Any] | None) -> str:
        """Go through the steps from a request to a report; a step that is throttled is repeated after the wait."""
        state: dict[str, Any] = dict((event or {}).get("state") or {})
        request = self._request()
        record = self._create_record(context, state.get("record"))
        reuse: dict[str, Any] = state.get("reuse") or {}
        if event is None:
            record.begin_attempt(request)
        try:
            with about_report(report_type=request.report_type):
                report_id = durable_create.resume(self.lookup_hook, request, record)
                if report_id:
                    return self._finish(context, report_id, own=True, record=record)
                if self.reuse_within and not reuse.get("done"):
                    reused = durable_create.reuse(self.lookup_hook, request, self.reuse_within, reuse)
                    if reused:
                        # Not this task's own: it is not cancelled with it.
                        return self._finish(context, reused, own=False, record=record)
                if event is None and self._should_queue_first(context):
                    self._defer_for_permits("createReport", state={"record": record.load(request), "reuse": reuse})
                report_id = self._create(request, record)
        except ThrottledError as error:
            if not self.deferrable or error.operation is None:
                raise
            state = {"record": record.load(request), "reuse": reuse}
            self._defer_for_permits(error.operation, refused=error, event=event, state=state)
        return self._finish(context, report_id, own=True, record=record)

    def _create(self, request: ReportRequest, record: durable_create.CreateRecord) -> str:
        if not record.durable:
            return self._nonblocking_hook.send(request)
        return durable_create.create(self._nonblocking_hook, self.lookup_hook, request, record)

    def _request(self) -> ReportRequest:
        return self.hook.report_request(
            self.report_type,
            self.marketplace_ids,
            data_start_time=self.data_start_time,
            data_end_time=self.data_end_time,
            report_options=self.report_options,
        )

    def _create_record(
        self, context: Context, carried: Mapping[str, Any] | None = None
    ) -> durable_create.CreateRecord:
        return durable_create.CreateRecord(context, durable=self.durable, carried=carried)

    def _finish(
        self, context: Context, report_id: str, *, own: bool, record: durable_create.CreateRecord | None = None
    ) -> str:
        record = record or self._create_record(context)
        request = self._request()
        # What was taken from a listing may be somebody else's, and is not cancelled with the task.
        cancels = own and not record.is_adopted(request)
        if own and self._killed:
            # The kill came while the request was on its way.
            self._end_killed(report_id if cancels else None, request.report_type)
        if not self.wait_for_completion:
            record.clear()
            return report_id
        now = time.time()
        saved = record.load(request) or {}
        sent = [moment for each in saved.get("sent", ()) for moment in each if moment]
        since = saved.get("waiting_since") or now
        if own:
            record.save(request, report_id=report_id, waiting_since=since)
        trigger = ReportStatusTrigger(
            report_id=report_id,
            amazon_business_conn_id=self.amazon_business_conn_id,
            poke_interval=self.poke_interval,
            deadline=since + self.timeout,
            not_found_grace_until=now + durable_create.NOT_FOUND_GRACE,
            report_type=request.report_type,
            # A reused report is older, by a time that its first poll tells.
            created_between=[min(sent, default=now), max(sent, default=now)] if own else None,
            cancel_on_kill=cancels,
        )
        if self.deferrable:
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout + BACKSTOP),
            )
        event = self._wait_here(trigger, report_id if cancels else None, request.report_type)
        return self.execute_complete(context, event)

    def _wait_here(self, trigger: ReportStatusTrigger, own_report: str | None, report_type: str) -> dict[str, Any]:
        """Wait in this process; where the task is ended meanwhile, cancel its own report."""
        self._own_report, self._wait = own_report, InlineWait()
        if self._killed:
            self._wait.interrupt()
        try:
            event = self._wait.run(trigger)
        except BaseException:
            self._wait = None
            if not self._killed:
                # Airflow's execution_timeout calls on_kill after this.
                raise
            event = {}
        self._wait = None
        if self._killed and (event.get("report") or {}).get("processing_status") != ProcessingStatus.DONE:
            self._end_killed(own_report, report_type)
        self._own_report = None
        return event

    def _end_killed(self, own_report: str | None, report_type: str) -> NoReturn:
        self._own_report = None
        conn_id = self.amazon_business_conn_id
        if own_report is None:
            what = "the report that it waited for is not its own, so it was left alone"
        elif durable_create.cancel_quietly(conn_id, own_report, mask_access_tokens=True):
            what = f"this task cancelled its report {own_report}; a retry creates a new one"
        else:
            what = (
                f"its report {own_report} could not be cancelled (only one in the queue can be); a retry "
                "continues with it where Airflow can remember it"
            )
        raise TaskKilledError(
            f"The task was ended: {what}", report_id=own_report, report_type=report_type
        ) from None

    def _ended(self, context: Context, report: Report) -> str:
        record = self._create_record(context)
        if report.processing_status == ProcessingStatus.CANCELLED and record.is_earlier(self._request()):
            # Airflow starts the new attempt of a task that is cleared, and tells the trigger of the old one to end
            # a second later, which cancels the report.
            self.log.info("Report %s of an earlier attempt was cancelled: creating a new one", report.report_id)
            record.clear()
            return self.execute(context)
        raise_for_status(
            report, on_cancelled=self.on_cancelled, amazon_business_conn_id=self.amazon_business_conn_id
        )
        record.clear()
        return report.report_id

    def _timed_out(self, context: Context, event: Mapping[str, Any]) -> NoReturn:
        report_id, request = event["report_id"], self._request()
        if event.get("own"):
            durable_create.cancel_quietly(self.amazon_business_conn_id, report_id, mask_access_tokens=True)
        self._restart_timeout(context, request, report_id)
        raise ReportTimeoutError(
            f"Report {report_id} did not end within the timeout of {self.timeout:g} s; it was "
            f"{event.get('last_status') or 'not seen'} at the last poll",
            report_id=report_id,
            report_type=request.report_type,
        )

    def _restart_timeout(self, context: Context, request: ReportRequest, report_id: str) -> None:
        """Have whoever clears the task wait a whole timeout again; a store that fails changes no outcome."""
        record = self._create_record(context)
        try:
            if (record.load(request) or {}).get("report_id") == report_id:
                record.save(request, waiting_since=None)
        except AmazonBusinessError as error:
            self.log.warning("%s. If this task is cleared, its timeout is over at once", error)


class CancelReportOperator(AmazonBusinessOperator):
    """Cancels a report that has not started processing.

    The return value in XCom is True when it is cancelled now, and False when it was no longer IN_QUEUE: the
    API can cancel no other, and that is not an error.

    :param report_id: the report. (templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises ReportNotFoundError: the API does not know the report; no retry is spent.
    """

    template_fields: Sequence[str] = ("report_id", *AmazonBusinessOperator.template_fields)

    def __init__(self, *, report_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_id = report_id

    def execute(self, context: Context) -> bool:
        """Cancel the report."""
        check_rendered(self)
        with about_report(self.report_id):
            return self._cancel()

    def _cancel(self) -> bool:
        cancelled = self.hook.cancel_report(self.report_id)
        if cancelled:
            self.log.info("Cancelled report %s", self.report_id)
        else:
            self.log.info("Report %s was no longer in the queue, so it was not cancelled", self.report_id)
        return cancelled


class GetReportsOperator(AmazonBusinessOperator):
    """Lists reports, newest first, whoever made them.

    Each page costs one of about 0.1 calls a second, so narrow the filters or set ``max_reports``.

    The return value in XCom is a list of dicts, each as :meth:`.Report.to_dict` shows it.

    :param report_types: 1 to 10 report types, or one comma-separated text. (templated)
    :param processing_statuses: only reports in these statuses. (templated)
    :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces. (templated)
    :param created_since: earliest creation time, an aware datetime or an ISO 8601 text with an offset; by
        default 90 days ago. (templated)
    :param created_until: latest creation time, the same way; by default now. (templated)
    :param page_size: reports per call, 1 to 100.
    :param max_reports: stop after so many; by default none is left out.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises InvalidInputError: a parameter is not allowed; no retry is spent.
    """

    template_fields: Sequence[str] = (
        "report_types",
        "processing_statuses",
        "marketplace_ids",
        "created_since",
        "created_until",
        *AmazonBusinessOperator.template_fields,
    )

    def __init__(
        self,
        *,
        report_types: str | Sequence[str],
        processing_statuses: str | Sequence[str] | None = None,
        marketplace_ids: str | Sequence[str] | None = None,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        page_size: int = 100,
        max_reports: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_reports is not None:
            with translated_errors():
                max_reports = parameters.positive_integer("max_reports", max_reports)
        self.report_types = report_types
        self.processing_statuses = processing_statuses
        self.marketplace_ids = marketplace_ids
        self.created_since = created_since
        self.created_until = created_until
        self.page_size = page_size
        self.max_reports = max_reports

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the reports."""
        check_rendered(self)
        reports = self.hook.get_reports(
            report_types=self.report_types,
            processing_statuses=self.processing_statuses,
            marketplace_ids=self.marketplace_ids,
            created_since=self.created_since,
            created_until=self.created_until,
            page_size=self.page_size,
        )
        found = [report.to_dict() for report in islice(reports, self.max_reports)]
        self.log.info("Found %s reports", len(found))
        return found
