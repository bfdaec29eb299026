"""What can be told about calls while they are made."""

from __future__ import annotations


class Observer:
    """Is told about calls, for metrics; this one does nothing with it."""

    def called(self, operation: str, status: int) -> None:
        """Be told of an answer."""

    def queued(self, operation: str, seconds: float) -> None:
        """Be told how long a call waited for its permit."""
