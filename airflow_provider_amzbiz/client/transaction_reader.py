"""All transactions of a time range: window after window, and page after page within each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from airflow_provider_amzbiz.client.errors import NotFoundError, RequestRejectedError, UnavailableError
from airflow_provider_amzbiz.client.json_model import read_exact_json
from airflow_provider_amzbiz.client.page_tokens import PageTokens
from airflow_provider_amzbiz.client.reconciliation_models import Transaction
from airflow_provider_amzbiz.client.transport import Transport

log = logging.getLogger(__name__)

OPERATION = "getTransactions"
_PATH = "/reconciliation/2021-01-08/transactions"
# No limit of the window is documented. This one bounds what a restart repeats, at one call more a month.
MAX_WINDOW = timedelta(days=31)
# A window is halved after 504 down to this one, whose 504 is retried like any other fault.
MIN_WINDOW = timedelta(minutes=1)
# Whether the ends of a window belong to it is not documented, so windows share the moment between them.
_SHARED = timedelta(milliseconds=1)
# Python knows no time that is a millisecond later than later ones.
_LATEST = datetime.max.replace(tzinfo=timezone.utc) - timedelta(milliseconds=1)
# How often a window is read again from its first page because a page token is no longer accepted.
_MAX_RESTARTS = 2
# Pages without a transaction, but with a token, that are believed one after the other.
_MAX_EMPTY_PAGES = 100


class _TooWideError(Exception):
    """504: the window has too much in it for one call."""


class _TokenExpiredError(Exception):
    """A page token is accepted neither with the dates nor alone.

    :ivar error: the response that refused it.
    """

    def __init__(self, error: RequestRejectedError) -> None:
        super().__init__()
        self.error = error


@dataclass
class _Progress:
    """What one reading of a window has seen, to recognise a server that does not advance."""

    tokens: PageTokens = field(default_factory=lambda: PageTokens(operation=OPERATION, field="nextPageToken"))
    pages: set[bytes] = field(default_factory=set)
    empty_pages: int = 0

    def check(self, rows: list[Any], token: str | None) -> None:
        """Take note of a page.

        :raises UnavailableError: it was returned before, so that the rest of the window cannot be reached.
        """
        self.tokens.check(token)
        self.empty_pages = 0 if rows else self.empty_pages + 1
        if self.empty_pages > _MAX_EMPTY_PAGES:
            raise bad_response(f"with {self.empty_pages} empty pages one after the other")
        digest = _digest(rows)
        if rows and digest in self.pages:
            raise bad_response("with a page that it had returned before")
        self.pages.add(digest)


class TransactionReader:
    """Reads one time range; use it once.

    Rows that windows share or that a restart repeats are yielded once. A row that the API amended meanwhile is
    yielded again as it is then.

    :param max_window: the widest window of one call.
    """

    def __init__(self, transport: Transport, *, max_window: timedelta = MAX_WINDOW) -> None:
        self._transport = transport
        self._max_window = max_window
        # Sources disagree on whether the dates go with a token. With them is what clients are known to do.
        self._token_alone = False
        # Digests of the rows of this window, and of the one before it.
        self._seen: set[bytes] = set()
        self._seen_before: set[bytes] = set()

    def read(self, start: datetime, end: datetime) -> Iterator[Transaction]:
        """Yield the transactions whose feed date is from ``start`` to ``end``, in the API's order."""
        at, width, restarts = start, self._max_window, 0
        # End of the widest window of which rows may have been yielded although it could not be finished.
        begun_until = start
        while True:
            # Not min(at + width, end), which may be after the last year that Python knows.
            until = end if end - at <= width else at + width
            try:
                yield from self._window(at, until)
            except _TooWideError:
                begun_until = max(begun_until, until)
                width = (until - at) / 2
                log.warning("%s returned 504; continuing with a window of %s", OPERATION, width)
                continue
            except _TokenExpiredError as expired:
                restarts += 1
                if restarts > _MAX_RESTARTS:
                    raise expired.error from None
                log.warning("%s; reading the window again from its first page", expired.error)
                continue
            if until >= end:
                return
            if until >= begun_until:
                self._seen, self._seen_before = set(), self._seen
            at, width, restarts = until - _SHARED, min(width, self._max_window / 2) * 2, 0

    def _window(self, start: datetime, end: datetime) -> Iterator[Transaction]:
        progress = _Progress()
        token: str | None = None
        while True:
            rows, token = self._page(start, end, token)
            progress.check(rows, token)
            for row in rows:
                digest = _digest(row)
                if digest not in self._seen and digest not in self._seen_before:
                    self._seen.add(digest)
                    yield Transaction.from_api(row)
            if token is None:
                return

    def _page(self, start: datetime, end: datetime, token: str | None) -> tuple[list[Any], str | None]:
        dates = {"feedStartDate": wire_time(start), "feedEndDate": wire_time(end, round_up=True)}
        can_halve = end - start > MIN_WINDOW
        if token is None:
            return self._call(dates, can_halve)
        alone = {"nextPageToken": token}
        if not self._token_alone:
            try:
                return self._call(dates | alone, can_halve)
            except RequestRejectedError as error:
                if error.status != 400:
                    raise
        try:
            page = self._call(alone, can_halve)
        except RequestRejectedError as error:
            if error.status != 400:
                raise
            raise _TokenExpiredError(error) from None
        self._token_alone = True
        return page

    def _call(self, query: Mapping[str, str], can_halve: bool) -> tuple[list[Any], str | None]:
        encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        try:
            body = self._transport.call(
                OPERATION,
                "GET",
                _PATH,
                query=f"?{encoded}",
                repeatable=lambda error: not (can_halve and error.status == 504),
                read=read_exact_json,
            )
        except UnavailableError as error:
            if can_halve and error.status == 504:
                raise _TooWideError from None
            raise
        except NotFoundError as error:
            raise as_rejected(error) from None
        return page_of(body)


def page_of(body: Any) -> tuple[list[Any], str | None]:
    """Return a page's rows, and the token of the next page; None on the last one.

    :raises UnavailableError: it is no page.
    """
    if not isinstance(body, dict) or not isinstance(body.get("transactions", ""), list | None):
        raise bad_response("without a list of transactions")
    token = body.get("nextPageToken") or None
    if token is not None and not (isinstance(token, str) and token.isascii()):
        raise bad_response("with a nextPageToken that is no ASCII string")
    return body["transactions"] or [], token


def wire_time(value: datetime, *, round_up: bool = False) -> str:
    """Return ``2020-07-09T00:00:00Z``, the form that Amazon's static sandbox matches; with milliseconds if needed.

    :param round_up: whether a fraction of a millisecond counts as a whole one; else it is dropped. So a window
        never gets narrower.
    """
    in_utc = value.astimezone(timezone.utc)
    if rest := timedelta(microseconds=in_utc.microsecond % 1000):
        in_utc -= rest
        if round_up and in_utc <= _LATEST:
            in_utc += timedelta(milliseconds=1)
    form = "milliseconds" if in_utc.microsecond else "seconds"
    return in_utc.isoformat(timespec=form).replace("+00:00", "Z")


def bad_response(what: str, operation: str = OPERATION) -> UnavailableError:
    """Return the error for a successful response that cannot be right, to raise."""
    return UnavailableError(f"{operation} responded {what}", operation=operation)


def as_rejected(error: NotFoundError) -> RequestRejectedError:
    """Return a 404 as the refusal of a request: this API has no reports that may be missing."""
    return RequestRejectedError(
        str(error),
        operation=error.operation,
        status=error.status,
        code=error.code,
        details=error.details,
        request_id=error.request_id,
    )


def _digest(value: Any) -> bytes:
    try:
        return blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).digest()
    except RecursionError:
        raise bad_response("with a transaction that is nested too deeply") from None
