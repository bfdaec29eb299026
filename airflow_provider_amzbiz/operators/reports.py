"""Creating, cancelling and listing reports as tasks."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_amzbiz import creation
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    InvalidInputError,
    ReportTimeoutError,
    ThrottledError,
    error_from_dict,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import ReportStatusesLink
from airflow_provider_amzbiz.outcomes import check_on_cancelled, settle
from airflow_provider_amzbiz.triggers.reports import BACKSTOP, CANCEL_SECONDS, ReportStatusTrigger
from airflow_provider_amzbiz.triggers.running import run_here

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_amzbiz.client.request import ReportRequest


class AmazonBusinessOperator(BaseOperator):
    """An operator that calls the API through a connection.

    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :param max_throttle_wait: seconds that one call may wait on the worker for its turn under the account's limits
        before the task fails with :class:`.ThrottledError`, which Airflow retries. In deferrable mode the calls
        that all reports need wait in the triggerer instead, as long as it takes.
    """

    template_fields: Sequence[str] = ("amazon_business_conn_id",)
    operator_extra_links: Collection[BaseOperatorLink] = (ReportStatusesLink(),)
    ui_color = "#f9d58a"

    def __init__(
        self,
        *,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_throttle_wait < 0:
            raise InvalidInputError(f"max_throttle_wait is {max_throttle_wait!r}, but has to be 0 or more")
        self.amazon_business_conn_id = amazon_business_conn_id
        self.max_throttle_wait = max_throttle_wait

    @cached_property
    def hook(self) -> AmazonBusinessHook:
        """The hook of the connection."""
        return AmazonBusinessHook(self.amazon_business_conn_id, max_throttle_wait=self.max_throttle_wait)


def positive_seconds(name: str, value: timedelta | float) -> float:
    """Return seconds.

    :raises InvalidInputError: it is neither a time span nor a number, or not above 0.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or seconds <= 0:
        raise InvalidInputError(f"{name} is {value!r}, but has to be a timedelta or seconds, above 0")
    return float(seconds)


class QueueingOperator(AmazonBusinessOperator):
    """An operator whose scarce call waits for its turn in the triggerer, where that costs no worker.

    A task on its own calls at once, and queues when it is refused. The tasks of a mapped operator queue first: so
    many calls at once could not all be let in, and those refused would be in the way of those whose turn it is.

    :param deferrable: wait in the triggerer. By default Airflow's ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    @cached_property
    def queueing_hook(self) -> AmazonBusinessHook:
        """The hook for the scarce call: where it would have to wait, that is an error."""
        if not self.deferrable:
            return self.hook
        return AmazonBusinessHook(self.amazon_business_conn_id, max_throttle_wait=0)

    def queues_first(self, context: Context) -> bool:
        """Whether the task asks for its turn before it calls."""
        ti: Any = context.get("ti")
        return self.deferrable and getattr(ti, "map_index", -1) >= 0

    def wait_for_turn(
        self, operation: str, *, refused: ThrottledError | None = None, event: Mapping[str, Any] | None = None
    ) -> NoReturn:
        """Defer until it is this task's turn; ``execute_complete`` goes on then.

        :param refused: why the task has to wait, if it has called.
        :param event: what told it that it was its turn, if that was so.
        """
        from airflow_provider_amzbiz.triggers.permits import PATIENCE, PermitTrigger

        # A connection that is not there would be waited for in the triggerer.
        self.hook.get_conn()
        now = time.time()
        since = event["since"] if event else now
        if refused and now - since > PATIENCE:
            raise refused
        if refused:
            self.log.info("%s. The task waits for its turn in the triggerer", refused)
        self.defer(
            trigger=PermitTrigger(
                operation=operation,
                amazon_business_conn_id=self.amazon_business_conn_id,
                since=since,
                refused_at=now if refused else None,
                permitted=event is not None,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=PATIENCE + BACKSTOP),
        )
        raise AssertionError("defer raises")

    def accept_turn(self, event: Mapping[str, Any]) -> None:
        """Take the permits that the triggerer queued for."""
        self.queueing_hook.client.grant(event["operation"], event["permits"])


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
        Without it, the task fails with :class:`.AnswerLostError` then.
    :param reuse_within: take the newest equal report of so long ago, whoever created it, instead of a new one, to
        spare the quota in backfills. Only for requests without options.
    :param deferrable: wait in the triggerer, for the report and for the turn to create it.
    :param on_cancelled: with ``wait_for_completion``, what CANCELLED means: ``"fail"``, ``"skip"``, ``"succeed"``.
    :param poke_interval: with ``wait_for_completion``, seconds between two looks.
    :param timeout: with ``wait_for_completion``, seconds from the creation after which the report is cancelled, if
        that is still possible, and the task fails with :class:`.ReportTimeoutError`, without a retry.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises InvalidInputError: a parameter is not allowed, or the API refused the request; no retry is spent.
    :raises AnswerLostError: a report may have been made, but its id did not arrive.
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
        if reuse_within is not None and reuse_within <= timedelta(0):
            raise InvalidInputError(f"reuse_within is {reuse_within!r}, but has to be above 0, or None")
        self.report_type = report_type
        self.marketplace_ids = marketplace_ids
        self.data_start_time = data_start_time
        self.data_end_time = data_end_time
        self.report_options = report_options
        self.wait_for_completion = wait_for_completion
        self.durable = durable
        self.reuse_within = reuse_within
        self.on_cancelled = on_cancelled
        self.poke_interval = positive_seconds("poke_interval", poke_interval)
        self.timeout = positive_seconds("timeout", timeout)

    def execute(self, context: Context) -> str:
        """Create the report, or go on with one."""
        request = self._request()
        report_id, sent_at = creation.recall(self.hook, request, self._memory(context))
        if report_id:
            return self._finish(context, report_id, own=True, since=sent_at)
        if self.reuse_within:
            # Not this task's own: it is not cancelled with it.
            reused = creation.reuse(self.hook, request, self.reuse_within)
            if reused:
                return self._finish(context, reused, own=False)
        if self.queues_first(context):
            self.wait_for_turn("createReport")
        return self._finish(context, self._create(context, request, None), own=True)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Go on after a deferral."""
        status = event.get("status")
        if status == "permitted":
            self.accept_turn(event)
            report_id = self._create(context, self._request(), event)
            return self._finish(context, report_id, own=True)
        if status == "ended":
            report = Report.from_dict(event["report"])
            memory = self._memory(context)
            if report.processing_status == ProcessingStatus.CANCELLED and memory.is_earlier(self._request()):
                # Airflow starts the new try of a task that is cleared, and tells the trigger of the old one to end
                # a second later, which cancels the report.
                self.log.info("Report %s of an earlier try was cancelled: creating a new one", report.report_id)
                memory.forget()
                return self.execute(context)
            settle(report, on_cancelled=self.on_cancelled, hook=self.hook)
            memory.forget()
            return report.report_id
        if status == "timeout":
            if event.get("own"):
                creation.cancel_quietly(self.hook, event["report_id"])
                # Whoever clears the task means to wait anew, and not until a time that is over.
                self._memory(context).note(self._request(), event["report_id"], time.time())
            raise ReportTimeoutError(
                f"Report {event['report_id']} did not end within the timeout of {self.timeout:g} s; it was "
                f"{event.get('last_status') or 'not seen'} at the last look"
            )
        if status == "error":
            raise error_from_dict(event["error"])
        raise AmazonBusinessError(f"The trigger sent an event that this version does not know: {event!r}")

    def on_kill(self) -> None:
        """Cancel the report that this task has created and not handed on."""
        self.__killed = True
        if self.__own_report:
            hook = AmazonBusinessHook(self.amazon_business_conn_id, max_throttle_wait=CANCEL_SECONDS)
            creation.cancel_quietly(hook, self.__own_report)

    # The report that ends with the task, while this process waits for it.
    __own_report: str | None = None
    __killed = False

    def _request(self) -> ReportRequest:
        return self.hook.report_request(
            self.report_type,
            self.marketplace_ids,
            data_start_time=self.data_start_time,
            data_end_time=self.data_end_time,
            report_options=self.report_options,
        )

    def _memory(self, context: Context) -> creation.Memory:
        return creation.Memory(context, durable=self.durable)

    def _create(self, context: Context, request: ReportRequest, event: Mapping[str, Any] | None) -> str:
        try:
            if not self.durable:
                return self.queueing_hook.send(request)
            return creation.create(self.queueing_hook, self.hook, request, self._memory(context))
        except ThrottledError as error:
            if self.deferrable:
                self.wait_for_turn("createReport", refused=error, event=event)
            raise

    def _finish(self, context: Context, report_id: str, *, own: bool, since: float | None = None) -> str:
        if own and self.__killed:
            # The kill came while the request was on its way.
            creation.cancel_quietly(self.hook, report_id)
            raise AmazonBusinessError(f"The task was ended while it created report {report_id}")
        if not self.wait_for_completion:
            self._memory(context).forget()
            return report_id
        now = time.time()
        trigger = ReportStatusTrigger(
            report_id=report_id,
            amazon_business_conn_id=self.amazon_business_conn_id,
            poke_interval=self.poke_interval,
            deadline=(since or now) + self.timeout,
            young_until=now + creation.NOT_FOUND_GRACE,
            cancel_on_kill=own,
        )
        if self.deferrable:
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout + BACKSTOP),
            )
        self.__own_report = report_id if own else None
        event = run_here(trigger)
        self.__own_report = None
        return self.execute_complete(context, event)


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
        if max_reports is not None and max_reports < 1:
            raise InvalidInputError(f"max_reports is {max_reports!r}, but has to be at least 1, or None")
        self.report_types = report_types
        self.processing_statuses = processing_statuses
        self.marketplace_ids = marketplace_ids
        self.created_since = created_since
        self.created_until = created_until
        self.page_size = page_size
        self.max_reports = max_reports

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the reports."""
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
