"""Listing reports as a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.exceptions import translated_errors
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.base import AmazonBusinessOperator, check_rendered

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context


class GetReportsOperator(AmazonBusinessOperator):
    """Lists reports, newest first, whoever created them.

    Each page uses one of about 0.1 permits per second, so narrow the filters or set ``max_reports``.

    The return value in XCom is a list of dicts, each as :meth:`.Report.to_dict` returns it.

    .. seealso:: :doc:`/reports`

    :param report_types: 1 to 10 report types, or one comma-separated string. (templated)
    :param processing_statuses: only reports with one of these statuses, a sequence or one comma-separated string;
        by default all. (templated)
    :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces, a sequence or one
        comma-separated string; by default all. (templated)
    :param created_since: earliest creation time, an aware datetime or an ISO 8601 string with an offset; by
        default 90 days ago. (templated)
    :param created_until: latest creation time, in the same form; by default now. (templated)
    :param page_size: reports per call, 1 to 100; by default 100. (not templated)
    :param max_reports: maximum number of reports to return; by default all. (not templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. (not templated)
    :raises InvalidInputError: a parameter is not allowed; not retried.
    :raises ThrottledError: there was no permit within ``max_throttle_wait``.
    """

    template_fields: Sequence[str] = (
        "report_types",
        "processing_statuses",
        "marketplace_ids",
        "created_since",
        "created_until",
        *AmazonBusinessOperator.template_fields,
    )

    def __init__(
        self,
        *,
        report_types: str | Sequence[str],
        processing_statuses: str | Sequence[str] | None = None,
        marketplace_ids: str | Sequence[str] | None = None,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        page_size: int = 100,
        max_reports: int | None = None,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id, max_throttle_wait=max_throttle_wait, **kwargs
        )
        if max_reports is not None:
            with translated_errors():
                max_reports = parameters.positive_integer("max_reports", max_reports)
        self.report_types = report_types
        self.processing_statuses = processing_statuses
        self.marketplace_ids = marketplace_ids
        self.created_since = created_since
        self.created_until = created_until
        self.page_size = page_size
        self.max_reports = max_reports

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the reports."""
        check_rendered(self)
        reports = self.hook.get_reports(
            report_types=self.report_types,
            processing_statuses=self.processing_statuses,
            marketplace_ids=self.marketplace_ids,
            created_since=self.created_since,
            created_until=self.created_until,
            page_size=self.page_size,
        )
        found = [report.to_dict() for report in islice(reports, self.max_reports)]
        self.log.info("Found %s reports", len(found))
        return found
