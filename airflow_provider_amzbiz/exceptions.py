"""The errors that leave this provider's hooks and tasks.

All are :class:`AmazonBusinessError` and so ``AirflowException``: Airflow's retries, ``soft_fail`` and callbacks
treat them as their own. Those that a retry cannot mend are ``AirflowFailException`` too, so that Airflow spends
no retries on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_provider_amzbiz.batch import delivery
from airflow_provider_amzbiz.batch import errors as batch_errors
from airflow_provider_amzbiz.client import errors as client_errors
from airflow_provider_amzbiz.client.parameters import required_id
from airflow_provider_amzbiz.documents import errors as document_errors


class AmazonBusinessError(AirflowException):
    """Something went wrong that another try may mend.

    :ivar operation: operation id of the API, such as ``createReport``; None where no call was made.
    :ivar status: HTTP status of the answer, if there was one.
    :ivar code: error code of the answer, such as ``QuotaExceeded`` or ``invalid_grant``.
    :ivar details: the answer's details.
    :ivar request_id: Amazon's id of the request; their support asks for it.
    :ivar report_id: the report that it is about, where that is known.
    :ivar report_type: the type of that report, or of the report that was asked for.
    :ivar reason: for a FATAL report, what its document says, up to 2,000 characters.
    """

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        status: int | None = None,
        code: str | None = None,
        details: str | None = None,
        request_id: str | None = None,
        report_id: str | None = None,
        report_type: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id
        self.report_id = report_id
        self.report_type = report_type
        self.reason = reason

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict, for a trigger's event; :func:`error_from_dict` reads it."""
        context = {name: getattr(self, name) for name in _CONTEXT}
        return {"class": type(self).__name__, "message": str(self), **context}


class AmazonBusinessPermanentError(AmazonBusinessError, AirflowFailException):
    """Something went wrong that no retry mends."""


class InvalidInputError(AmazonBusinessPermanentError):
    """A parameter or a connection field is not allowed, or the API refused the request as such."""


class ConnectionNotFoundError(AmazonBusinessPermanentError):
    """Airflow has no connection of this id."""


class AuthenticationError(AmazonBusinessPermanentError):
    """Client id, client secret or refresh token is refused."""


class AccessDeniedError(AmazonBusinessPermanentError):
    """The application or account lacks the role."""


class ReportNotFoundError(AmazonBusinessPermanentError):
    """The API does not know the report."""


class ThrottledError(AmazonBusinessError):
    """The account's limit is used up (429)."""


class ResponseLostError(AmazonBusinessError):
    """createReport may have made a report whose id never arrived; a retry may make a second one."""


class ReportNotReadyError(AmazonBusinessError):
    """The report is not finished yet, and this task does not wait."""


class ReportFatalError(AmazonBusinessPermanentError):
    """The report ended FATAL, or DONE without a document."""


class ReportCancelledError(AmazonBusinessPermanentError):
    """The report ended CANCELLED."""


class ReportTimeoutError(AmazonBusinessError, AirflowSensorTimeout):
    """The report had no terminal status when the wait's ``timeout`` was over."""


class TaskKilledError(AmazonBusinessError):
    """The task was ended by SIGTERM (a pod evicted, a node drained) or by a user while it ran; a retry continues.

    The message says whether this task cancelled its report.
    """


class ManifestError(AmazonBusinessPermanentError):
    """A batch's manifest, or what lies beside it, is missing, damaged, another task's or of another version.

    The message names the remedy. Nothing was created again.
    """


class ManifestTakenError(ManifestError):
    """Another process continues the batch, so this one stopped."""


class LedgerError(AmazonBusinessPermanentError):
    """An entry of a batch's ledger is damaged, of something else or of a newer version; nothing was created again.

    The message names the entry and the remedy.
    """


class DocumentError(AmazonBusinessError):
    """The document did not arrive whole in S3; there is no object of it.

    :ivar is_useless: whether the document itself is damaged, or no longer at its host, so that only another report
        can help where this comes again.
    """

    is_useless = False


class DocumentPermanentError(DocumentError, AmazonBusinessPermanentError):
    """The document cannot be moved as asked, however often it is tried."""


_CLIENT_CONTEXT = ("operation", "status", "code", "details", "request_id")
_CONTEXT = (*_CLIENT_CONTEXT, "report_id", "report_type", "reason")

_BY_CLIENT_ERROR: dict[type[client_errors.ApiError], type[AmazonBusinessError]] = {
    client_errors.InvalidParameterError: InvalidInputError,
    client_errors.RequestRejectedError: InvalidInputError,
    client_errors.AuthenticationError: AuthenticationError,
    client_errors.AccessDeniedError: AccessDeniedError,
    client_errors.NotFoundError: ReportNotFoundError,
    client_errors.ThrottledError: ThrottledError,
    client_errors.ResponseLostError: ResponseLostError,
    client_errors.StoppedError: TaskKilledError,
}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the errors of ``client``, ``documents`` and ``batch``, which know no Airflow, into this module's.

    Without the original as their cause: a task log would show the same message twice, with two tracebacks.
    """
    try:
        yield
    except client_errors.ApiError as error:
        kind = _BY_CLIENT_ERROR.get(type(error), AmazonBusinessError)
        raise kind(str(error), **{name: getattr(error, name) for name in _CLIENT_CONTEXT}) from None
    except document_errors.DocumentError as error:
        translated = (DocumentPermanentError if error.permanent else DocumentError)(str(error))
        translated.is_useless = isinstance(error, document_errors.USELESS)
        raise translated from None
    except delivery.LedgerError as error:
        raise LedgerError(str(error)) from None
    except batch_errors.RecordTakenError as error:
        raise ManifestTakenError(str(error)) from None
    except batch_errors.RecordError as error:
        raise ManifestError(str(error)) from None


@contextmanager
def about_report(report_id: object = None, report_type: object = None) -> Iterator[None]:
    """Have the errors that leave the block name the report that they are about, unless they name one already.

    :param report_id: as a user gives it; what is no id is left out.
    :param report_type: the same.
    """
    try:
        yield
    except AmazonBusinessError as error:
        error.report_id = error.report_id or _name(report_id)
        error.report_type = error.report_type or _name(report_type)
        raise


def _name(value: object) -> str | None:
    try:
        return required_id("value", value)
    except client_errors.InvalidParameterError:
        return None


def error_from_dict(values: dict[str, Any]) -> AmazonBusinessError:
    """Make the error again that :meth:`AmazonBusinessError.to_dict` described."""
    kind = globals().get(values.get("class", ""), AmazonBusinessError)
    if not (isinstance(kind, type) and issubclass(kind, AmazonBusinessError)):
        kind = AmazonBusinessError
    error: AmazonBusinessError = kind(values.get("message", ""), **{n: values.get(n) for n in _CONTEXT})
    return error
