"""What has arrived at the sandbox, and the faults that are still to happen."""

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
    """A request that arrived: ``operation`` is an operation id, ``token`` or ``document``.

    :ivar headers: names in lower case; they include the access token.
    :ivar status: of the answer, or None where there was none.
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
    """Records calls, and hands out faults to them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        # One request at a time changes what is remembered; scripts and questions come from other threads.
        self.lock = threading.RLock()
        self._calls: list[Call] = []
        self._faults: list[Fault] = []

    @property
    def calls(self) -> list[Call]:
        """All requests so far, in the order of their arrival."""
        with self.lock:
            return list(self._calls)

    def count(self, operation: str, status: int | None = None) -> int:
        """Return how many requests there were of an operation, or of those with an answer's status."""
        return sum(
            call.operation == operation and (status is None or call.status == status) for call in self.calls
        )

    def inject(self, fault: Fault) -> None:
        """Make something go wrong; see :class:`.Fault`."""
        with self.lock:
            self._faults.append(fault)

    @property
    def faults(self) -> list[Fault]:
        """The faults that are still to happen."""
        with self.lock:
            return [fault for fault in self._faults if fault.times != 0]

    def clear_faults(self) -> None:
        """Take back all faults."""
        with self.lock:
            self._faults.clear()

    def note(self, operation: str, request: Request, body: bytes) -> Call:
        """Remember a request."""
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
