"""Creating a report as a task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.create_record import CreateRecord
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ReportTimeoutError,
    TaskKilledError,
    ThrottledError,
    about_report,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.base import (
    AmazonBusinessOperator,
    QueueingOperator,
    check_rendered,
    log_deferral,
)
from airflow_provider_amzbiz.report_search import check_reuse, find_reusable
from airflow_provider_amzbiz.report_status import check_on_cancelled, raise_for_status
from airflow_provider_amzbiz.triggers.events import PermitGranted, ReportEnded, ReportTimedOut, read_event
from airflow_provider_amzbiz.triggers.reports import BACKSTOP, ReportStatusTrigger

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context


class CreateReportOperator(QueueingOperator):
    """Creates a report and returns its id.

    Amazon produces the report later: wait for it with :class:`.ReportStatusSensor`, or here with
    ``wait_for_completion``. Each call creates a new report and uses one of about 0.1 permits per second.

    A retry therefore continues with the report of the previous attempt, if Airflow can remember it (3.3 and
    newer), the request is the same, and the report is not FATAL or CANCELLED. If a response of the API was lost,
    the task searches the listing for its report and adopts it when exactly one matches. A report with options is
    created again, because the API does not show options. A task that succeeded and is cleared creates a new
    report.

    If a user stops the task (marks it failed, or clears it while it runs), its report is cancelled while IN_QUEUE;
    while the task is deferred, that needs Airflow 3.3 or newer.

    The return value in XCom is the report id, a string.

    .. seealso:: :doc:`/reports`, :doc:`/duplicates` and :doc:`/limits`

    :param report_type: such as ``GET_AB_INVOICE_PDF``. (templated)
    :param marketplace_ids: 1 to 25 marketplace ids, or one comma-separated string. By default those of the
        connection. (templated)
    :param data_start_time: start of the data, an aware datetime or an ISO 8601 string with an offset, such as
        ``"{{ data_interval_start }}"``; not in the future. By default none; not all types use it. (templated)
    :param data_end_time: end of the data, in the same form, not before ``data_start_time``. By default none.
        (templated)
    :param report_options: options of the type, such as ``{"invoiceId": "..."}``: names to strings; numbers and
        booleans become strings. By default none. (templated)
    :param wait_for_completion: whether the task ends only when the report has; see the sensor for what each
        status means. By default False. (not templated)
    :param durable: whether to continue with the report of a previous attempt, and to search for one whose response
        was lost. If False, a lost response fails the task with :class:`.ResponseLostError`. By default True. On
        Airflow before 3.3 a retry cannot continue, and logs a warning. (not templated)
    :param reuse_within: a timedelta of at most 30 days: return the newest equal report that is not older, whoever
        created it, instead of creating one. It saves permits in backfills. Only for requests without options. By
        default None: always create. (not templated)
    :param on_cancelled: with ``wait_for_completion``, what CANCELLED means: ``"fail"`` (the default), ``"skip"``
        or ``"succeed"``. (not templated)
    :param poke_interval: with ``wait_for_completion``, seconds, or a timedelta, between two polls; by default 15.
        (not templated)
    :param timeout: with ``wait_for_completion``, seconds, or a timedelta, from the creation after which the report
        is cancelled while IN_QUEUE, and the task fails with :class:`.ReportTimeoutError`, without a retry; by
        default seven days. (not templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. In deferrable mode
        createReport waits in the triggerer instead, for up to seven days. (not templated)
    :param deferrable: wait in the triggerer, for the report and for the permit to create it; by default Airflow's
        ``[operators] default_deferrable``. (not templated)
    :raises InvalidInputError: a parameter is not allowed, or the API rejected the request; not retried.
    :raises ResponseLostError: the API may have created a report, but its id did not arrive.
    :raises ThrottledError: not deferrable, and there was no permit within ``max_throttle_wait``.
    :raises ReportFatalError: with ``wait_for_completion``, FATAL, or DONE without a document; not retried.
    :raises ReportCancelledError: with ``wait_for_completion``, CANCELLED and ``on_cancelled`` is ``"fail"``; not
        retried.
    :raises ReportTimeoutError: with ``wait_for_completion``, no terminal status within ``timeout``; not retried.
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
    # The report that this process waits for, if it must be cancelled with the task.
    _own_report: str | None = None

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
        on_cancelled: Literal["fail", "skip", "succeed"] = "fail",
        poke_interval: timedelta | float = 15.0,
        timeout: timedelta | float = 7 * 86400.0,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id,
            max_throttle_wait=max_throttle_wait,
            deferrable=deferrable,
            **kwargs,
        )
        check_on_cancelled(on_cancelled)
        check_reuse(reuse_within)
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
        """Create the report, or continue with the one of a previous attempt."""
        check_rendered(self)
        return self._find_or_create(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Continue after a deferral."""
        check_rendered(self)
        with about_report(report_type=self.report_type):
            resumed = read_event(event, PermitGranted, ReportEnded, ReportTimedOut)
            if isinstance(resumed, ReportEnded):
                return self._ended(context, resumed.report)
            if isinstance(resumed, ReportTimedOut):
                self._timed_out(context, resumed)
            # What was begun stays as it was, whatever is rendered now.
            self.amazon_business_conn_id = resumed.state.get(
                "amazon_business_conn_id", self.amazon_business_conn_id
            )
            self._apply_permits(resumed)
            return self._find_or_create(context, resumed)

    def on_kill(self) -> None:
        """Cancel the report that this task created and has not handed on."""
        waiting = self._inline_wait is not None
        super().on_kill()
        # An interrupted wait cancels the report itself, because a signal handler should make no calls. Airflow's
        # execution_timeout has ended the wait before it calls this.
        if not waiting and self._own_report:
            durable_create.cancel_quietly(self.amazon_business_conn_id, self._own_report, mask_access_tokens=True)

    def _find_or_create(self, context: Context, event: PermitGranted | None) -> str:
        """Continue with a report, reuse one, or create one; a throttled step runs again after the wait."""
        state: Mapping[str, Any] = event.state if event else {}
        request = ReportRequest(state["request"]) if "request" in state else self._request()
        record = CreateRecord(context, durable=self.durable, carried=state.get("record"))
        reuse: dict[str, Any] = dict(state.get("reuse") or {})
        if event is None:
            record.log_if_forgetful(context, retries=self.retries)
            record.begin_attempt(request)

        def state_now() -> dict[str, Any]:
            conn_id = self.amazon_business_conn_id
            saved = record.load(request)
            return {
                "amazon_business_conn_id": conn_id,
                "request": dict(request.body),
                "record": saved,
                "reuse": reuse,
            }

        try:
            with about_report(report_type=request.report_type):
                report_id = durable_create.resume(self.lookup_hook, request, record)
                if report_id:
                    return self._hand_on(context, report_id, request, record)
                if self.reuse_within and not reuse.get("done"):
                    reused = find_reusable(self.lookup_hook, request, self.reuse_within, reuse)
                    if reused:
                        # Not this task's own: it is not cancelled with it.
                        return self._hand_on(context, reused, request, record, own=False)
                has_queued = event is not None and event.operation == "createReport"
                if not has_queued and self._should_queue_first(context):
                    self._defer_for_permits("createReport", state=state_now())
                self._expect_others(context, "createReport")
                report_id = self._create(request, record)
        except ThrottledError as error:
            if not self.deferrable or error.operation is None:
                raise
            self._defer_for_permits(error.operation, throttled=error, event=event, state=state_now())
        return self._hand_on(context, report_id, request, record)

    def _create(self, request: ReportRequest, record: CreateRecord) -> str:
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

    def _hand_on(
        self, context: Context, report_id: str, request: ReportRequest, record: CreateRecord, *, own: bool = True
    ) -> str:
        """Return the report id, or wait for the report first.

        :param own: whether this task created the report, in this attempt or a previous one.
        """
        # An adopted report may belong to somebody else, and is not cancelled with the task.
        cancels = own and not record.is_adopted(request)
        if own and self._killed:
            # The kill came while the request was in progress.
            self._raise_killed(report_id if cancels else None)
        if not self.wait_for_completion:
            record.hand_on(request, report_id, own=own)
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
            # A reused report is older; its first poll shows by how much.
            created_between=[min(sent, default=now), max(sent, default=now)] if own else None,
            cancel_on_kill=cancels,
        )
        if self.deferrable:
            log_deferral(self.log, f"report {report_id} to end", trigger.deadline)
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout + BACKSTOP),
            )
        return self.execute_complete(context, self._wait_here(trigger))

    def _wait_here(self, trigger: ReportStatusTrigger) -> dict[str, Any] | None:
        """Wait in this process; if the task is ended meanwhile, cancel its own report."""
        self._own_report = trigger.report_id if trigger.cancel_on_kill else None
        event = self.run_inline(trigger)
        done = ((event or {}).get("report") or {}).get("processing_status") == ProcessingStatus.DONE
        if self._killed and not done:
            self._raise_killed(self._own_report)
        self._own_report = None
        return event

    def _raise_killed(self, own_report: str | None) -> NoReturn:
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
            f"The task was ended: {what}", report_id=own_report, report_type=self.report_type
        ) from None

    def _ended(self, context: Context, report: Report) -> str:
        # By the id: what is rendered now may be another request, and reading the connection may fail for a moment.
        record = CreateRecord(context, durable=self.durable)
        is_cancelled = report.processing_status == ProcessingStatus.CANCELLED
        if is_cancelled and (record.load_of(report.report_id) or {}).get("from_previous_attempt"):
            # When a running task is cleared, Airflow starts the new attempt first, and ends the old one's trigger,
            # which cancels the report, a second later.
            self.log.info("Report %s of a previous attempt was cancelled: creating a new one", report.report_id)
            record.clear()
            return self.execute(context)
        raise_for_status(
            report, on_cancelled=self.on_cancelled, amazon_business_conn_id=self.amazon_business_conn_id
        )
        record.hand_on_ended(report.report_id)
        return report.report_id

    def _timed_out(self, context: Context, event: ReportTimedOut) -> NoReturn:
        if event.own:
            durable_create.cancel_quietly(self.amazon_business_conn_id, event.report_id, mask_access_tokens=True)
        record = CreateRecord(context, durable=self.durable)
        try:
            if saved := record.load_of(event.report_id):
                # If the task is cleared, it waits a whole timeout again.
                record.write({**saved, "waiting_since": None})
        except AmazonBusinessError as error:
            self.log.warning("%s. If this task is cleared, it times out at once", error)
        raise ReportTimeoutError(
            f"Report {event.report_id} did not end within the timeout of {self.timeout:g} s; it was "
            f"{event.last_status or 'not seen'} at the last poll",
            report_id=event.report_id,
            report_type=self.report_type,
        )
