"""Waiting for a permit under the account's limits in the triggerer, where the wait costs no worker slot."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_amzbiz.client.token_bucket import TokenBucket
from airflow_provider_amzbiz.exceptions import ThrottledError
from airflow_provider_amzbiz.metrics import CallMetrics
from airflow_provider_amzbiz.triggers.base import LOG_INTERVAL, WaitingTrigger, run_in_thread
from airflow_provider_amzbiz.triggers.connections import wait_for_hook
from airflow_provider_amzbiz.triggers.events import PermitGranted

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.token_bucket import AnyBucket
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Maximum seconds that a task waits for a permit.
MAX_QUEUE_SECONDS = 7 * 86400.0


async def acquire_permits(hook: AmazonBusinessHook, operation: str, count: int = 1) -> None:
    """Queue for permits, and give them to the hook's next calls of the operation."""
    if not hook.is_connected:
        # Reading the connection may take long.
        await run_in_thread(hook.get_conn)
    await wait_for_permits(hook.token_bucket(operation), operation, count)
    hook.grant(operation, count)


async def wait_for_permits(
    bucket: AnyBucket, operation: str, count: int = 1, *, first: bool = False, name: str | None = None
) -> None:
    """Queue for permits.

    :param first: queue before all others, because the task was throttled although it had its permit.
    :param name: by which a limit store knows the wait, so that it keeps its place in another triggerer.
    """
    start = next_log = time.monotonic()
    ticket = await _join(bucket, partial(bucket.join, count, first=first, name=name))
    try:
        while left := await call_bucket(bucket, bucket.claim, ticket):
            now = time.monotonic()
            if now >= next_log and left > 1:
                next_log = now + LOG_INTERVAL
                log.info("%s waits for its permit, about %.0f s; %s in the queue", operation, left, bucket.waiting)
            await asyncio.sleep(bucket.pause(left))
    except BaseException:
        await call_bucket(bucket, bucket.leave, ticket)
        raise
    CallMetrics().on_permit_wait(operation, time.monotonic() - start)


async def call_bucket(bucket: AnyBucket, method: Callable[..., Result], *arguments: Any) -> Result:
    """Call a bucket's method: in a thread where it calls the limit store's server."""
    if not bucket.is_shared:
        return method(*arguments)
    return await run_in_thread(method, *arguments)


async def _join(bucket: AnyBucket, join: Callable[[], int]) -> int:
    if not bucket.is_shared:
        return join()
    joining = asyncio.ensure_future(run_in_thread(join))
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        # The thread may be about to take a place, which nobody would use.
        await run_in_thread(bucket.leave, await joining)
        raise


class PermitTrigger(WaitingTrigger):
    """Fires when the task may call an operation; the task then calls it on a worker.

    The trigger does not make the call itself: only a task can record what it created, and a document's URL must
    not travel through Airflow's database.

    The event is ``PermitGranted`` or ``WaitFailed`` of ``airflow_provider_amzbiz.triggers.events``.

    :param operation: operation id of the API, such as ``createReport``.
    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param since: Unix time at which the task first asked.
    :param throttled_at: Unix time of the 429 response, where the task waits because of one.
    :param had_permit: whether the throttled call had a permit. Then others use the limit, too, and the task keeps
        its place in the queue.
    :param state: what the task needs to continue; returned in the event.
    :param queue_name: a random name of the wait, by which it keeps its place in a limit store when another
        triggerer takes over; by default it gets a new place then.
    """

    def __init__(
        self,
        *,
        operation: str,
        amazon_business_conn_id: str,
        since: float,
        throttled_at: float | None = None,
        had_permit: bool = False,
        state: dict[str, Any] | None = None,
        queue_name: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation = operation
        self.amazon_business_conn_id = amazon_business_conn_id
        self.since = since
        self.throttled_at = throttled_at
        self.had_permit = had_permit
        self.state = state or {}
        self.queue_name = queue_name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, from which a triggerer re-creates this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "operation": self.operation,
                "amazon_business_conn_id": self.amazon_business_conn_id,
                "since": self.since,
                "throttled_at": self.throttled_at,
                "had_permit": self.had_permit,
                "state": self.state,
                "queue_name": self.queue_name,
            },
        )

    async def wait(self) -> PermitGranted:
        """Queue, and return when the task has its permit."""
        deadline = self.since + MAX_QUEUE_SECONDS
        hook = await wait_for_hook(self.amazon_business_conn_id, deadline)
        bucket = hook.token_bucket(self.operation)
        # With a limit store, the task has told it.
        if self.throttled_at is not None and isinstance(bucket, TokenBucket):
            if self.had_permit:
                bucket.throttled()
            else:
                bucket.emptied(max(time.time() - self.throttled_at, 0.0))
        queueing = wait_for_permits(bucket, self.operation, first=self.had_permit, name=self.queue_name)
        try:
            await asyncio.wait_for(queueing, max(deadline - time.time(), 0.1))
        except TimeoutError:
            raise ThrottledError(
                f"{self.operation} got no permit within {MAX_QUEUE_SECONDS / 86400:.0f} days",
                operation=self.operation,
            ) from None
        return PermitGranted(self.operation, permits=1, since=self.since, state=self.state)
