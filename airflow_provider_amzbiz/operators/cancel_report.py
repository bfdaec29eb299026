"""Cancelling a report as a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.exceptions import about_report
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.base import AmazonBusinessOperator, BrieflyWaitingOperator

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context


class CancelReportOperator(BrieflyWaitingOperator):
    """Cancels a report that Amazon has not begun to process.

    The return value in XCom is True if the report is cancelled now. It is False if the report was no longer
    IN_QUEUE: the API cannot cancel it then, and that is not an error.

    .. seealso:: :doc:`/reports`

    :param report_id: the report. (templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. In deferrable mode
        the call waits in the triggerer instead, for up to seven days. (not templated)
    :param deferrable: wait for permits in the triggerer; by default Airflow's
        ``[operators] default_deferrable``. (not templated)
    :raises ReportNotFoundError: the API does not know the report; not retried.
    :raises ThrottledError: not deferrable, and there was no permit within ``max_throttle_wait``.
    """

    template_fields: Sequence[str] = ("report_id", *AmazonBusinessOperator.template_fields)
    queues_first_for = "cancelReport"

    def __init__(
        self,
        *,
        report_id: str,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id,
            max_throttle_wait=max_throttle_wait,
            deferrable=deferrable,
            **kwargs,
        )
        self.report_id = report_id

    def _call(self, context: Context) -> bool:
        with about_report(self.report_id):
            cancelled = self.brief_hook.cancel_report(self.report_id)
        if cancelled:
            self.log.info("Cancelled report %s", self.report_id)
        else:
            self.log.info("Report %s was no longer in the queue, so it was not cancelled", self.report_id)
        return cancelled
