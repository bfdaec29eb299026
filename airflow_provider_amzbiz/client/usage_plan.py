"""How often each operation may be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Limit(NamedTuple):
    """A token bucket: ``rate`` requests per second on average, ``burst`` of them at once."""

    rate: float
    burst: int

    def min_seconds(self, calls: int) -> float:
        """Return the minimum seconds that so many calls take, starting with a full bucket."""
        return max(calls - self.burst, 0) / self.rate


# Amazon's usage plan since February 2026. Amazon Business publishes no figures for getReport: these are those of
# the sibling Selling Partner API, whose other figures agree.
USAGE_PLAN: Mapping[str, Limit] = {
    "createReport": Limit(0.1, 15),
    "getReports": Limit(0.1, 10),
    "getReport": Limit(2.0, 15),
    "cancelReport": Limit(0.1, 10),
    "getReportDocument": Limit(0.1, 15),
}
