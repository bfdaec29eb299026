"""The connections that the triggers of an event loop use: each is read once for all of them."""

from __future__ import annotations

import asyncio
import logging
import time

from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ConnectionNotFoundError,
    error_from_dict,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.base import of_running_loop, run_in_thread

log = logging.getLogger(__name__)

# Seconds for which what a connection said is relied upon by triggers that start.
_FRESH_SECONDS = 60.0
# Seconds for which triggers that wait for the same read share its error.
_ERROR_SECONDS = 1.0
# Seconds after which a connection that cannot be read, or cannot be used, is read again.
PAUSE = 10.0
# Seconds for which an invalid connection may be one that somebody is just editing.
INVALID_SECONDS = 300.0


class _SharedConnection:
    """One connection, as last read."""

    def __init__(self, amazon_business_conn_id: str) -> None:
        self._conn_id = amazon_business_conn_id
        self._lock = asyncio.Lock()
        self._hook: AmazonBusinessHook | None = None
        self._error: AmazonBusinessError | None = None
        self._read_at = float("-inf")

    def forget(self, hook: AmazonBusinessHook) -> None:
        if self._hook is hook:
            self._hook = None

    async def get(self) -> AmazonBusinessHook:
        # A thousand triggers that start together wait here for the first one's read.
        async with self._lock:
            age = time.monotonic() - self._read_at
            if self._hook is not None and age < _FRESH_SECONDS:
                return self._hook
            if self._error is not None and age < _ERROR_SECONDS:
                # Each waiter raises an error of its own, because a traceback belongs to one.
                raise error_from_dict(self._error.to_dict())
            await self._read()
        if self._hook is None:
            raise AssertionError("the read has raised")
        return self._hook

    async def _read(self) -> None:
        hook = AmazonBusinessHook.for_trigger(self._conn_id)
        self._hook = self._error = None
        try:
            await run_in_thread(hook.get_conn)
        except AmazonBusinessError as error:
            self._error = error
            raise
        except Exception as error:  # noqa: BLE001
            # A secrets backend may fail in ways of its own, and may recover.
            self._error = AmazonBusinessError(
                f"Connection {self._conn_id!r} cannot be read: {type(error).__name__}"
            )
            raise self._error from None
        finally:
            self._read_at = time.monotonic()
        self._hook = hook


_connections: dict[asyncio.AbstractEventLoop, dict[str, _SharedConnection]] = {}


def _shared(amazon_business_conn_id: str) -> _SharedConnection:
    of_loop = of_running_loop(_connections, dict)
    if amazon_business_conn_id not in of_loop:
        of_loop[amazon_business_conn_id] = _SharedConnection(amazon_business_conn_id)
    return of_loop[amazon_business_conn_id]


async def shared_hook(amazon_business_conn_id: str) -> AmazonBusinessHook:
    """Return the running loop's hook of a connection, which has been read within the last minute.

    The hook neither repeats failed calls nor waits for permits.

    :raises ConnectionNotFoundError: there is none, or it cannot be read for the moment.
    :raises InvalidInputError: a field of it is not allowed.
    """
    return await _shared(amazon_business_conn_id).get()


def forget(hook: AmazonBusinessHook) -> None:
    """Have the next :func:`shared_hook` read the connection again: what it said may be outdated."""
    _shared(hook.amazon_business_conn_id).forget(hook)


async def wait_for_hook(amazon_business_conn_id: str, until: float = float("inf")) -> AmazonBusinessHook:
    """Return the shared hook of a connection, which is waited for while it cannot be read or is invalid.

    Airflow says that there is no connection also while its database or secrets backend is out of reach, and a
    connection may be invalid while somebody edits it.

    :param until: Unix time after which a connection that cannot be read is an error. One that stays invalid for
        five minutes is an error as well.
    """
    invalid_since: float | None = None
    while True:
        try:
            return await shared_hook(amazon_business_conn_id)
        except AmazonBusinessError as error:
            now = time.time()
            if isinstance(error, ConnectionNotFoundError) or not isinstance(error, AmazonBusinessPermanentError):
                invalid_since = None
            else:
                invalid_since = invalid_since or now
            if now >= until or (invalid_since is not None and now >= invalid_since + INVALID_SECONDS):
                raise
            log.warning("%s. The wait continues", error)
            await asyncio.sleep(max(min(PAUSE, until - now), 0.0))
