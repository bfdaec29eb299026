"""Creating, cancelling and listing reports as tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class AmazonBusinessOperator(BaseOperator):
    """An operator that calls the API through a connection.

    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    """

    template_fields: Sequence[str] = ("amazon_business_conn_id",)
    ui_color = "#f9d58a"

    def __init__(
        self, *, amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.amazon_business_conn_id = amazon_business_conn_id

    @cached_property
    def hook(self) -> AmazonBusinessHook:
        """The hook of the connection."""
        return AmazonBusinessHook(self.amazon_business_conn_id)


class CreateReportOperator(AmazonBusinessOperator):
    """Asks for a report and returns its id.

    The report is made in Amazon's own time: wait for it with :class:`.ReportStatusSensor`. Every call makes a
    new report, and each costs one of about 0.1 calls a second. So a call is repeated only where the first one
    certainly had no effect; where its answer may have been lost, the task fails with
    :class:`.AnswerLostError` instead, and it is the task's ``retries`` that decide whether to create again.

    The return value in XCom is the report id, a text.

    :param report_type: such as ``GET_AB_INVOICE_PDF``. (templated)
    :param marketplace_ids: 1 to 25 marketplace ids, or one comma-separated text. By default those of the
        connection. (templated)
    :param data_start_time: start of the data, an aware datetime or an ISO 8601 text with an offset, such as
        ``"{{ data_interval_start }}"``; at or before now. Not all types make use of it. (templated)
    :param data_end_time: end of the data, the same way, not before ``data_start_time``. (templated)
    :param report_options: options of the type, such as ``{"invoiceId": "..."}``: names to texts; numbers and
        booleans are made texts. (templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises InvalidInputError: a parameter is not allowed, or the API refused the request; no retry is spent.
    :raises AnswerLostError: a report may have been made, but its id did not arrive.
    """

    template_fields: Sequence[str] = (
        "report_type",
        "marketplace_ids",
        "data_start_time",
        "data_end_time",
        "report_options",
        *AmazonBusinessOperator.template_fields,
    )
    template_fields_renderers = {"report_options": "json"}

    def __init__(
        self,
        *,
        report_type: str,
        marketplace_ids: str | Sequence[str] | None = None,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report_type = report_type
        self.marketplace_ids = marketplace_ids
        self.data_start_time = data_start_time
        self.data_end_time = data_end_time
        self.report_options = report_options

    def execute(self, context: Context) -> str:
        """Create the report."""
        report_id = self.hook.create_report(
            self.report_type,
            self.marketplace_ids,
            data_start_time=self.data_start_time,
            data_end_time=self.data_end_time,
            report_options=self.report_options,
        )
        self.log.info("Created report %s of type %s", report_id, self.report_type)
        return report_id


class CancelReportOperator(AmazonBusinessOperator):
    """Cancels a report that has not started processing.

    The return value in XCom is True when it is cancelled now, and False when it was no longer IN_QUEUE: the
    API can cancel no other, and that is not an error.

    :param report_id: the report. (templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises ReportNotFoundError: the API does not know the report; no retry is spent.
    """

    template_fields: Sequence[str] = ("report_id", *AmazonBusinessOperator.template_fields)

    def __init__(self, *, report_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_id = report_id

    def execute(self, context: Context) -> bool:
        """Cancel the report."""
        cancelled = self.hook.cancel_report(self.report_id)
        if cancelled:
            self.log.info("Cancelled report %s", self.report_id)
        else:
            self.log.info("Report %s was no longer in the queue, so it was not cancelled", self.report_id)
        return cancelled


class GetReportsOperator(AmazonBusinessOperator):
    """Lists reports, newest first, whoever made them.

    Each page costs one of about 0.1 calls a second, so narrow the filters or set ``max_reports``.

    The return value in XCom is a list of dicts, each as :meth:`.Report.to_dict` shows it.

    :param report_types: 1 to 10 report types, or one comma-separated text. (templated)
    :param processing_statuses: only reports in these statuses. (templated)
    :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces. (templated)
    :param created_since: earliest creation time, an aware datetime or an ISO 8601 text with an offset; by
        default 90 days ago. (templated)
    :param created_until: latest creation time, the same way; by default now. (templated)
    :param page_size: reports per call, 1 to 100.
    :param max_reports: stop after so many; by default none is left out.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises InvalidInputError: a parameter is not allowed; no retry is spent.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_reports is not None and max_reports < 1:
            raise InvalidInputError(f"max_reports is {max_reports!r}, but has to be at least 1, or None")
        self.report_types = report_types
        self.processing_statuses = processing_statuses
        self.marketplace_ids = marketplace_ids
        self.created_since = created_since
        self.created_until = created_until
        self.page_size = page_size
        self.max_reports = max_reports

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the reports."""
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
