"""Waiting for a report: polls on a worker, and a trigger that waits without a worker slot."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.documents.units import utc
from airflow_provider_amzbiz.durable_create import cancel_quietly
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ConnectionNotFoundError,
    TaskKilledError,
    about_report,
    error_from_dict,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.base import LOG_INTERVAL, WaitingTrigger, run_in_thread, task_continues
from airflow_provider_amzbiz.triggers.events import ReportEnded, ReportTimedOut
from airflow_provider_amzbiz.triggers.listing import Created
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify
from airflow_provider_amzbiz.triggers.poller import ReportPoller, poller
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)

# Seconds after the trigger's own deadline at which Airflow ends the wait, if no triggerer is alive.
BACKSTOP = 120.0
# Seconds for the last poll at the deadline, its wait for a permit included: much less than the backstop.
LAST_POLL_SECONDS = 30.0


class ReportWatch:
    """Polls one report from time to time, until it has a terminal status.

    A poll that fails for a while is not a failed report: it is logged, and the next poll tries again.

    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    :param connection_was_read: whether a previous poll has read the connection. Then it exists, and if it cannot
        be read now, a later poll may succeed.
    """

    def __init__(
        self,
        hook: AmazonBusinessHook,
        report_id: str,
        *,
        not_found_grace_until: float,
        connection_was_read: bool = False,
    ) -> None:
        self._hook = hook
        self._report_id = report_id
        self._not_found_grace_until = not_found_grace_until
        self._connection_was_read = connection_was_read
        self.status: str | None = None
        self.report: Report | None = None

    @property
    def report_type(self) -> str | None:
        """The report's type, None before a poll has worked."""
        return self.report.report_type if self.report else None

    def poll(self) -> Report | None:
        """Return the report if its status is terminal, None otherwise.

        :raises AmazonBusinessPermanentError: no later poll can succeed.
        :raises TaskKilledError: the task was ended.
        """
        try:
            report = self._hook.get_report(self._report_id)
        except AmazonBusinessError as error:
            if isinstance(error, TaskKilledError) or self._lacks_connection(error):
                raise
            failure = classify(error, not_found_grace_until=self._not_found_grace_until)
            if failure is PollFailure.NOT_YET:
                log.info("Report %s is not known to the API yet", self._report_id)
            elif failure is PollFailure.TRANSIENT:
                log_failed_poll(self._report_id, error)
            else:
                raise
            return None
        self.report = report
        if report.processing_status != self.status:
            log_status(self._report_id, report.processing_status)
        self.status = report.processing_status
        return report if report.is_terminal else None

    def _lacks_connection(self, error: AmazonBusinessError) -> bool:
        return isinstance(error, ConnectionNotFoundError) and not self._connection_was_read


class ReportStatusTrigger(WaitingTrigger):
    """Fires one event when a report has a terminal status, or at the deadline.

    The event is ``ReportEnded``, ``ReportTimedOut`` or ``WaitFailed`` of
    ``airflow_provider_amzbiz.triggers.events``.

    All waits of an account in a triggerer share one poller. Both deadlines are Unix times, so that they survive
    restarts of the triggerer.

    .. seealso:: :doc:`/reports`

    :param report_id: the report.
    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param poke_interval: seconds between two polls.
    :param deadline: Unix time at which the wait ends, after one last poll.
    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    :param report_type: the report's type, if known; it saves a call. By default None.
    :param created_time: when the report was created (ISO 8601), if known; it saves a call. By default None.
    :param created_between: instead of ``created_time``, the two Unix times between which the report was requested.
        By default None.
    :param cancel_on_kill: whether the report is the task's own, and is cancelled if a user stops the task
        (Airflow 3.3 and newer). By default False.
    """

    def __init__(
        self,
        *,
        report_id: str,
        amazon_business_conn_id: str,
        poke_interval: float,
        deadline: float,
        not_found_grace_until: float,
        report_type: str | None = None,
        created_time: str | None = None,
        created_between: list[float] | None = None,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.report_id = report_id
        self.amazon_business_conn_id = amazon_business_conn_id
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.not_found_grace_until = not_found_grace_until
        self.report_type = report_type
        self.created_time = created_time
        self.created_between = created_between
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which a triggerer re-creates this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "report_id": self.report_id,
                "amazon_business_conn_id": self.amazon_business_conn_id,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "not_found_grace_until": self.not_found_grace_until,
                "report_type": self.report_type,
                "created_time": self.created_time,
                "created_between": self.created_between,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def on_kill(self) -> None:
        """Cancel the task's own report, if a user stopped the task; see :func:`.task_continues`."""
        if self.cancel_on_kill and not await task_continues(self):
            await run_in_thread(cancel_quietly, self.amazon_business_conn_id, self.report_id)

    async def wait(self) -> ReportEnded | ReportTimedOut:
        """Wait until the report has a terminal status, or the deadline is reached."""
        updates: asyncio.Queue[Report | AmazonBusinessError] = asyncio.Queue()
        subscription = Subscription(
            report_id=self.report_id,
            amazon_business_conn_id=self.amazon_business_conn_id,
            poke_interval=self.poke_interval,
            not_found_grace_until=self.not_found_grace_until,
            report_type=self.report_type,
            created=self._created(),
            on_update=updates.put_nowait,
        )
        shared = await poller(self.amazon_business_conn_id, self.deadline)
        shared.join(subscription)
        try:
            while (left := self.deadline - time.time()) > 0:
                try:
                    update = await asyncio.wait_for(updates.get(), min(left, LOG_INTERVAL))
                except TimeoutError:
                    self._log_progress(subscription, shared)
                    continue
                if event := self._event_of(update, subscription):
                    return event
            with suppress(TimeoutError):
                await asyncio.wait_for(shared.poll_once_more(subscription), LAST_POLL_SECONDS)
            while not updates.empty():
                if event := self._event_of(updates.get_nowait(), subscription):
                    return event
            return ReportTimedOut(
                self.report_id, subscription.report_type, subscription.status, own=self.cancel_on_kill
            )
        finally:
            shared.leave(subscription)

    def _created(self) -> Created | None:
        if self.created_time:
            return Created.at(datetime.fromisoformat(self.created_time))
        return Created.around(*self.created_between) if self.created_between else None

    def _event_of(self, update: Report | AmazonBusinessError, subscription: Subscription) -> ReportEnded | None:
        """Return the event of an update that ends the wait; log one that does not.

        :raises AmazonBusinessError: the update is an error that ends the wait.
        """
        if isinstance(update, AmazonBusinessError):
            if update is subscription.ended_by:
                with about_report(self.report_id, subscription.report_type):
                    # A copy, because other waits may have received the same error.
                    raise error_from_dict(update.to_dict())
            log_failed_poll(self.report_id, update)
            return None
        if not update.is_terminal:
            log_status(self.report_id, update.processing_status)
            return None
        metrics.report_ended(update.processing_status)
        return ReportEnded(update)

    def _log_progress(self, subscription: Subscription, shared: ReportPoller) -> None:
        if self.deadline > time.time():
            log.info(
                "Report %s is %s; %s waits of this account here, this one until %s at the latest",
                self.report_id,
                subscription.status or "not done yet",
                shared.waits,
                utc(self.deadline),
            )


def log_status(report_id: str, status: str) -> None:
    """Log a status that was not seen before."""
    known = status in ProcessingStatus.__members__
    log.info("Report %s is %s%s", report_id, status, "" if known else ", a status unknown here: waiting on")


def log_failed_poll(report_id: str, error: AmazonBusinessError) -> None:
    """Log a poll that failed for a while."""
    log.warning("Polling report %s failed, the wait continues: %s", report_id, error)
