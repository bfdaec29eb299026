"""Which reports a watch has announced, and which it still has to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_amzbiz.client.models import ProcessingStatus, Report

# Listing lag: how late a new report may appear.
_LISTING_LAG = timedelta(minutes=15)
# Amazon keeps reports for so long.
RETENTION = timedelta(days=90)
# For how long a report may be unknown before it counts as gone. Meanwhile, somebody may correct the connection.
_UNKNOWN_FOR = timedelta(days=1)


@dataclass
class Watermark:
    """What has been announced.

    A report that was created before ``mark`` has been announced, or is in ``pending``, or will never be DONE. So
    it does not matter in which order reports finish.

    :ivar mark: by the API's clock.
    :ivar pending: creation times of reports that were not finished at the last poll, by id.
    :ivar announced: creation times of the announced reports that are not older than the mark, by id.
    :ivar unknown: times since which the API does not know pending reports, by id.
    """

    mark: datetime
    pending: dict[str, datetime] = field(default_factory=dict)
    announced: dict[str, datetime] = field(default_factory=dict)
    unknown: dict[str, datetime] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict; :meth:`from_dict` reads it."""
        return {
            "mark": self.mark.isoformat(),
            "pending": {key: each.isoformat() for key, each in self.pending.items()},
            "announced": {key: each.isoformat() for key, each in self.announced.items()},
            "unknown": {key: each.isoformat() for key, each in self.unknown.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Watermark:
        """Read what :meth:`to_dict` returned."""
        parse = datetime.fromisoformat
        return cls(
            parse(values["mark"]),
            {key: parse(each) for key, each in values["pending"].items()},
            {key: parse(each) for key, each in values["announced"].items()},
            # A record of version 1.0 has none.
            {key: parse(each) for key, each in values.get("unknown", {}).items()},
        )

    def add(self, report: Report) -> bool:
        """Record a report, and return whether it must be announced now."""
        self.unknown.pop(report.report_id, None)
        was_pending = self.pending.pop(report.report_id, None) is not None
        if not was_pending and (report.created_time < self.mark or report.report_id in self.announced):
            return False
        if report.processing_status == ProcessingStatus.DONE:
            self.announced[report.report_id] = report.created_time
            return True
        if not report.is_terminal:
            self.pending[report.report_id] = report.created_time
        return False

    def drop_if_gone(self, report_id: str, now: datetime) -> bool:
        """Record that the API does not know a pending report; drop it, and return True, after a day of that."""
        since = self.unknown.setdefault(report_id, now)
        gone = now - since >= _UNKNOWN_FOR
        if gone:
            del self.pending[report_id], self.unknown[report_id]
        return gone

    def advance(self, now: datetime, listed: Iterable[Report]) -> None:
        """Move the mark to shortly before the time at which a listing was requested.

        But not past the newest report that was listed: if the API's clock is ahead for a moment, the mark would
        hide the reports that are created until the clock is right again.
        """
        newest = max((report.created_time for report in listed), default=self.mark)
        self.mark = max(self.mark, min(now - _LISTING_LAG, newest))
        self.announced = {key: each for key, each in self.announced.items() if each >= self.mark}
        self.pending = {key: each for key, each in self.pending.items() if each > now - RETENTION}
        self.unknown = {key: each for key, each in self.unknown.items() if key in self.pending}
