"""The metrics of API calls in Airflow: counters and timers by operation."""

from __future__ import annotations

from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.compat import Stats

_PREFIX = "amazon_business"


class CallMetrics(CallListener):
    """Counts calls and 429 responses, and times the waits for permits."""

    def on_response(self, operation: str, status: int) -> None:
        """Count a call, and additionally a 429."""
        Stats.incr(f"{_PREFIX}.calls.{operation}")
        if status == 429:
            Stats.incr(f"{_PREFIX}.throttled.{operation}")

    def on_permit_wait(self, operation: str, seconds: float) -> None:
        """Time a wait for a permit; Airflow's timers use milliseconds."""
        Stats.timing(f"{_PREFIX}.permit_wait.{operation}", seconds * 1000)

    def on_store_failure(self) -> None:
        """Count a failed call of the rate limit store."""
        Stats.incr(f"{_PREFIX}.rate_limit_store.failed")


def poll_lag(seconds: float) -> None:
    """Time how much later than requested the reports were polled."""
    Stats.timing(f"{_PREFIX}.poll_lag", seconds * 1000)


def report_ended(status: str) -> None:
    """Count a report that a task waited for, by its terminal status."""
    Stats.incr(f"{_PREFIX}.reports.{status.lower()}")
