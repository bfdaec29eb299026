"""Waiting for one's turn under the account's limits, in the triggerer, where it costs no worker."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.token_bucket import TokenBucket
from airflow_provider_amzbiz.exceptions import ThrottledError
from airflow_provider_amzbiz.metrics import CallMetrics
from airflow_provider_amzbiz.triggers.base import WaitingTrigger, run_in_thread
from airflow_provider_amzbiz.triggers.connections import wait_for_hook

if TYPE_CHECKING:
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

log = logging.getLogger(__name__)

# Seconds between two lines about a wait.
_SAY_SECONDS = 240.0
# Seconds after which a task gives up to wait for its turn.
MAX_QUEUE_SECONDS = 7 * 86400.0


async def acquire_permits(hook: AmazonBusinessHook, operation: str, count: int = 1) -> None:
    """Queue for permits, and hand them to the hook's next calls of the operation."""
    if "client" not in vars(hook):
        # Reading the connection may take long.
        await run_in_thread(hook.get_conn)
    await wait_for_permits(hook.token_bucket(operation), operation, count)
    hook.grant(operation, count)


async def wait_for_permits(bucket: TokenBucket, operation: str, count: int = 1, *, first: bool = False) -> None:
    """Queue for permits; ``first`` before all others, for a task that was throttled although it had its permit."""
    ticket = bucket.join(count, first=first)
    start = said = time.monotonic()
    try:
        while left := bucket.claim(ticket):
            now = time.monotonic()
            if now >= said and left > 1:
                said = now + _SAY_SECONDS
                log.info("%s waits for its turn, about %.0f s; %s in the queue", operation, left, bucket.waiting)
            await asyncio.sleep(bucket.pause(left))
    finally:
        bucket.leave(ticket)
    CallMetrics().on_permit_wait(operation, time.monotonic() - start)


class PermitTrigger(WaitingTrigger):
    """Fires when it is the task's turn to call an operation; the task then calls it on a worker.

    The call itself is left to the task, because only a task can remember what it created, and because a
    document's URL must not travel through Airflow's database.

    The event is a dict with ``status``: ``permitted`` with ``operation``, ``permits``, ``since`` and ``state``, or
    ``error`` with ``error`` (:meth:`.AmazonBusinessError.to_dict`).

    :param operation: operation id of the API, such as ``createReport``.
    :param amazon_business_conn_id: the connection; its secrets are read in the triggerer and not kept here.
    :param since: Unix time at which the task first asked.
    :param refused_at: Unix time at which the API answered 429, if that is why it waits.
    :param permitted: whether it had a permit then: somebody else uses the limit, too, and the task keeps its place
        in the queue.
    :param state: what the task has to know when it continues.
    """

    def __init__(
        self,
        *,
        operation: str,
        amazon_business_conn_id: str,
        since: float,
        refused_at: float | None = None,
        permitted: bool = False,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation = operation
        self.amazon_business_conn_id = amazon_business_conn_id
        self.since = since
        self.refused_at = refused_at
        self.permitted = permitted
        self.state = state or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and what a triggerer needs to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "operation": self.operation,
                "amazon_business_conn_id": self.amazon_business_conn_id,
                "since": self.since,
                "refused_at": self.refused_at,
                "permitted": self.permitted,
                "state": self.state,
            },
        )

    async def wait(self) -> dict[str, Any]:
        """Queue, and say when it is the task's turn."""
        deadline = self.since + MAX_QUEUE_SECONDS
        hook = await wait_for_hook(self.amazon_business_conn_id, deadline)
        bucket = hook.token_bucket(self.operation)
        if self.refused_at is not None:
            if self.permitted:
                bucket.throttled()
            else:
                bucket.emptied(max(time.time() - self.refused_at, 0.0))
        queueing = wait_for_permits(bucket, self.operation, first=self.permitted)
        try:
            await asyncio.wait_for(queueing, max(deadline - time.time(), 0.1))
        except TimeoutError:
            raise ThrottledError(
                f"{self.operation} did not come to its turn in {MAX_QUEUE_SECONDS / 86400:.0f} days",
                operation=self.operation,
            ) from None
        return {
            "status": "permitted",
            "operation": self.operation,
            "permits": 1,
            "since": self.since,
            "state": self.state,
        }
