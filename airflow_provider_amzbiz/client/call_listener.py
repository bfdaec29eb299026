"""What a caller can observe of calls while they are made."""

from __future__ import annotations


class CallListener:
    """Receives what happens to calls, for metrics; this one ignores it."""

    def on_response(self, operation: str, status: int) -> None:
        """Handle the status code of a response."""

    def on_permit_wait(self, operation: str, seconds: float) -> None:
        """Handle the time that a call waited for its permit."""

    def on_store_failure(self) -> None:
        """Handle a call of the rate limit store that failed."""
