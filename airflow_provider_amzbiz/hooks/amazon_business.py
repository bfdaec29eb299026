"""The hook: the operations of the Amazon Business APIs with an Airflow connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, about_report, translated_errors
from airflow_provider_amzbiz.hooks.base import AmazonBusinessBaseHook
from airflow_provider_amzbiz.hooks.connection import marketplace_ids_of
from airflow_provider_amzbiz.hooks.connection_check import check, secret_age
from airflow_provider_amzbiz.hooks.reconciliation import ReconciliationMixin

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.models import Report, ReportDocument
    from airflow_provider_amzbiz.client.request import ReportRequest

# Seconds that the test of a connection may wait for a permit: a user waits in front of the form.
_TEST_SECONDS = 5.0


class AmazonBusinessHook(AmazonBusinessBaseHook, ReconciliationMixin):
    """Calls the Reports API and the Reconciliation API with the credentials of an Airflow connection.

    All methods raise :class:`.AmazonBusinessError`; see :mod:`airflow_provider_amzbiz.exceptions` for its
    kinds and which of them a retry can fix.

    :param amazon_business_conn_id: the connection, of type ``amazon_business``; by default
        ``amazon_business_default``.
    :param retry_for: seconds, or a timedelta, for which one call may be repeated after a fault (a broken
        connection, 500, 502, 503, 504), by default 120; 0 sends it once. It is no timeout: it ends no request that
        is in progress.
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait for its permit under the account's
        limits, also after a 429; by default 3600. With 0 it is sent at once, or raises :class:`.ThrottledError`.
    :param mask_access_tokens: whether Airflow masks the account's access tokens in logs, by default True. Set it
        to False in a process that lives for weeks, such as a triggerer: a token is valid for an hour, and the
        masker never forgets one, so it would grow without end.
    :param stopped: called at least once a second while a call waits (for a permit, or before a repetition), and
        before anything is sent. When it returns True, nothing more is sent and the call raises
        :class:`.TaskKilledError`; a request in progress is finished first. By default never.
    :raises InvalidInputError: ``retry_for`` or ``max_throttle_wait`` is not a number of seconds from 0 to ten
        years.
    """

    def create_report(
        self,
        report_type: str,
        marketplace_ids: str | Iterable[str] | None = None,
        *,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Create a report and return its id (spec, createReport).

        :param report_type: such as ``GET_AB_INVOICE_PDF``.
        :param marketplace_ids: 1 to 25 ids, or one comma-separated string; by default the connection's. An id that
            Amazon lists for another region than the connection's is an error.
        :param data_start_time: start of the data, an aware datetime or an ISO 8601 string with an offset, at or
            before now.
        :param data_end_time: end of the data, the same way, not before ``data_start_time``.
        :param report_options: names to strings; integers and booleans become strings.
        :raises InvalidInputError: a parameter is not allowed (nothing was sent), or the API rejected it.
        :raises ResponseLostError: a report may have been created, but its id did not arrive.
        """
        request = self.report_request(
            report_type,
            marketplace_ids,
            data_start_time=data_start_time,
            data_end_time=data_end_time,
            report_options=report_options,
        )
        return self.send(request)

    def report_request(
        self,
        report_type: str,
        marketplace_ids: str | Iterable[str] | None = None,
        *,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
    ) -> ReportRequest:
        """Check the parameters of :meth:`create_report`, and return them in the form of :meth:`send`.

        :raises InvalidInputError: a parameter is not allowed.
        """
        from airflow_provider_amzbiz.client.request import ReportRequest

        with about_report(report_type=report_type), translated_errors():
            return ReportRequest.of(
                report_type,
                marketplace_ids_of(self.connection) if marketplace_ids is None else marketplace_ids,
                data_start_time=data_start_time,
                data_end_time=data_end_time,
                report_options=report_options,
                endpoint=self.config.endpoint,
            )

    def send(self, request: ReportRequest, *, on_sending: Callable[[], None] | None = None) -> str:
        """Create a report that :meth:`report_request` has checked; raises as :meth:`create_report`.

        :param on_sending: called right before each time the HTTP request goes out, after the wait for a permit.
        """
        with about_report(report_type=request.report_type), translated_errors():
            return self.client.send(request, on_sending=on_sending)

    def get_report(self, report_id: str) -> Report:
        """Return one report (spec, getReport).

        :raises ReportNotFoundError: there is no such report; also for some seconds after it was created.
        """
        with about_report(report_id), translated_errors():
            return self.client.get_report(report_id)

    def get_reports(
        self,
        *,
        report_types: str | Iterable[str] | None = None,
        processing_statuses: str | Iterable[str] | None = None,
        marketplace_ids: str | Iterable[str] | None = None,
        page_size: int = 100,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        next_token: str | None = None,
    ) -> Iterator[Report]:
        """Yield all reports that match, newest first (spec, getReports). Each page is one scarce call.

        :param report_types: 1 to 10 types; required unless ``next_token`` is given.
        :param processing_statuses: only reports in these statuses.
        :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces.
        :param page_size: reports per call, 1 to 100.
        :param created_since: earliest creation time; by default 90 days ago.
        :param created_until: latest creation time; by default now.
        :param next_token: continue from an earlier response; no filter may be given with it.
        """
        with translated_errors():
            pages = self.client.get_reports(
                report_types=report_types,
                processing_statuses=processing_statuses,
                marketplace_ids=marketplace_ids,
                page_size=page_size,
                created_since=created_since,
                created_until=created_until,
                next_token=next_token,
            )
        return _translated(pages)

    def get_reports_page(
        self,
        *,
        report_types: str | Iterable[str] | None = None,
        processing_statuses: str | Iterable[str] | None = None,
        marketplace_ids: str | Iterable[str] | None = None,
        page_size: int = 100,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        next_token: str | None = None,
    ) -> tuple[list[Report], str | None]:
        """Return one page of :meth:`get_reports`, and the token of the next page, None on the last one."""
        with translated_errors():
            return self.client.get_reports_page(
                report_types=report_types,
                processing_statuses=processing_statuses,
                marketplace_ids=marketplace_ids,
                page_size=page_size,
                created_since=created_since,
                created_until=created_until,
                next_token=next_token,
            )

    def cancel_report(self, report_id: str) -> bool:
        """Cancel a report (spec, cancelReport).

        :return: True if it is now cancelled; False if it was no longer IN_QUEUE.
        :raises ReportNotFoundError: there is no such report.
        """
        with about_report(report_id), translated_errors():
            return self.client.cancel_report(report_id)

    def get_report_document(self, report_document_id: str) -> ReportDocument:
        """Return a document's URL (spec, getReportDocument), which is valid for five minutes."""
        with translated_errors():
            return self.client.get_report_document(report_document_id)

    def is_of_another_request(self, report_id: str, request: ReportRequest) -> bool:
        """Return whether this process created a report for another request, whose options no listing shows."""
        return self.client.is_of_another_request(report_id, request)

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection: the token exchange, then one cheap call.

        :return: whether it works, and a message about the token, the host, the role and the secret's age.
        """
        hook = AmazonBusinessHook(self.amazon_business_conn_id, retry_for=0, max_throttle_wait=_TEST_SECONDS)
        try:
            return check(hook.client, secret_age(hook.connection))
        except AmazonBusinessError as error:
            return False, str(error)

    # Airflow 2.11 to 3.1 read the form from the hook class itself, not from a base; newer ones from
    # get_provider_info.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2."""
        from airflow_provider_amzbiz.hooks.connection_form import widgets

        return widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and hidden fields of the connection form, for Airflow before 3.2."""
        from airflow_provider_amzbiz.get_provider_info import FIELD_BEHAVIOUR

        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}


def _translated(reports: Iterator[Report]) -> Iterator[Report]:
    with translated_errors():
        yield from reports
