"""What can be told about calls while they are made."""

from __future__ import annotations


class CallListener:
    """Is told about calls, for metrics; this one does nothing with it."""

    def on_response(self, operation: str, status: int) -> None:
        """Be told of an answer."""

    def on_permit_wait(self, operation: str, seconds: float) -> None:
        """Be told how long a call waited for its permit."""
