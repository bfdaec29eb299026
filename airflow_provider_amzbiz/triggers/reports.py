"""Waiting for a report: one look, and a trigger that looks again and again without a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.durable_create import cancel_quietly
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ConnectionNotFoundError,
    ReportNotFoundError,
    TaskKilledError,
    about_report,
    error_from_dict,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.base import WaitingTrigger, run_in_thread
from airflow_provider_amzbiz.triggers.events import ReportEnded, ReportTimedOut
from airflow_provider_amzbiz.triggers.listing import Created
from airflow_provider_amzbiz.triggers.poller import ReportPoller, poller
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)

# Seconds after the trigger's own deadline at which Airflow ends the wait, should no triggerer be alive.
BACKSTOP = 120.0
# Seconds that the last poll at the deadline may take, its wait for a permit included: much less than the backstop.
LAST_POLL_SECONDS = 30.0
# Seconds between two lines about a wait in which nothing happens.
_SAY_SECONDS = 240.0


class ReportWatch:
    """Looks at one report now and then, and tells when it has ended.

    A look that fails for the moment is not a failed report: it is logged and left to the next look.

    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    :param patient: whether an earlier look has read the connection, so that it is there, and a moment in which it
        cannot be read will pass.
    """

    def __init__(
        self, hook: AmazonBusinessHook, report_id: str, *, not_found_grace_until: float, patient: bool = False
    ) -> None:
        self._hook = hook
        self._report_id = report_id
        self._young_until = not_found_grace_until
        self._patient = patient
        self.status: str | None = None
        self.report: Report | None = None

    @property
    def report_type(self) -> str | None:
        """The report's type, once a look has told it."""
        return self.report.report_type if self.report else None

    def look(self) -> Report | None:
        """Return the report once its status is terminal, None before that.

        :raises AmazonBusinessPermanentError: no later look can succeed.
        :raises TaskKilledError: the task was ended.
        """
        try:
            report = self._hook.get_report(self._report_id)
        except ReportNotFoundError:
            if time.time() >= self._young_until:
                raise
            log.info("Report %s is not known yet", self._report_id)
            return None
        except ConnectionNotFoundError as error:
            if not self._patient:
                raise
            log.warning("%s. The wait goes on", error)
            return None
        except (AmazonBusinessPermanentError, TaskKilledError):
            raise
        except AmazonBusinessError as error:
            log.warning("Looking at report %s failed, the wait goes on: %s", self._report_id, error)
            return None
        self.report = report
        self._note(report.processing_status)
        return report if report.is_terminal else None

    def _note(self, status: str) -> None:
        if status != self.status:
            note_status(self._report_id, status)
        self.status = status


class ReportStatusTrigger(WaitingTrigger):
    """Fires one event when a report has a terminal status, or when the wait is over.

    The event is :class:`.ReportEnded`, :class:`.ReportTimedOut` or :class:`.WaitFailed`.

    All waits of an account in a triggerer share one poller. Both deadlines are Unix times, so that
    they hold through restarts of the triggerer.

    :param report_id: the report.
    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param poke_interval: seconds between two looks.
    :param deadline: Unix time at which the wait ends, after one last look.
    :param not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    :param report_type: the report's type, where it is known; it spares a call.
    :param created_time: when the report was created (ISO 8601), where it is known; it spares a call.
    :param created_between: else the two Unix times between which it was asked for, which serve as well.
    :param cancel_on_kill: whether the report is the task's own, and is cancelled where a person ends the wait
        (Airflow 3.3 and newer).
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
        """Return the class path and what a triggerer needs to make this trigger again."""
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
        """Cancel the task's own report; Airflow calls this when a person ends the wait, not on a restart."""
        if self.cancel_on_kill:
            await run_in_thread(cancel_quietly, self.amazon_business_conn_id, self.report_id)

    async def wait(self) -> ReportEnded | ReportTimedOut:
        """Wait until the report has a terminal status, or the deadline is reached."""
        wait = Subscription(
            report_id=self.report_id,
            amazon_business_conn_id=self.amazon_business_conn_id,
            poke_interval=self.poke_interval,
            not_found_grace_until=self.not_found_grace_until,
            report_type=self.report_type,
            created=self._created(),
        )
        told: asyncio.Queue[Report | AmazonBusinessError] = asyncio.Queue()
        wait.on_update = told.put_nowait
        shared = await poller(self.amazon_business_conn_id, self.deadline)
        shared.join(wait)
        try:
            while (left := self.deadline - time.time()) > 0:
                try:
                    news = await asyncio.wait_for(told.get(), min(left, _SAY_SECONDS))
                except TimeoutError:
                    self._say(wait, shared)
                    continue
                if event := self._event_of(news, wait):
                    return event
            with suppress(TimeoutError):
                await asyncio.wait_for(shared.poll_once_more(wait), LAST_POLL_SECONDS)
            while not told.empty():
                if event := self._event_of(told.get_nowait(), wait):
                    return event
            return ReportTimedOut(self.report_id, wait.report_type, wait.status, own=self.cancel_on_kill)
        finally:
            shared.leave(wait)

    def _created(self) -> Created | None:
        if self.created_time:
            return Created.at(datetime.fromisoformat(self.created_time))
        return Created.around(*self.created_between) if self.created_between else None

    def _event_of(self, news: Report | AmazonBusinessError, wait: Subscription) -> ReportEnded | None:
        """Return the event of what ends the wait; log what does not."""
        if isinstance(news, AmazonBusinessError):
            if wait.finished:
                with about_report(self.report_id, wait.report_type):
                    # Of its own, because other waits may have been told of the same error.
                    raise error_from_dict(news.to_dict())
            log.warning("Polling report %s failed, the wait continues: %s", self.report_id, news)
            return None
        if not news.is_terminal:
            note_status(self.report_id, news.processing_status)
            return None
        metrics.report_ended(news.processing_status)
        return ReportEnded(news)

    def _say(self, wait: Subscription, shared: ReportPoller) -> None:
        if self.deadline > time.time():
            log.info(
                "Report %s is %s; %s waits of this account here, this one for %.0f minutes at most",
                self.report_id,
                wait.status or "not done yet",
                shared.waits,
                (self.deadline - time.time()) / 60,
            )


def note_status(report_id: str, status: str) -> None:
    """Log a status that has not been seen before."""
    known = status in ProcessingStatus.__members__
    log.info("Report %s is %s%s", report_id, status, "" if known else ", a status unknown here: waiting on")
