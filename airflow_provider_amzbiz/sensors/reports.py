"""Waiting for a report as a task."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.compat import (
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_amzbiz.durable_create import NOT_FOUND_GRACE
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessPermanentError,
    ReportTimeoutError,
    TaskKilledError,
    about_report,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import ReportStatusesLink
from airflow_provider_amzbiz.operators.base import LOOKUP_SECONDS, check_rendered, log_deferral
from airflow_provider_amzbiz.report_status import check_on_cancelled, raise_for_status
from airflow_provider_amzbiz.triggers.events import ReportEnded, ReportTimedOut, WaitFailed, read_event
from airflow_provider_amzbiz.triggers.reports import BACKSTOP, ReportStatusTrigger, ReportWatch

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context


# Minimum seconds that a poll waits for its permit: with a short poke_interval, every poll would fail at once.
_MIN_PERMIT_SECONDS = 1.0


class ReportStatusSensor(BaseSensorOperator):
    """Waits until a report has a terminal status.

    DONE succeeds. CANCELLED does what ``on_cancelled`` says; the API uses it for a report that somebody cancelled,
    that has no data, or that was requested again too soon. FATAL fails, with the reason in the message where the
    report has a document that gives it. None of these is retried: a terminal status never changes. A status that
    this version does not know is waited on.

    Polls that fail for a while (network, 429, 5xx) do not fail the wait. The outcome is the same in all three
    modes: deferrable, ``mode="poke"`` and ``mode="reschedule"``.

    The return value in XCom is the report, as :meth:`.Report.to_dict` returns it.

    .. seealso:: :doc:`/reports` and :doc:`/statuses`

    :param report_id: the report to wait for. (templated)
    :param on_cancelled: what CANCELLED means: ``"fail"`` (the default), ``"skip"`` (which skips the tasks that
        follow, too), or ``"succeed"``, after which a transfer would find no document: branch on
        ``processing_status`` before it. (not templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker slot; by default Airflow's
        ``[operators] default_deferrable``. (not templated)
    :param poke_interval: seconds, or a timedelta, between two polls; by default 15. (not templated)
    :param timeout: seconds, or a timedelta, until the wait fails with :class:`.ReportTimeoutError`, without a
        retry; by default Airflow's ``[sensors] default_timeout``, a week. (not templated)
    :raises InvalidInputError: a parameter is not allowed; not retried.
    :raises ReportFatalError: FATAL, or DONE without a document; not retried.
    :raises ReportCancelledError: CANCELLED with ``on_cancelled="fail"``; not retried.
    :raises ReportNotFoundError: the API does not know the report; not retried.
    :raises ReportTimeoutError: no terminal status within ``timeout``; not retried.
    """

    template_fields: Sequence[str] = ("report_id", "amazon_business_conn_id")
    operator_extra_links = (ReportStatusesLink(),)
    ui_color = "#f9e7b8"
    # Whether a kill may raise right here. Not during a poll: the exception could be taken for the poll's own
    # failure, or leave Airflow's reply about a connection unread.
    _interruptible = False
    # Whether Airflow is ending the task.
    _killed = False
    # What this process has seen of the report.
    _watch: ReportWatch | None = None

    def __init__(
        self,
        *,
        report_id: str,
        on_cancelled: Literal["fail", "skip", "succeed"] = "fail",
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 15.0,
        timeout: timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        with translated_errors():
            # Airflow accepts numbers that it later cannot turn into a time, such as infinity.
            poke_interval = parameters.seconds("poke_interval", poke_interval, zero=True)
            if timeout is not None:
                kwargs["timeout"] = parameters.seconds("timeout", timeout, zero=True)
        super().__init__(poke_interval=poke_interval, **kwargs)
        check_on_cancelled(on_cancelled)
        self.report_id = report_id
        self.on_cancelled = on_cancelled
        self.amazon_business_conn_id = amazon_business_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> AmazonBusinessHook:
        """The hook; it does not retry failed calls, because the next poll does."""
        # A sensor that frees its worker slot between polls does not hold it to wait for a permit either.
        longest = LOOKUP_SECONDS if self.deferrable or self.reschedule else self.poke_interval
        return AmazonBusinessHook(
            self.amazon_business_conn_id,
            retry_for=0,
            max_throttle_wait=max(min(self.poke_interval, longest), _MIN_PERMIT_SECONDS),
            stopped=lambda: self._killed,
        )

    def execute(self, context: Context) -> Any:
        """Wait, on the worker or in the triggerer."""
        check_rendered(self)
        if self.deferrable:
            with about_report(self.report_id):
                return self._defer_unless_ended(context)
        self._interruptible = not self.reschedule
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            watch = self._begin_watch(context)
            self._raise_timeout(watch.status, watch.report_type)
        finally:
            self._interruptible = False
            if self._killed:
                # Whatever soft_fail or never_fail did with the error.
                self._raise_killed()

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn the trigger's event into this task's outcome."""
        check_rendered(self)
        with about_report(self.report_id):
            resumed = read_event(event, ReportEnded, ReportTimedOut)
            if isinstance(resumed, ReportTimedOut):
                self._raise_timeout(resumed.last_status, resumed.report_type)
            return self._raise_for_status(resumed.report)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once."""
        interruptible, self._interruptible = self._interruptible, False
        try:
            watch = self._begin_watch(context)
            with about_report(self.report_id, watch.report_type):
                report = watch.poll()
                outcome = self._raise_for_status(report) if report else None
        finally:
            self._interruptible = interruptible
        if self._killed:
            self._raise_killed()
        return PokeReturnValue(is_done=report is not None, xcom_value=outcome)

    def on_kill(self) -> None:
        """End the wait. The report belongs to another task and is left alone."""
        self._killed = True
        if self._interruptible and threading.current_thread() is threading.main_thread():
            # Airflow 3 only calls this and does not raise; raising ends the sleep between two polls.
            self._raise_killed()

    def _raise_killed(self) -> NoReturn:
        raise TaskKilledError(
            f"The task was ended while it waited for report {self.report_id}, which it leaves alone; a retry "
            "continues to wait",
            report_id=self.report_id,
            report_type=self._watch.report_type if self._watch else None,
        ) from None

    def _raise_for_status(self, report: Report) -> dict[str, Any]:
        return raise_for_status(
            report, on_cancelled=self.on_cancelled, amazon_business_conn_id=self.amazon_business_conn_id
        )

    def _defer_unless_ended(self, context: Context) -> Any:
        now = time.time()
        # The report may have ended long ago; then the sensor needs no triggerer at all.
        watch = ReportWatch(self.hook, self.report_id, not_found_grace_until=now + NOT_FOUND_GRACE)
        try:
            report = watch.poll()
        except AmazonBusinessPermanentError as error:
            return self.resume_execution("execute_complete", {"event": WaitFailed(error).to_dict()}, context)
        if report:
            # In the same way as after a deferral, so that soft_fail and never_fail mean the same.
            return self.resume_execution("execute_complete", {"event": ReportEnded(report).to_dict()}, context)
        log_deferral(self.log, f"report {self.report_id} to end", now + self.timeout)
        self.defer(
            trigger=ReportStatusTrigger(
                report_id=self.report_id,
                amazon_business_conn_id=self.amazon_business_conn_id,
                poke_interval=self.poke_interval,
                deadline=now + self.timeout,
                not_found_grace_until=now + NOT_FOUND_GRACE,
                report_type=watch.report_type,
                created_time=watch.report.created_time.isoformat() if watch.report else None,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + BACKSTOP),
        )
        return None

    def _begin_watch(self, context: Context) -> ReportWatch:
        if self._watch is None:
            since = _first_poll_time(context) if self.reschedule else None
            self._watch = ReportWatch(
                self.hook,
                self.report_id,
                not_found_grace_until=(since.timestamp() if since else time.time()) + NOT_FOUND_GRACE,
                connection_was_read=since is not None,
            )
        return self._watch

    def _raise_timeout(self, last_status: str | None, report_type: str | None) -> NoReturn:
        raise ReportTimeoutError(
            f"Report {self.report_id} did not end within the timeout of {self.timeout:g} s; it was "
            f"{last_status or 'not seen'} at the last poll",
            report_id=self.report_id,
            report_type=report_type,
        ) from None


def _first_poll_time(context: Context) -> datetime | None:
    """Return when a rescheduled sensor polled first, None where this is its first poll."""
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first: datetime | None = ti.get_first_reschedule_date(context)
        return first
    # Private in Airflow 2.11, whose own sensors measure their timeout from it.
    from airflow.sensors.base import _orig_start_date

    found: datetime | None = _orig_start_date(
        dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index, try_number=1
    )
    return found
