"""Polling reports one by one with getReport."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, ReportNotFoundError
from airflow_provider_amzbiz.triggers.base import run_in_thread
from airflow_provider_amzbiz.triggers.permits import acquire_permits
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify, may_be_outdated

if TYPE_CHECKING:
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.triggers.poll_round import PollRound
    from airflow_provider_amzbiz.triggers.polled_connections import PolledConnection, PolledConnections
    from airflow_provider_amzbiz.triggers.subscriptions import Subscription

log = logging.getLogger(__name__)

# Concurrent getReport calls of an account: what its limit allows if each takes four seconds.
MAX_CONCURRENT = 8
# Reports of which the time of the last poll is remembered.
_MAX_REMEMBERED = 50_000


class SinglePolls:
    """Polls reports one by one, the longest unpolled first.

    :param on_polled: called after each poll, whether it worked or not.
    """

    def __init__(self, connections: PolledConnections, on_polled: Callable[[Subscription], None]) -> None:
        self._connections = connections
        self._on_polled = on_polled
        # By report and not by subscription: a batch subscribes to the same reports again every few minutes.
        self._last_polled: OrderedDict[str, float] = OrderedDict()

    async def poll(
        self, subscriptions: Iterable[Subscription], outcome: PollRound, *, concurrent: int = MAX_CONCURRENT
    ) -> None:
        """Poll some reports; one that cannot be polled does not delay the others."""
        limit = asyncio.Semaphore(concurrent)

        async def one(subscription: Subscription) -> None:
            async with limit:
                await self._poll_one(subscription, outcome)

        await asyncio.gather(*[one(each) for each in self.longest_unpolled(subscriptions)])

    def longest_unpolled(self, subscriptions: Iterable[Subscription]) -> list[Subscription]:
        """Sort subscriptions by the time of their report's last poll."""
        return sorted(subscriptions, key=lambda each: self._last_polled.get(each.report_id, 0.0))

    async def _poll_one(self, subscription: Subscription, outcome: PollRound) -> None:
        connection = self._connections.of(subscription)
        hook = connection.hook
        left = subscription not in connection.subscriptions
        if hook is None or subscription.finished or left or outcome.is_finished(connection):
            return
        result = await _get_report(hook, subscription.report_id)
        self._remember(subscription.report_id)
        if isinstance(result, Report):
            outcome.worked(connection)
            subscription.failures, subscription.missed = 0, False
            subscription.notify(result)
        else:
            _handle_failure(connection, hook, subscription, result, outcome)
        self._on_polled(subscription)

    def _remember(self, report_id: str) -> None:
        self._last_polled[report_id] = time.monotonic()
        self._last_polled.move_to_end(report_id)
        if len(self._last_polled) > _MAX_REMEMBERED:
            self._last_polled.popitem(last=False)


async def _get_report(hook: AmazonBusinessHook, report_id: str) -> Report | AmazonBusinessError:
    await acquire_permits(hook, "getReport")
    try:
        return await run_in_thread(hook.get_report, report_id)
    except AmazonBusinessError as error:
        return error
    except Exception as error:
        log.exception("Polling report %s failed", report_id)
        return AmazonBusinessError(f"Polling report {report_id} failed: {type(error).__name__}")


def _handle_failure(
    connection: PolledConnection,
    hook: AmazonBusinessHook,
    subscription: Subscription,
    error: AmazonBusinessError,
    outcome: PollRound,
) -> None:
    failure = classify(error, not_found_grace_until=subscription.not_found_grace_until)
    if failure is PollFailure.CREDENTIALS:
        outcome.rejected(connection, hook, error)
        return
    if may_be_outdated(error):
        outcome.outdated(connection, hook)
    if failure is PollFailure.TRANSIENT:
        outcome.failed(connection, error, subscription)
    elif failure is PollFailure.NOT_YET:
        outcome.worked(connection)
    elif not subscription.missed and (failure is PollFailure.DENIED or isinstance(error, ReportNotFoundError)):
        # As with rejected credentials: final only if the connection was read again and the poll failed again.
        subscription.missed = True
        subscription.notify(AmazonBusinessError(str(error)))
    else:
        outcome.worked(connection)
        subscription.notify(error, last=True)
