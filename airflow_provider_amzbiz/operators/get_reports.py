"""Listing reports as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.exceptions import InvalidInputError, ThrottledError, translated_errors
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.base import AmazonBusinessOperator, BrieflyWaitingOperator
from airflow_provider_amzbiz.operators.listed_reports import ListedReports

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Context


class GetReportsOperator(BrieflyWaitingOperator):
    """Lists reports, newest first, whoever created them.

    Each page uses one of about 0.1 permits per second, so narrow the filters or set ``max_reports``.

    In deferrable mode, a task without a permit continues from the page that it has reached. If it has found more
    than some hundred reports, they do not fit a deferral, so it waits on its worker.

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
    :param max_reports: maximum number of reports to return, the newest ones: no page is read beyond them, and it
        is no error that there are more. By default all. (not templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. In deferrable mode
        the call waits in the triggerer instead, for up to seven days. (not templated)
    :param deferrable: wait for permits in the triggerer; by default Airflow's
        ``[operators] default_deferrable``. (not templated)
    :raises InvalidInputError: a parameter is not allowed; not retried.
    :raises ThrottledError: not deferrable, or too many reports found to defer, and there was no permit within
        ``max_throttle_wait``.
    """

    template_fields: Sequence[str] = (
        "report_types",
        "processing_statuses",
        "marketplace_ids",
        "created_since",
        "created_until",
        *AmazonBusinessOperator.template_fields,
    )
    queues_first_for = "getReports"
    _listed: ListedReports

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
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id,
            max_throttle_wait=max_throttle_wait,
            deferrable=deferrable,
            **kwargs,
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

    def _filters(self) -> dict[str, Any]:
        return {
            "report_types": self.report_types,
            "processing_statuses": self.processing_statuses,
            "marketplace_ids": self.marketplace_ids,
            "created_since": self.created_since,
            "created_until": self.created_until,
            "page_size": self.page_size,
        }

    def _check(self) -> None:
        # It calls only when the iterator is used.
        self.hook.get_reports(**self._filters())

    def _call(self, context: Context) -> list[dict[str, Any]]:
        while not self._listed.is_complete(self.max_reports):
            self._read_page()
        found = self._listed.reports[: self.max_reports]
        self.log.info("Found %s reports", len(found))
        return found

    def _read_page(self) -> None:
        listed = self._listed
        query = self._filters() if listed.next_token is None else {"next_token": listed.next_token}
        try:
            page, token = self.brief_hook.get_reports_page(**query)
        except ThrottledError:
            if not self.deferrable or listed.packed() is not None:
                raise
            self.log.info(
                "%s reports are too many to keep in a deferral: waiting on the worker", len(listed.reports)
            )
            page, token = self.hook.get_reports_page(**query)
        except InvalidInputError as error:
            if not listed.is_resumed:
                raise
            # How long a token lives is not documented.
            self.log.warning("%s. Listing again from the first page", error)
            self._listed = ListedReports()
            return
        listed.add([report.to_dict() for report in page], token)

    def _progress(self) -> Mapping[str, Any] | None:
        return self._listed.packed()

    def _load_progress(self, state: Mapping[str, Any]) -> None:
        self._listed = ListedReports.unpacked(state)
