"""Cancelling a report as a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import about_report
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.base import AmazonBusinessOperator, check_rendered

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context


class CancelReportOperator(AmazonBusinessOperator):
    """Cancels a report that Amazon has not begun to process.

    The return value in XCom is True if the report is cancelled now. It is False if the report was no longer
    IN_QUEUE: the API cannot cancel it then, and that is not an error.

    .. seealso:: :doc:`/reports`

    :param report_id: the report. (templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that the call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. (not templated)
    :raises ReportNotFoundError: the API does not know the report; not retried.
    :raises ThrottledError: there was no permit within ``max_throttle_wait``.
    """

    template_fields: Sequence[str] = ("report_id", *AmazonBusinessOperator.template_fields)

    def __init__(
        self,
        *,
        report_id: str,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id, max_throttle_wait=max_throttle_wait, **kwargs
        )
        self.report_id = report_id

    def execute(self, context: Context) -> bool:
        """Cancel the report."""
        check_rendered(self)
        with about_report(self.report_id):
            return self._cancel()

    def _cancel(self) -> bool:
        cancelled = self.hook.cancel_report(self.report_id)
        if cancelled:
            self.log.info("Cancelled report %s", self.report_id)
        else:
            self.log.info("Report %s was no longer in the queue, so it was not cancelled", self.report_id)
        return cancelled
