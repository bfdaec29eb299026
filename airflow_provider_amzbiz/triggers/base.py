"""How a trigger's wait is run: in a triggerer, or in the task's own process."""

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
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.events import Event, WaitFailed

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Seconds from the deferral to the event at least. A scheduler that hears late of the deferred process's end, when
# the task is running again, takes it for a process that died (seen on Airflow 3.3.2, after four seconds).
MIN_DEFER_SECONDS = 10.0
# Threads for the blocking calls of all triggers of a process, of all accounts. The loop's default executor (six
# threads on two cores) is left to others: DNS look-ups and other providers' triggers need it.
MAX_THREADS = 32


class WaitingTrigger(BaseTrigger):
    """A trigger that fires one event."""

    @abstractmethod
    async def wait(self) -> Event | dict[str, Any]:
        """Wait, and return the event.

        :raises AmazonBusinessError: the wait cannot continue; it becomes the event :class:`.WaitFailed`.
        """

    async def event(self) -> dict[str, Any]:
        """Wait, and return the event as a dict; an error becomes an event too."""
        try:
            event = await self.wait()
        except AmazonBusinessError as error:
            event = WaitFailed(error)
        except Exception as error:
            # Airflow would only report to the task that its trigger failed, without the reason.
            log.exception("The wait failed")
            event = WaitFailed(AmazonBusinessError(f"The wait failed: {type(error).__name__}: {error}"))
        return event.to_dict() if isinstance(event, Event) else event

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the event, but not too soon."""
        start = time.monotonic()
        event = await self.event()
        await asyncio.sleep(max(start + MIN_DEFER_SECONDS - time.monotonic(), 0.0))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


# A forked process has the pool's object, but none of its threads.
os.register_at_fork(after_in_child=_forget_pool)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="amazon-business")
    return _pool


async def run_in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run what blocks in a thread of the provider's own pool, to its end also where the trigger is cancelled.

    Not by asyncio.to_thread: on Airflow 3.1, what reads a connection or masks a secret there makes an event loop
    of its own, leaves the supervisor's response unread, and the next response then crashes the triggerer. The
    same happens where such a call is cancelled.
    """
    call = sync_to_async(function, thread_sensitive=False, executor=_threads())
    return await asyncio.shield(call(*arguments))


def of_running_loop(by_loop: dict[asyncio.AbstractEventLoop, Result], make: Callable[[], Result]) -> Result:
    """Return what a module keeps for the running event loop, and drop what it kept for loops that are closed."""
    for loop in [each for each in by_loop if each.is_closed()]:
        del by_loop[loop]
    return by_loop.setdefault(asyncio.get_running_loop(), make())


class WaitInterrupted(Exception):  # noqa: N818
    """The wait of this process was interrupted, because its task is being ended."""


class _HeldAlarm:
    """Has SIGALRM interrupt a wait, and its handler called when the wait has ended.

    Airflow's handler, for ``execution_timeout``, raises. Raised inside the event loop, the exception could end one
    of its tasks only, such as the poller, and be lost there: the wait would continue.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._handler: Any = None
        self.rung = False

    def __enter__(self) -> _HeldAlarm:
        handler = signal.getsignal(signal.SIGALRM)
        # Only the main thread can set a handler, and only there signals arrive.
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

    def hand_on(self) -> None:
        """Call the handler."""
        self._handler(signal.SIGALRM, None)


class InlineWait:
    """A trigger's wait in the task's own process, which :meth:`interrupt` ends.

    A task that does not defer waits by the same code as one that does, so that both end alike.
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
        with suppress(WaitInterrupted), _HeldAlarm(self.interrupt) as alarm:
            event = asyncio.run(self._wait(trigger))
        # Outside of any handling of an exception, which would be shown as its context.
        if alarm.rung:
            alarm.hand_on()
        if event is None:
            raise WaitInterrupted
        return event

    def interrupt(self) -> None:
        """End the wait. May be called from a signal handler or another thread, also before the wait starts."""
        self._interrupted = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            # An exception from the signal handler could be raised inside the poller, and be lost there.
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
