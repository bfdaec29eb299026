"""Waiting for a report as a task."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.models import Report
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
from airflow_provider_amzbiz.operators.base import LOOKUP_SECONDS, check_rendered
from airflow_provider_amzbiz.report_status import check_on_cancelled, raise_for_status
from airflow_provider_amzbiz.triggers.events import ReportEnded, ReportTimedOut, WaitFailed, read_event
from airflow_provider_amzbiz.triggers.reports import BACKSTOP, ReportStatusTrigger, ReportWatch

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


# Seconds that a poll waits for its permit at least: with a short poke_interval, it would fail at once, over and
# over again.
_PERMIT_SECONDS_MIN = 1.0


class ReportStatusSensor(BaseSensorOperator):
    """Waits until a report has a terminal status.

    DONE succeeds. CANCELLED does what ``on_cancelled`` says; the API uses it for a report that somebody
    cancelled, that has no data, or that was asked for again too soon. FATAL fails, with the reason in the
    message where the report has a document that tells it. None of these spends a retry: the status of a report
    does not change any more. A status that the API may add is waited on.

    A look that fails for a while (network, 429, 5xx) does not fail the wait. The outcome is the same in all
    three modes: deferrable, ``mode="poke"`` and ``mode="reschedule"``.

    The return value in XCom is the report, as :meth:`.Report.to_dict` shows it.

    :param report_id: the report to wait for. (templated)
    :param on_cancelled: what CANCELLED means: ``"fail"``, ``"skip"`` (and all that follows), or ``"succeed"``,
        after which a transfer would find no document: branch on ``processing_status`` before it.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :param deferrable: wait in the triggerer, without a worker slot. By default Airflow's
        ``[operators] default_deferrable``.
    :param poke_interval: seconds between two polls.
    :param timeout: seconds until the wait fails with :class:`.ReportTimeoutError`, which spends no retry. By
        default Airflow's ``[sensors] default_timeout``, a week.
    :raises InvalidInputError: a parameter is not allowed; no retry is spent.
    :raises ReportFatalError: FATAL, or DONE without a document.
    :raises ReportCancelledError: CANCELLED with ``on_cancelled="fail"``.
    :raises ReportTimeoutError: no terminal status within ``timeout``.
    """

    template_fields: Sequence[str] = ("report_id", "amazon_business_conn_id")
    operator_extra_links = (ReportStatusesLink(),)
    ui_color = "#f9e7b8"

    def __init__(
        self,
        *,
        report_id: str,
        on_cancelled: str = "fail",
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 15,
        **kwargs: Any,
    ) -> None:
        with translated_errors():
            # Airflow takes numbers that it cannot make a time of later, such as infinity.
            poke_interval = parameters.seconds("poke_interval", poke_interval, zero=True)
            if kwargs.get("timeout") is not None:
                kwargs["timeout"] = parameters.seconds("timeout", kwargs["timeout"], zero=True)
        super().__init__(poke_interval=poke_interval, **kwargs)
        check_on_cancelled(on_cancelled)
        self.report_id = report_id
        self.on_cancelled = on_cancelled
        self.amazon_business_conn_id = amazon_business_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> AmazonBusinessHook:
        """The hook; it does not repeat failed calls, because the next look does."""
        # A sensor that is to give its worker slot back does not keep it until the limit gives a permit.
        longest = LOOKUP_SECONDS if self.deferrable or self.reschedule else self.poke_interval
        return AmazonBusinessHook(
            self.amazon_business_conn_id,
            retry_for=0,
            max_throttle_wait=max(min(self.poke_interval, longest), _PERMIT_SECONDS_MIN),
            stopped=lambda: self._killed,
        )

    def execute(self, context: Context) -> Any:
        """Wait, here or in the triggerer."""
        check_rendered(self)
        if self.deferrable:
            with about_report(self.report_id):
                return self._defer_unless_ended(context)
        self._interruptible = not self.reschedule
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            watch = self._watch(context)
            self._raise_timeout(watch.status, watch.report_type)
        finally:
            self._interruptible = False
            if self._killed:
                # Whatever soft_fail or never_fail has made of it.
                self._raise_killed()

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once."""
        interruptible, self._interruptible = self._interruptible, False
        try:
            watch = self._watch(context)
            with about_report(self.report_id, watch.report_type):
                report = watch.look()
                outcome = self._settle(report) if report else None
        finally:
            self._interruptible = interruptible
        if self._killed:
            self._raise_killed()
        return PokeReturnValue(is_done=report is not None, xcom_value=outcome)

    def on_kill(self) -> None:
        """End the wait; the report, which another task has created, is left alone."""
        self._killed = True
        if self._interruptible and threading.current_thread() is threading.main_thread():
            # Airflow 3 only tells a task that it is to end; this ends the sleep between two polls.
            self._raise_killed()

    # Whether an exception may be raised anywhere: during a poll it could be taken for the poll's own failure, or
    # leave Airflow's answer about a connection unread.
    _interruptible = False
    # Whether Airflow has told the task to end.
    _killed = False

    def _raise_killed(self) -> NoReturn:
        raise TaskKilledError(
            f"The task was ended while it waited for report {self.report_id}, which it leaves alone; a retry "
            "continues to wait",
            report_id=self.report_id,
            report_type=self.__watch.report_type if self.__watch else None,
        ) from None

    def _settle(self, report: Report) -> dict[str, Any]:
        return raise_for_status(
            report, on_cancelled=self.on_cancelled, amazon_business_conn_id=self.amazon_business_conn_id
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Turn the trigger's event into this task's outcome."""
        check_rendered(self)
        with about_report(self.report_id):
            resumed = read_event(event, ReportEnded, ReportTimedOut)
            if isinstance(resumed, ReportTimedOut):
                self._raise_timeout(resumed.last_status, resumed.report_type)
            return self._settle(resumed.report)

    def _defer_unless_ended(self, context: Context) -> Any:
        now = time.time()
        # A sensor that is cleared, or that meets an old report, needs no triggerer at all.
        watch = ReportWatch(self.hook, self.report_id, not_found_grace_until=now + NOT_FOUND_GRACE)
        try:
            report = watch.look()
        except AmazonBusinessPermanentError as error:
            return self.resume_execution("execute_complete", {"event": WaitFailed(error).to_dict()}, context)
        if report:
            # By the same way as after a deferral, so that soft_fail and never_fail mean the same.
            return self.resume_execution("execute_complete", {"event": ReportEnded(report).to_dict()}, context)
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

    def _watch(self, context: Context) -> ReportWatch:
        if self.__watch is None:
            since = _first_look(context) if self.reschedule else None
            not_found_grace_until = (since.timestamp() if since else time.time()) + NOT_FOUND_GRACE
            self.__watch = ReportWatch(
                self.hook, self.report_id, not_found_grace_until=not_found_grace_until, patient=since is not None
            )
        return self.__watch

    __watch: ReportWatch | None = None

    def _raise_timeout(self, last_status: str | None, report_type: str | None) -> NoReturn:
        raise ReportTimeoutError(
            f"Report {self.report_id} did not end within the timeout of {self.timeout:g} s; it was "
            f"{last_status or 'not seen'} at the last poll",
            report_id=self.report_id,
            report_type=report_type,
        ) from None


def _first_look(context: Context) -> datetime | None:
    """Return when a rescheduled sensor looked first, None when this is the first look."""
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        first: datetime | None = ti.get_first_reschedule_date(context)
        return first
    # Airflow 2.11 keeps this to itself; it is what its own sensors measure the timeout from.
    from airflow.sensors.base import _orig_start_date

    found: datetime | None = _orig_start_date(
        dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index, try_number=1
    )
    return found
