"""What the servers of the demo and the tests have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Server(ABC):
    """A server that runs for the length of a ``with`` block; one that fails to start leaves nothing behind."""

    @abstractmethod
    def _boot(self) -> None:
        """Start, and wait until it can be used."""

    @abstractmethod
    def stop(self) -> None:
        """End all its processes, and remove its files; also where it has not started."""

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
