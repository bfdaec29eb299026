"""Token buckets, one per account and operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.clock import Clock

# Operation to requests per second and burst. Amazon raised the rates in February 2026; getReport's are those
# of the sibling Selling Partner API, because Amazon Business publishes none.
PLANS: Mapping[str, Mapping[str, tuple[float, int]]] = {
    "2026": {
        "createReport": (0.1, 15),
        "getReports": (0.1, 10),
        "getReport": (2.0, 15),
        "cancelReport": (0.1, 10),
        "getReportDocument": (0.1, 15),
    },
    "2025": {
        "createReport": (0.0167, 15),
        "getReports": (0.0222, 10),
        "getReport": (2.0, 15),
        "cancelReport": (0.0222, 10),
        "getReportDocument": (0.0167, 15),
    },
    "sandbox": {
        "createReport": (5.0, 15),
        "getReports": (5.0, 15),
        "getReport": (5.0, 15),
        "cancelReport": (5.0, 15),
        "getReportDocument": (5.0, 15),
    },
}


class Buckets:
    """The token buckets of one account: initially full, one token per request, refilled over sandbox time."""

    def __init__(self, plan: str, clock: Clock) -> None:
        self._limits = PLANS[plan]
        self._clock = clock
        self._tokens = {operation: float(burst) for operation, (_, burst) in self._limits.items()}
        self._filled = dict.fromkeys(self._limits, clock.seconds())

    def take(self, operation: str) -> bool:
        """Take a token and return True, or return False if there is none; a throttled request costs nothing."""
        rate, burst = self._limits[operation]
        now = self._clock.seconds()
        # The clock may have been put back.
        gained = max(now - self._filled[operation], 0.0) * rate
        self._tokens[operation] = min(burst, self._tokens[operation] + gained)
        self._filled[operation] = now
        if self._tokens[operation] < 1:
            return False
        self._tokens[operation] -= 1
        return True

    def header(self, operation: str) -> str:
        """Return the ``x-amzn-RateLimit-Limit``: the rate in the caller's seconds, which are real seconds."""
        return str(round(self._limits[operation][0] * self._clock.scale, 4))
