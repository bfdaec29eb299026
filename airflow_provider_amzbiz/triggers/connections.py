"""The connections that the triggers of an event loop share: each is read once for all of them."""

from __future__ import annotations

import asyncio
import logging
import time

from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    error_from_dict,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.triggers.base import of_running_loop, run_in_thread
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify

log = logging.getLogger(__name__)

# Seconds for which triggers that start use a connection as it was read.
_FRESH_SECONDS = 60.0
# Seconds for which triggers that need the same connection share the error of its last read.
_ERROR_SECONDS = 1.0
# Seconds after which a connection that cannot be read, or cannot be used, is read again.
PAUSE = 10.0
# Seconds for which an invalid connection is waited for: somebody may be editing it.
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
        # When a thousand triggers start together, all wait here for the first one's read.
        async with self._lock:
            age = time.monotonic() - self._read_at
            if self._hook is not None and age < _FRESH_SECONDS:
                return self._hook
            if self._error is not None and age < _ERROR_SECONDS:
                # A copy for each trigger, because an error carries one traceback.
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
    """Let the next :func:`shared_hook` read the connection again, because it may have been corrected."""
    _shared(hook.amazon_business_conn_id).forget(hook)


async def wait_for_hook(amazon_business_conn_id: str, until: float = float("inf")) -> AmazonBusinessHook:
    """Return the shared hook of a connection; wait while the connection cannot be read or is invalid.

    Airflow also reports that there is no connection while its database or secrets backend is out of reach, and a
    connection may be invalid while somebody edits it.

    :param until: Unix time until which to wait for a connection that cannot be read.
    :raises AmazonBusinessError: it cannot be read until then, or it stays invalid for five minutes.
    """
    invalid_since: float | None = None
    while True:
        try:
            return await shared_hook(amazon_business_conn_id)
        except AmazonBusinessError as error:
            now = time.time()
            invalid_since = None if classify(error) is PollFailure.TRANSIENT else invalid_since or now
            if now >= until or (invalid_since is not None and now >= invalid_since + INVALID_SECONDS):
                raise
            log.warning("%s. The wait continues", error)
            await asyncio.sleep(max(min(PAUSE, until - now), 0.0))
