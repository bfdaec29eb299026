"""The raw bytes of a document, through broken connections and expired URLs."""

from __future__ import annotations

import io
import ipaddress
import logging
import random
import re
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.account import is_loopback
from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    UnsafeDocumentUrlError,
)
from airflow_provider_amzbiz.documents.session import document_session

if TYPE_CHECKING:
    import requests

# Seconds to connect, and between two reads of the body.
TIMEOUT = (10.0, 60.0)
# How often in a row it may fail without a single new byte.
ATTEMPTS = 6
# How many fresh URLs in a row may be refused: each costs one of the API's scarce calls.
REFUSALS = 3
# Seconds that the waits between attempts grow to.
LONGEST_WAIT = 30.0
# Of a URL's query, in both forms in which S3 signs.
_SIGNED = re.compile(r"[?&](X-Amz-|Signature=)", re.IGNORECASE)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_SKIP_CHUNK = 256 * 1024


class Log(Protocol):
    """What is told about progress: a logger of the standard library or of structlog."""

    def info(self, message: str, /, *arguments: Any) -> Any:
        """Tell what a user would ask about."""

    def warning(self, message: str, /, *arguments: Any) -> Any:
        """Tell what a user should look at."""


class DocumentSource(Protocol):
    """Where a document lies at the moment."""

    @property
    def url(self) -> str:
        """A presigned URL, good for five minutes."""

    @property
    def compression_algorithm(self) -> str | None:
        """``GZIP``, or None."""


Fetch = Callable[[], DocumentSource]


class DocumentStream(io.RawIOBase):
    """A document's bytes as they lie at its host, one after the other, each exactly once.

    A connection that breaks is taken up again at the byte it reached, with a fresh URL where the old one has
    expired. Whoever reads does not notice.

    :param fetch: gives a fresh URL. Each call is one of about 0.1 a second that the API allows, so it is called
        when the download starts, and again only after a 403.
    :param allow_http: whether a loopback address is fine, also by plain http, as a sandbox needs it.
    :param log: told about every break.
    :raises DocumentDownloadError: nothing new arrived in :data:`ATTEMPTS` attempts, or the host's answer is none
        that a retry helps against.
    :raises DocumentChangedError: what the host has now is another document.
    """

    def __init__(self, fetch: Fetch, *, allow_http: bool, log: Log) -> None:
        super().__init__()
        self._fetch = fetch
        self._allow_http = allow_http
        self._log = log
        self._session = document_session()
        self._response: requests.Response | None = None
        self._url = ""
        self._etag: str | None = None
        self._failures = 0
        self._refusals = 0
        self.position = 0
        self.length: int | None = None
        # Whether HTTP tells the end of the body from a cut connection.
        self.delimited = False
        self.content_type: str | None = None
        self.compression_algorithm: str | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Let the connection go."""
        self._drop()
        super().close()

    def start(self) -> None:
        """Get the first URL and connect, so that the attributes are known before the first byte is read."""
        self._renew_url()
        while self._response is None:
            self._connect()

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte, or return 0 at the end of the whole document."""
        while True:
            if self._response is None:
                self._connect()
                continue
            count, failure = _read_into(self._response, buffer)
            if failure:
                self._broken(failure)
                continue
            if count:
                self.position += count
                self._failures = self._refusals = 0
                return count
            if self.length is None and not self.delimited and not self.position:
                # A connection that breaks between two headers looks like an answer without a length.
                self._broken("ended before the first byte")
                continue
            if self.length is None or self.position == self.length:
                return 0
            self._broken(f"ended after {self.position} of {self.length} bytes")

    def _connect(self) -> None:
        """Ask for the rest of the document; leaves ``_response`` None where another attempt is due."""
        headers = {"Accept-Encoding": "identity"}
        if self.position:
            if self._etag is None:
                raise DocumentChangedError(
                    f"The download broke after {self.position} bytes, and its host gave no strong ETag by which "
                    "to go on safely"
                )
            headers |= {"Range": f"bytes={self.position}-", "If-Match": self._etag}
        response, failure = self._get(headers)
        if response is None:
            # Not raised where the error of requests is being handled, because that holds the URL.
            self._broken(failure)
            return
        try:
            self._accept(response)
        except BaseException:
            response.close()
            raise
        if self._response is not response:
            response.close()

    def _get(self, headers: dict[str, str]) -> tuple[requests.Response | None, str]:
        """Send the request, and return the answer, or the name of what went wrong."""
        import requests
        from urllib3.exceptions import HTTPError

        try:
            request = self._session.prepare_request(requests.Request("GET", self._url, headers=headers))
            # The signature covers the very bytes of the URL, and requests normalises some of them.
            request.url = self._url
            settings = self._session.merge_environment_settings(self._url, {}, stream=True, verify=None, cert=None)
            return self._session.send(request, timeout=TIMEOUT, allow_redirects=False, **settings), ""
        except (requests.RequestException, HTTPError) as error:
            return None, type(error).__name__

    def _accept(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (200, 206) and self.position and self.delimited and not _is_delimited(response):
            # The connection broke between two headers, which looks like an answer without the others.
            self._broken("broke before it said what it is")
        elif status == 200:
            self._accept_whole(response)
        elif status == 206 and self.position:
            self._accept_rest(response)
        elif status == 412:
            raise DocumentChangedError("The document has changed since its download began")
        elif status in (400, 401, 403):
            # Expired, in all likelihood: S3 checks the time at the start of every request. It answers 400 where it
            # is the credentials that have expired by which the URL was signed.
            self._refusals += 1
            if self._refusals >= REFUSALS:
                raise DocumentDownloadError(f"The document host answered {status} to {REFUSALS} URLs in a row")
            self._broken(f"answered {status}")
            self._renew_url()
        elif status == 429 or status >= 500:
            self._broken(f"answered {status}")
        else:
            if 300 <= status < 400:
                raise UnsafeDocumentUrlError(f"The document host answered {status}; redirects are not followed")
            raise DocumentDownloadError(f"The document host answered {status}")

    def _accept_whole(self, response: requests.Response) -> None:
        length = response.headers.get("Content-Length")
        etag = _strong(response.headers.get("ETag"))
        if self.position == 0:
            self.length = int(length) if length and _LENGTH.fullmatch(length) else None
            self.delimited = _is_delimited(response)
            self.content_type = response.headers.get("Content-Type")
            self._etag = etag
            self._response = response
            return
        # The host does not do ranges: read again what is known already, if it is still the same.
        if etag != self._etag:
            raise DocumentChangedError("The document has changed since its download began")
        self._skip(response)

    def _skip(self, response: requests.Response) -> None:
        left = self.position
        buffer = memoryview(bytearray(_SKIP_CHUNK))
        while left:
            count, failure = _read_into(response, buffer[:left])
            if failure or not count:
                self._broken(failure or "ended early")
                return
            left -= count
        self._response = response

    def _accept_rest(self, response: requests.Response) -> None:
        said = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", said)
        total = match[3] if match else ""
        if not said:
            # The connection broke between two headers.
            self._broken("broke before it said what it is")
            return
        if match is None or int(match[1]) != self.position:
            raise DocumentDownloadError(
                f"The document host was asked for byte {self.position} on and sent {said!r}"
            )
        if _strong(response.headers.get("ETag")) != self._etag:
            # A host that does not honour If-Match would otherwise have two versions joined.
            raise DocumentChangedError("The document has changed since its download began")
        if self.length is None and total.isdecimal():
            self.length = int(total)
        if total.isdecimal() and int(total) != self.length:
            raise DocumentChangedError(f"The document had {self.length} bytes and has {total} now")
        self._response = response

    def _broken(self, how: str) -> None:
        """Count a failure, and wait with full jitter; the connection is gone."""
        self._drop()
        self._failures += 1
        where = f"after {self.position} bytes of {'?' if self.length is None else self.length}"
        if self._failures >= ATTEMPTS:
            raise DocumentDownloadError(f"The download broke {self._failures} times in a row {where}; last: {how}")
        wait = random.uniform(0, min(LONGEST_WAIT, 0.25 * 2**self._failures))  # noqa: S311
        self._log.info("The download broke %s (%s); going on in %.1f s", where, how, wait)
        time.sleep(wait)

    def _renew_url(self) -> None:
        source = self._fetch()
        scheme, host = _scheme_and_host(source.url)
        local = self._allow_http and is_loopback(host)
        if not host:
            raise UnsafeDocumentUrlError("The document's URL names no host")
        if scheme != "https" and not (local and scheme == "http"):
            raise UnsafeDocumentUrlError(f"The document's URL is {scheme}://{host}/..., but has to be https")
        if not local and _is_internal(host):
            raise UnsafeDocumentUrlError(
                f"The document's URL is {scheme}://{host}/..., an address that is not on the public internet"
            )
        self._url = source.url
        self.compression_algorithm = source.compression_algorithm

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _is_delimited(response: requests.Response) -> bool:
    chunked: bool = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    return chunked or _LENGTH.fullmatch(response.headers.get("Content-Length", "")) is not None


def _read_into(response: requests.Response, buffer: Any) -> tuple[int, str]:
    """Read some bytes, and return how many, or the name of what went wrong."""
    from urllib3.exceptions import HTTPError

    try:
        return response.raw.readinto(buffer), ""
    except (HTTPError, OSError) as error:
        return 0, type(error).__name__


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:
        # Its text would show the URL.
        return "", ""


def _is_internal(host: str) -> bool:
    """Tell whether a host is an address of a private network or of this machine.

    Names are not looked up: in a VPC those of S3 lead to private addresses, and TLS proves whose they are.
    """
    try:
        # Also in the forms that only the C library takes for an address, such as 0x7f.1.
        address = ipaddress.ip_address(socket.inet_aton(host) if ":" not in host else host)
    except (OSError, ValueError):
        return host == "localhost" or host.endswith(".localhost")
    return not (getattr(address, "ipv4_mapped", None) or address).is_global


def _strong(etag: str | None) -> str | None:
    return None if etag is None or etag.startswith("W/") else etag


def _redact(record: logging.LogRecord) -> bool:
    """Take signatures out of urllib3's own lines, which show every path with its query at DEBUG."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            each.split("?")[0] + "?..." if isinstance(each, str) and _SIGNED.search(each) else each
            for each in record.args
        )
    return True


# The second one tells of headers that cannot be read.
for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_redact)
