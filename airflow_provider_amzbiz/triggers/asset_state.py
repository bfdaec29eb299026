"""A value that outlives the triggerer, in Airflow's asset state store (3.3 and newer)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from airflow_provider_amzbiz.triggers.base import run_in_thread

log = logging.getLogger(__name__)

# Seconds after which a store that failed is asked again.
_RETRY_PAUSE = 10.0
# Seconds in which Airflow's triggerer passes an event on to its parent process.
_EVENT_SECONDS = 3.0


class AssetState:
    """A value in Airflow's asset state store, if there is one (Airflow 3.3 and newer, one asset per trigger).

    :param accessors: the trigger's ``asset_state_store``, None where Airflow has none.
    :param key: the key of the value.
    """

    def __init__(self, accessors: Any, key: str) -> None:
        self._accessors = accessors
        self._key = key

    async def load(self) -> dict[str, Any] | None:
        """Return the value, or None where there is none; wait while the store fails."""
        while self._accessors is not None:
            try:
                value: dict[str, Any] | None = await self._call("get", self._key)
                return value
            except ValueError as error:
                log.warning(
                    "A restart of this watcher loses what it has announced, because several assets share its "
                    "trigger; give each its own, with another poll_interval: %s",
                    error,
                )
                self._accessors = None
            except Exception as error:  # noqa: BLE001
                # Without the record, the watch would announce reports again, or miss some.
                log.warning("The record of announced reports cannot be read, waiting for it: %s", error)
                await asyncio.sleep(_RETRY_PAUSE)
        log.warning(
            "This watch has no state store (Airflow 3.3 and newer, one asset): a restart begins from scratch"
        )
        return None

    async def save(self, value: dict[str, Any]) -> None:
        """Write the value; if that fails, the next poll writes it."""
        if self._accessors is None:
            return
        try:
            await self._call("set", self._key, value)
        except Exception as error:  # noqa: BLE001
            log.warning("The announced reports could not be recorded, the next poll does so: %s", error)

    async def wait_for_events(self) -> None:
        """Wait until the events have left this process, so that a kill cannot lose events that are recorded.

        The triggerer sends events to its parent process once a second and does not report their arrival. But the
        parent serves one request after the other: after one reply, nothing sent before is stuck; after a second
        one, the events sent in between have arrived.
        """
        for _ in range(2):
            if self._accessors is not None:
                await asyncio.sleep(_EVENT_SECONDS)
                await self.load()

    async def _call(self, method: str, *arguments: Any) -> Any:
        # Airflow 3.3.0 and 3.3.1 have the blocking methods only.
        if hasattr(self._accessors, f"a{method}"):
            return await getattr(self._accessors, f"a{method}")(*arguments)
        return await run_in_thread(getattr(self._accessors, method), *arguments)
