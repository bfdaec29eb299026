"""The requests that the sandbox has received, and the faults still to come."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request

    from airflow_provider_amzbiz.sandbox.clock import Clock
    from airflow_provider_amzbiz.sandbox.faults import Fault


@dataclass
class Call:
    """A request received: ``operation`` is an operation id, ``token`` or ``document``.

    :ivar headers: names in lower case; they include the access token.
    :ivar status: of the response, or None if there was none.
    :ivar at: sandbox time.
    """

    operation: str
    method: str
    path: str
    query: str
    body: bytes
    headers: dict[str, str]
    at: datetime
    status: int | None = None


class Journal:
    """Records calls, and chooses the faults for them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        # One request at a time changes the state; tests script and read it from other threads.
        self.lock = threading.RLock()
        self._calls: list[Call] = []
        self._faults: list[Fault] = []

    @property
    def calls(self) -> list[Call]:
        """All requests so far, in the order of their arrival."""
        with self.lock:
            return list(self._calls)

    def count(self, operation: str, status: int | None = None) -> int:
        """Return the number of requests of an operation, or of those with a status code."""
        return sum(
            call.operation == operation and (status is None or call.status == status) for call in self.calls
        )

    def inject(self, fault: Fault) -> None:
        """Make something go wrong; see :class:`.Fault`."""
        with self.lock:
            self._faults.append(fault)

    @property
    def faults(self) -> list[Fault]:
        """The faults still to come."""
        with self.lock:
            return [fault for fault in self._faults if fault.times != 0]

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self.lock:
            self._faults.clear()

    def record(self, operation: str, request: Request, body: bytes) -> Call:
        """Record a request."""
        call = Call(
            operation=operation,
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            body=body,
            headers=dict(request.headers),
            at=self.clock.now(),
        )
        with self.lock:
            self._calls.append(call)
        return call

    def take_faults(self, operation: str) -> list[Fault]:
        """Return the faults that hit this call."""
        with self.lock:
            taken: dict[str, Fault] = {}
            for fault in self._faults:
                if fault.take(operation, free=fault.slot not in taken):
                    taken[fault.slot] = fault
            return list(taken.values())
