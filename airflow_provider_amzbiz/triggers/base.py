"""How a trigger's wait runs: in a triggerer, or in the task's own process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks import supervisor
from airflow_provider_amzbiz.triggers.events import Event, WaitFailed

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Seconds between two log lines of a wait in which nothing happens.
LOG_INTERVAL = 240.0
# Minimum seconds from the deferral to the event. If the scheduler processes the end of the deferred process only
# when the task is running again, it takes the process for one that died (seen on Airflow 3.3.2, after 4 seconds).
MIN_DEFER_SECONDS = 10.0
# Threads for the blocking calls of all triggers of a process, of all accounts. The loop's default executor (six
# threads on two cores) stays free for DNS look-ups and other providers' triggers.
MAX_THREADS = 64


class WaitingTrigger(BaseTrigger):
    """A trigger that fires one event."""

    @abstractmethod
    async def wait(self) -> Event:
        """Wait, and return the event.

        :raises AmazonBusinessError: the wait cannot continue; it becomes the event :class:`.WaitFailed`.
        """

    async def event(self) -> dict[str, Any]:
        """Wait, and return the event as a dict; an error becomes an event too."""
        try:
            event: Event = await self.wait()
        except AmazonBusinessError as error:
            event = WaitFailed(error)
        except Exception as error:
            # Airflow would only report to the task that its trigger failed, without the reason.
            log.exception("The wait failed")
            event = WaitFailed(AmazonBusinessError(f"The wait failed: {type(error).__name__}: {error}"))
        return event.to_dict()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the event, at the earliest after :data:`MIN_DEFER_SECONDS`."""
        start = time.monotonic()
        event = await self.event()
        await asyncio.sleep(max(start + MIN_DEFER_SECONDS - time.monotonic(), 0.0))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


_pool: ThreadPoolExecutor | None = None


def _drop_pool() -> None:
    global _pool
    _pool = None


# A forked process inherits the pool, but none of its threads.
os.register_at_fork(after_in_child=_drop_pool)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="amazon-business")
    return _pool


async def run_in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a blocking function in a thread of the provider's own pool, to its end even if the trigger is cancelled.

    Not with asyncio.to_thread: on Airflow 3.1, a function that reads a connection or masks a secret there creates
    an event loop of its own and leaves the supervisor's reply unread; the next reply then crashes the triggerer.
    A cancelled call would do the same.
    """
    call = sync_to_async(function, thread_sensitive=False, executor=_threads())
    return await asyncio.shield(call(*arguments))


async def task_continues(trigger: BaseTrigger) -> bool:
    """Tell whether the task of a trigger still needs its reports, although Airflow calls ``on_kill``.

    Airflow calls it for each trigger that a triggerer is no longer to run. That includes those that another
    triggerer has taken over, because the heartbeat of this one was late (seen on Airflow 3.3.2). A task that was
    cleared may run or wait again by then, and continues with the report on record.
    """
    task: Any = trigger.task_instance
    if task is None:
        return False
    # Only Airflow 3.3 and newer call on_kill.
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = await run_in_thread(
        partial(
            RuntimeTaskInstance.get_task_states,
            dag_id=task.dag_id,
            task_ids=[task.task_id],
            run_ids=[task.run_id],
            map_index=task.map_index,
        )
    )
    # The names of mapped tasks have their index, and there is only one.
    active = {"deferred", "running"} & set(states.get(task.run_id, {}).values())
    if active:
        log.info("No report is cancelled: the task is %s, in another triggerer or in a new attempt", *active)
    return bool(active)


def of_running_loop(by_loop: dict[asyncio.AbstractEventLoop, Result], make: Callable[[], Result]) -> Result:
    """Return the running loop's entry, which ``make`` creates if needed; drop the entries of closed loops."""
    for loop in [each for each in by_loop if each.is_closed()]:
        del by_loop[loop]
    return by_loop.setdefault(asyncio.get_running_loop(), make())


class WaitInterrupted(Exception):  # noqa: N818
    """The wait in this process was interrupted, because its task is being ended."""


class _HeldAlarm:
    """Makes SIGALRM interrupt a wait, and calls the signal's handler after the wait has ended.

    Airflow's handler, for ``execution_timeout``, raises. Inside the event loop, the exception could end one of the
    loop's tasks only, such as the poller, and be lost there: the wait would continue.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._handler: Any = None
        self.rung = False

    def __enter__(self) -> _HeldAlarm:
        handler = signal.getsignal(signal.SIGALRM)
        # Only the main thread receives signals and may set a handler.
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self._handler = handler
            signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGALRM, self._handler)

    def _ring(self, *_: object) -> None:
        self.rung = True
        self._interrupt()

    def call_handler(self) -> None:
        """Call the handler that was held back."""
        self._handler(signal.SIGALRM, None)


class InlineWait:
    """A trigger's wait in the task's own process, which :meth:`interrupt` ends.

    A task that does not defer waits with the same code as one that does, so that both have the same outcome.
    """

    def __init__(self) -> None:
        self._interrupted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self, trigger: WaitingTrigger) -> dict[str, Any]:
        """Wait, and return the event.

        :raises WaitInterrupted: :meth:`interrupt` was called.
        """
        event: dict[str, Any] | None = None
        # The trigger's calls run in threads.
        supervisor.serialize_threads()
        with suppress(WaitInterrupted), _HeldAlarm(self.interrupt) as alarm:
            event = asyncio.run(self._wait(trigger))
        # Outside the with block, so that no exception shows as the handler's context.
        if alarm.rung:
            alarm.call_handler()
        if event is None:
            raise WaitInterrupted
        return event

    def interrupt(self) -> None:
        """End the wait; safe in a signal handler and in another thread, also before the wait starts."""
        self._interrupted = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            # An exception raised in the signal handler could end the poller's task only, and be lost there.
            loop.call_soon_threadsafe(task.cancel)

    async def _wait(self, trigger: WaitingTrigger) -> dict[str, Any]:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        try:
            if not self._interrupted:
                return await trigger.event()
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
        finally:
            self._loop = None
        raise WaitInterrupted
