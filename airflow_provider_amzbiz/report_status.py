"""What a report's terminal status means for a task: the one place that decides it."""

from __future__ import annotations

from typing import Any, NoReturn

from airflow_provider_amzbiz.client.models import ProcessingStatus, Report
from airflow_provider_amzbiz.compat import AirflowSkipException
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    InvalidInputError,
    ReportCancelledError,
    ReportFatalError,
    about_report,
    translated_errors,
)

ON_CANCELLED = ("fail", "skip", "succeed")

# Characters of a FATAL report's document that the error quotes.
REASON_CHARACTERS = 2000
# Seconds that the call for that document may wait for its permit, and retry.
REASON_SECONDS = 10.0


def check_on_cancelled(value: str) -> None:
    """Check ``on_cancelled``.

    :raises InvalidInputError: it is none of ``fail``, ``skip`` and ``succeed``.
    """
    if value not in ON_CANCELLED:
        raise InvalidInputError(f"on_cancelled is {value!r}, but must be one of {list(ON_CANCELLED)}")


def raise_for_status(report: Report, *, on_cancelled: str, amazon_business_conn_id: str) -> dict[str, Any]:
    """Return the XCom value of a report that succeeded, or raise what its terminal status means.

    ===================  ================================================================
    DONE                 the report, as :meth:`.Report.to_dict` returns it
    CANCELLED            the same, an error, or a skipped task, as ``on_cancelled`` says
    FATAL                an error with the reason, if the report has one
    ===================  ================================================================

    :param amazon_business_conn_id: the connection with which a FATAL report's document is read.
    :raises ReportFatalError: FATAL, or DONE without a document.
    :raises ReportCancelledError: CANCELLED with ``fail``.
    :raises AirflowSkipException: CANCELLED with ``skip``.
    """
    what = f"Report {report.report_id} ({report.report_type})"
    with about_report(report.report_id, report.report_type):
        if report.processing_status == ProcessingStatus.FATAL:
            _raise_fatal(report, what, amazon_business_conn_id)
        if report.processing_status == ProcessingStatus.CANCELLED:
            return _handle_cancelled(report, what, on_cancelled)
        if report.report_document_id is None:
            raise ReportFatalError(
                f"{what} is DONE, but the API names no document of it; ask Amazon's support, or create it again"
            )
    return report.to_dict()


def _handle_cancelled(report: Report, what: str, on_cancelled: str) -> dict[str, Any]:
    # The API does not distinguish the three causes.
    message = (
        f"{what} ended CANCELLED. This task did not cancel it. Either somebody else did, or there was no data "
        "to return, or the same report was requested again too soon"
    )
    if on_cancelled == "skip":
        raise AirflowSkipException(message)
    if on_cancelled == "fail":
        raise ReportCancelledError(message)
    return report.to_dict()


def _raise_fatal(report: Report, what: str, amazon_business_conn_id: str) -> NoReturn:
    """Raise the error of a FATAL report, with the reason from its document, if it can be read."""
    document_id = report.report_document_id
    if document_id is None:
        raise ReportFatalError(f"{what} ended FATAL. The API gives no reason")
    try:
        reason = _read_reason(document_id, amazon_business_conn_id)
    except AmazonBusinessError as error:
        raise ReportFatalError(
            f"{what} ended FATAL. Its document {document_id} may have the reason, but could not be read: {error}"
        ) from None
    if not reason:
        raise ReportFatalError(f"{what} ended FATAL. Its document is empty")
    raise ReportFatalError(f"{what} ended FATAL. Its document says: {reason}", reason=reason)


def _read_reason(document_id: str, amazon_business_conn_id: str) -> str:
    from airflow_provider_amzbiz.documents.text import read_head
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

    # The outcome is known, so its reason must not hold a worker slot for long.
    hook = AmazonBusinessHook.with_time_limit(amazon_business_conn_id, REASON_SECONDS)
    with translated_errors():
        return read_head(
            lambda: hook.get_report_document(document_id),
            limit=REASON_CHARACTERS,
            allow_http=hook.is_local,
            api_host=hook.api_host,
        ).strip()
