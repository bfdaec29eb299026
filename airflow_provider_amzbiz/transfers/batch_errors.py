"""What an error of the API means for a batch: it concerns one of its items, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from airflow_provider_amzbiz.batch.errors import ItemError, NothingSent, ThrottledCall
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    ConnectionNotFoundError,
    DocumentError,
    ReportNotFoundError,
    TaskKilledError,
    ThrottledError,
)

CONCERNS_ALL = (AuthenticationError, AccessDeniedError, ConnectionNotFoundError)
_UNKNOWN_DOCUMENT = (400, 404)


def item_error(error: AmazonBusinessError) -> ItemError:
    """Return an error of Airflow's tree as one of an item."""
    return ItemError(f"{type(error).__name__}: {error}", permanent=isinstance(error, AmazonBusinessPermanentError))


def wait_errors(
    errors: Mapping[str, AmazonBusinessError], check_access: Callable[[], None]
) -> dict[str, ItemError]:
    """Return the errors of a wait as those of its reports, by their ids.

    :param check_access: called where access to a report was denied; raises what was denied for all.
    :raises AmazonBusinessError: an error concerns all reports, so that it says nothing of a single one.
    """
    denied, found = False, {}
    for report_id, error in errors.items():
        if isinstance(error, AccessDeniedError):
            denied = True
        elif isinstance(error, CONCERNS_ALL):
            raise error
        found[report_id] = item_error(error)
        found[report_id].gone = isinstance(error, ReportNotFoundError)
    if denied:
        check_access()
    return found


@contextmanager
def errors_of_create() -> Iterator[None]:
    """Raise what a round understands: whether the call was throttled, nothing can be sent, or this item failed."""
    try:
        yield
    except ThrottledError as error:
        raise ThrottledCall(error.operation, nothing_sent=error.operation == "createReport") from None
    except CONCERNS_ALL as error:
        raise NothingSent(error) from None
    except TaskKilledError:
        raise
    except AmazonBusinessError as error:
        raise item_error(error) from None


def document_error(error: AmazonBusinessError) -> ItemError:
    """Return an error of a document's transfer as one of its item."""
    of_document = error.operation == "getReportDocument"
    gone = of_document and (isinstance(error, ReportNotFoundError) or error.status in _UNKNOWN_DOCUMENT)
    found = item_error(error)
    found.gone, found.damaged = gone, isinstance(error, DocumentError) and error.is_useless
    return found
