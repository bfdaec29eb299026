"""A presigned URL: asked for late, sent exactly as it came, shown to nobody."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from airflow_provider_amzbiz.documents.errors import UnsafeDocumentUrlError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

T = TypeVar("T")
_ERROR_BODY = 8 * 1024
_hidden: ContextVar[bool] = ContextVar("document_request_hidden", default=False)


class DocumentSource(Protocol):
    """Where a document lies, as ``getReportDocument`` answers it."""

    @property
    def url(self) -> str:
        """The presigned URL: a secret, good for five minutes."""

    @property
    def compression_algorithm(self) -> str | None:
        """``GZIP``, or None."""


class PresignedUrl:
    """Asks for a document's URL when it is first needed, and again only when it has run out."""

    def __init__(self, fetch: Callable[[], DocumentSource]) -> None:
        self._fetch = fetch
        self._document: DocumentSource | None = None

    def get(self) -> DocumentSource:
        """Return the current URL, fetching one where there is none."""
        if self._document is None:
            self._document = self._fetch()
        return self._document

    def forget(self) -> None:
        """Forget a URL that the host no longer accepts, so that the next :meth:`get` fetches another."""
        self._document = None


class PassingError(Exception):
    """The connection is of no more use; another one may be."""


class _NoMoreThanTheUrl(AuthBase):
    """Lets the URL alone prove who asks, and sends it as it came.

    requests would add an Authorization header from ``.netrc``, which S3 answers with 400 ("Only one auth
    mechanism allowed"), and it rewrites percent escapes, which a signature may cover.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.url = self._url
        return request


class _HidesRequests(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - logging's signature
        return not _hidden.get()


# urllib3 logs the path and query of every request at DEBUG; here the query is the secret.
logging.getLogger("urllib3.connectionpool").addFilter(_HidesRequests())


def request(
    session: requests.Session, url: str, headers: Mapping[str, str], timeout: tuple[float, float]
) -> requests.Response:
    """Ask for the URL's body, without following redirects and without reading the body yet.

    :param timeout: seconds to connect, and without a byte.
    :raises PassingError: no answer came.
    """
    return _quietly(
        lambda: session.get(
            url,
            headers=headers,
            auth=_NoMoreThanTheUrl(url),
            stream=True,
            allow_redirects=False,
            timeout=timeout,
        )
    )


def read(response: requests.Response, most: int) -> bytes:
    """Return what has arrived of the body, at most so many bytes, whatever Content-Encoding says.

    :raises PassingError: the connection broke or fell silent.
    """
    raw: BaseHTTPResponse = response.raw
    return _quietly(lambda: raw.read1(most, decode_content=False))


def error_code(response: requests.Response) -> str:
    """Return S3's error code, or nothing. The rest of such a body may repeat the signature."""
    body = b""
    try:
        while len(body) < _ERROR_BODY and (more := read(response, _ERROR_BODY)):
            body += more
    except PassingError as error:
        return f"(its error message was cut off: {error})"
    match = re.search(rb"<Code>([A-Za-z0-9.]{1,80})</Code>", body)
    return match[1].decode() if match else ""


def safe_host(url: str, *, allow_http: bool) -> str:
    """Return the URL's host.

    :param allow_http: whether plain HTTP is good enough for a host on this machine; nowhere else it is.
    :raises UnsafeDocumentUrlError: the URL is not HTTPS.
    """
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme, host = "", ""
    if host and (scheme == "https" or (scheme == "http" and allow_http and _is_loopback(host))):
        return host
    raise UnsafeDocumentUrlError(
        f"The document's URL begins with {scheme}://{host}; it has to be HTTPS"
        + (" or HTTP on this machine" if allow_http else "")
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _quietly(call: Callable[[], T]) -> T:
    """Make a call of requests or urllib3 whose errors and log lines hold the URL, and keep both in here."""
    token = _hidden.set(True)
    try:
        return call()
    except (OSError, HTTPError) as error:
        reason = type(error).__name__
    finally:
        _hidden.reset(token)
    # Not in the except block: there the error with the URL would come along as this one's context.
    raise PassingError(reason)
