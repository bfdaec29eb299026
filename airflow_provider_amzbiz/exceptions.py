"""The errors that leave this provider's hooks and tasks.

All are :class:`AmazonBusinessError` and so ``AirflowException``: Airflow's retries, ``soft_fail`` and callbacks
treat them as their own. Those that a retry cannot fix are ``AirflowFailException`` too, so that Airflow uses no
retries on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_amzbiz.batch import delivery
from airflow_provider_amzbiz.batch import errors as batch_errors
from airflow_provider_amzbiz.client import errors as client_errors
from airflow_provider_amzbiz.client.parameters import required_id
from airflow_provider_amzbiz.compat import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)
from airflow_provider_amzbiz.documents import errors as document_errors


class AmazonBusinessError(AirflowException):
    """Something went wrong that a retry may fix.

    :ivar operation: operation id of the API, such as ``createReport``; None if no call was made.
    :ivar status: HTTP status code of the response, if there was one.
    :ivar code: error code of the response, such as ``QuotaExceeded`` or ``invalid_grant``.
    :ivar details: the response's details.
    :ivar request_id: Amazon's id of the request; their support asks for it.
    :ivar report_id: the report concerned, if known.
    :ivar report_type: the type of that report, or of the requested one.
    :ivar reason: for a FATAL report, the text of its document, up to 2,000 characters.
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
    """Something went wrong that no retry can fix."""


class InvalidInputError(AmazonBusinessPermanentError):
    """A parameter or a connection field is not allowed, or the API rejected the request itself."""


class ConnectionNotFoundError(AmazonBusinessPermanentError):
    """Airflow has no connection of this id."""


class AuthenticationError(AmazonBusinessPermanentError):
    """Client id, client secret or refresh token is rejected."""


class AccessDeniedError(AmazonBusinessPermanentError):
    """The application or account lacks the role."""


class ReportNotFoundError(AmazonBusinessPermanentError):
    """There is no such report."""


class ThrottledError(AmazonBusinessError):
    """The account's limit is used up (429)."""


class ResponseLostError(AmazonBusinessError):
    """createReport may have created a report whose id never arrived; a retry may create a second one."""


class ReportNotReadyError(AmazonBusinessError):
    """The report is not finished yet, and this task does not wait."""


class ReportFatalError(AmazonBusinessPermanentError):
    """The report ended FATAL, or DONE without a document."""


class ReportCancelledError(AmazonBusinessPermanentError):
    """The report ended CANCELLED."""


class ReportTimeoutError(AmazonBusinessError, AirflowSensorTimeout):
    """The report had no terminal status within the wait's ``timeout``."""


class TaskKilledError(AmazonBusinessError):
    """The task was ended by SIGTERM (a pod evicted, a node drained) or by a user while it ran; a retry continues.

    The message says whether this task cancelled its report.
    """


class ManifestError(AmazonBusinessPermanentError):
    """A batch's manifest, or what lies beside it, is missing, damaged, another task's or of another version.

    Or the connection has become another account's while the batch waited.

    The message names the remedy. Nothing was created again.
    """


class ManifestTakenError(ManifestError):
    """Another process continues the batch, so this one stopped."""


class LedgerError(AmazonBusinessPermanentError):
    """An entry of a batch's ledger is damaged, of something else or of a newer version; nothing was created again.

    The message names the entry and the remedy.
    """


class DocumentError(AmazonBusinessError):
    """The document could not be stored in S3 completely; there is no object of it.

    :ivar is_useless: whether the document itself is damaged, or no longer at its host, so that only another report
        can help if this error comes again.
    """

    is_useless = False


class DocumentPermanentError(DocumentError, AmazonBusinessPermanentError):
    """The document cannot be stored as requested, and no retry can fix that."""


_CLIENT_CONTEXT = ("operation", "status", "code", "details", "request_id")
_CONTEXT = (*_CLIENT_CONTEXT, "report_id", "report_type", "reason")

# For an error's class or, where it is not in here, its nearest base class.
_BY_CLIENT_ERROR: dict[type[client_errors.ApiError], type[AmazonBusinessError]] = {
    client_errors.ApiError: AmazonBusinessError,
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

    They have no cause, with which a task log would show the same message twice, with two tracebacks.
    """
    try:
        yield
    except client_errors.ApiError as error:
        kind = next(_BY_CLIENT_ERROR[base] for base in type(error).__mro__ if base in _BY_CLIENT_ERROR)
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
    """Add the report concerned to the errors that leave the block, unless they name one already.

    :param report_id: as the user gives it; ignored if it is not an id.
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
    """Re-create the error that :meth:`AmazonBusinessError.to_dict` describes."""
    kind = globals().get(values.get("class", ""), AmazonBusinessError)
    if not (isinstance(kind, type) and issubclass(kind, AmazonBusinessError)):
        kind = AmazonBusinessError
    error: AmazonBusinessError = kind(values.get("message", ""), **{n: values.get(n) for n in _CONTEXT})
    return error
