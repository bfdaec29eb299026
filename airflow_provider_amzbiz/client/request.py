"""A request for a report (createReport), and which report can be its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_amzbiz.client import invoice_options, marketplaces, parameters
from airflow_provider_amzbiz.client.models import Report

# Responses may show times without fractions of a second.
_TIME_PRECISION = timedelta(seconds=1)

_WINDOW = ("dataStartTime", "dataEndTime")
# Types whose reports always have options: a listing shows somebody's invoice, but not which.
ALWAYS_WITH_OPTIONS = frozenset({"GET_AB_INVOICE_PDF"})


@dataclass(frozen=True)
class ReportRequest:
    """A checked request for a report (spec, CreateReportSpecification).

    :ivar body: as it goes on the wire.
    """

    body: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        report_type: str,
        marketplace_ids: str | Iterable[str] | None,
        *,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
        endpoint: str | None = None,
    ) -> ReportRequest:
        """Check the parameters.

        :param endpoint: base URL of the API, whose region the marketplaces must be of, where both are known.
        :raises InvalidParameterError: one of them is not allowed.
        """
        start, end = parameters.window(
            ("data_start_time", data_start_time), ("data_end_time", data_end_time), past=True
        )
        body: dict[str, Any] = {
            "reportType": parameters.required_string("report_type", report_type),
            "marketplaceIds": parameters.created_marketplace_ids(marketplace_ids),
        }
        marketplaces.check_region(body["marketplaceIds"], endpoint)
        options = parameters.report_options(report_options)
        invoice_options.check_names(body["reportType"], options)
        more = (("dataStartTime", start), ("dataEndTime", end), ("reportOptions", options))
        return cls(body | {name: value for name, value in more if value})

    @property
    def report_type(self) -> str:
        """The type."""
        return str(self.body["reportType"])

    @property
    def options(self) -> Mapping[str, str]:
        """The options, which no response of the API shows."""
        options: Mapping[str, str] = self.body.get("reportOptions", {})
        return options

    @property
    def summary(self) -> str:
        """What a person knows the request by: its options, else its window; empty if it has neither."""
        shown = self.options or {name: self.body[name] for name in _WINDOW if name in self.body}
        return ", ".join(f"{name}={value}" for name, value in shown.items())

    @property
    def is_recognizable(self) -> bool:
        """Whether a listing can show that a report belongs to this request: never if there may be options."""
        return not self.options and self.report_type not in ALWAYS_WITH_OPTIONS

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the request, in hex: the same for equal requests only, in whatever order their parts are."""
        canonical = {**self.body, "marketplaceIds": sorted(set(self.body["marketplaceIds"]))}
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()

    def fits(self, report: Report) -> bool:
        """Return whether a report may belong to this request, by all that the API shows; never with options."""
        return (
            self.is_recognizable
            and report.report_type == self.report_type
            and set(report.marketplace_ids) == set(self.body["marketplaceIds"])
            and _same_time(self.body.get("dataStartTime"), report.data_start_time, report.created_time)
            and _same_time(self.body.get("dataEndTime"), report.data_end_time, report.created_time)
        )


def _same_time(requested: str | None, shown: datetime | None, created: datetime) -> bool:
    if requested is None:
        # The API shows the creation time if the request had no window.
        return shown is None or abs(shown - created) <= _TIME_PRECISION
    return shown is not None and abs(shown - datetime.fromisoformat(requested)) <= _TIME_PRECISION
