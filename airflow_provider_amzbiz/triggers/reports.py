"""Waiting for a report: one look, and a trigger that looks again and again without a worker."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ConnectionNotFoundError,
    ReportNotFoundError,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

log = logging.getLogger(__name__)

# Seconds for which getReport may not know a report that createReport has just made.
NOT_FOUND_GRACE = 120.0
# Seconds before the trigger's first look: an event in the very moment of the deferral would race the worker
# that is still handing the task over.
FIRST_LOOK = 2.0
# Seconds that a wait between looks grows to while they fail.
LONGEST_PAUSE = 300.0


class ReportWatch:
    """Looks at one report now and then, and tells when it has ended.

    A look that fails for the moment is not a failed report: it is logged, counted in ``failures`` and left
    to the next look.

    :param young_until: Unix time until which "no such report" may mean "not yet".
    """

    def __init__(self, hook: AmazonBusinessHook, report_id: str, *, young_until: float) -> None:
        self._hook = hook
        self._report_id = report_id
        self._young_until = young_until
        self.status: str | None = None
        self.failures = 0

    def look(self) -> Report | None:
        """Return the report once its status is terminal, None before that.

        :raises AmazonBusinessPermanentError: no later look can succeed.
        """
        try:
            report = self._hook.get_report(self._report_id)
        except ReportNotFoundError:
            if time.time() >= self._young_until:
                raise
            log.info("Report %s is not known yet", self._report_id)
            return None
        except AmazonBusinessPermanentError:
            raise
        except AmazonBusinessError as error:
            self.failures += 1
            log.warning("Looking at report %s failed, the wait goes on: %s", self._report_id, error)
            return None
        self.failures = 0
        self._note(report.processing_status)
        return report if report.is_terminal else None

    def _note(self, status: str) -> None:
        if status != self.status:
            known = status in ProcessingStatus.__members__
            log.info(
                "Report %s is %s%s",
                self._report_id,
                status,
                "" if known else ", a status unknown here: waiting on",
            )
        self.status = status


class ReportStatusTrigger(BaseTrigger):
    """Fires one event when a report has a terminal status, or when the wait is over.

    The event is a dict with ``status``: ``ended`` with ``report`` (:meth:`.Report.to_dict`), ``timeout`` with
    ``last_status`` (or None), or ``error`` with ``error`` (:meth:`.AmazonBusinessError.to_dict`).

    Both deadlines are Unix times, so that they hold through restarts of the triggerer.

    :param report_id: the report.
    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param poke_interval: seconds between two looks.
    :param deadline: Unix time at which the wait ends, after one last look.
    :param young_until: Unix time until which "no such report" may mean "not yet".
    """

    def __init__(
        self,
        *,
        report_id: str,
        amazon_business_conn_id: str,
        poke_interval: float,
        deadline: float,
        young_until: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.report_id = report_id
        self.amazon_business_conn_id = amazon_business_conn_id
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.young_until = young_until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and what a triggerer needs to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "report_id": self.report_id,
                "amazon_business_conn_id": self.amazon_business_conn_id,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "young_until": self.young_until,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to tell, and tell it."""
        hook = AmazonBusinessHook(self.amazon_business_conn_id, retry_for=0)
        watch = ReportWatch(hook, self.report_id, young_until=self.young_until)
        pause = max(self.poke_interval, FIRST_LOOK)
        event = None
        while event is None:
            await asyncio.sleep(max(0.0, min(pause, self.deadline - time.time())))
            # The client and the connection lookup block, so they run in a thread.
            event = await asyncio.to_thread(self._look, watch)
            pause = self._pause(watch.failures)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    def _look(self, watch: ReportWatch) -> dict[str, Any] | None:
        try:
            report = watch.look()
        except ConnectionNotFoundError as error:
            # Airflow says so also while its database or secrets backend is out of reach.
            watch.failures += 1
            log.warning("%s. The wait goes on", error)
            report = None
        except AmazonBusinessPermanentError as error:
            return {"status": "error", "error": error.to_dict()}
        if report:
            return {"status": "ended", "report": report.to_dict()}
        if time.time() >= self.deadline:
            return {"status": "timeout", "last_status": watch.status}
        return None

    def _pause(self, failures: int) -> float:
        grown = self.poke_interval * 2 ** min(failures, 10)
        # Thousands of waits that were deferred together should not look together.
        pause: float = max(min(grown, LONGEST_PAUSE), self.poke_interval)
        return pause * random.uniform(0.9, 1.1)  # noqa: S311
