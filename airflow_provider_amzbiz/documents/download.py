"""The raw bytes of a document, through broken connections and expired URLs."""

from __future__ import annotations

import functools
import io
import logging
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_amzbiz.documents.document_url import check_document_url
from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    UnsafeDocumentUrlError,
)
from airflow_provider_amzbiz.documents.http_body import content_length, is_chunked, is_delimited
from airflow_provider_amzbiz.documents.http_request import RunningRequest
from airflow_provider_amzbiz.documents.session import document_session
from airflow_provider_amzbiz.documents.streams import CHUNK, Log
from airflow_provider_amzbiz.documents.watch import Watch

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
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_NO_RANGE = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)


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
    :param api_host: host of the API's own endpoint, which may serve documents whatever its address is.
    :param log: told about every break.
    :param watch: asked every now and then whether to give up.
    :raises DocumentDownloadError: nothing new arrived in :data:`ATTEMPTS` attempts, the host's answer is none that
        a retry helps against, or the document is given up.
    :raises DocumentChangedError: what the host has now is another document.
    """

    def __init__(
        self, fetch: Fetch, *, allow_http: bool, log: Log, watch: Watch, api_host: str | None = None
    ) -> None:
        super().__init__()
        self._fetch = fetch
        self._allow_http = allow_http
        self._api_host = api_host
        self._log = log
        self._watch = watch
        self._request: RunningRequest | None = None
        self._url = ""
        self._etag: str | None = None
        self._failures = 0
        self._refusals = 0
        # Whether the host is asked for the rest only; else it is read again from the start.
        self._by_range = True
        # Whether the end of the body that is being read is the end of the document.
        self._to_the_end = True
        # Whether it ends by itself, and not where its length says.
        self._in_chunks = False
        # Where the body that is being read has to end at the latest.
        self._until: int | None = None
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
        while self._request is None:
            self._connect()

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte, or return 0 at the end of the whole document."""
        while self.length is None or self.position < self.length:
            if self._request is None:
                self._connect()
                continue
            count, failure = self._request.readinto(buffer)
            if count:
                self._advance(count)
                return count
            if failure:
                self._broken(failure)
            elif self._body_ended():
                return 0
        self._refuse_more()
        return 0

    def _refuse_more(self) -> None:
        """See that chunks end where the length says, which is from another header or another response."""
        if self._request is not None and self._in_chunks:
            self._advance(self._request.readinto(bytearray(1))[0])
            self._drop()

    def _advance(self, count: int) -> None:
        self.position += count
        self._failures = self._refusals = 0
        for most in (self._until, self.length):
            if most is not None and self.position > most:
                raise DocumentDownloadError(f"The document host sent more than the {most} bytes that it announced")

    def _body_ended(self) -> bool:
        """Tell whether the document ends where a body did; where not, the rest is asked for."""
        if self.length is not None:
            self._broken(f"ended after {self.position} of {self.length} bytes")
        elif not self.delimited and not self.position:
            # A connection that breaks between two headers looks like an answer without a length.
            self._broken("ended before the first byte")
        elif self._to_the_end:
            return True
        else:
            # A part of a document of unknown length: only the host can tell whether there is more.
            self._drop()
        return False

    def _connect(self) -> None:
        """Ask for the rest of the document; leaves ``_request`` None where another attempt is due."""
        headers = {"Accept-Encoding": "identity"}
        if self.position:
            if self._etag is None:
                raise DocumentChangedError(
                    f"The download broke after {self.position} bytes, and its host gave no strong ETag by which "
                    "to go on safely"
                )
            headers["If-Match"] = self._etag
            if self._by_range:
                headers["Range"] = f"bytes={self.position}-"
        request = RunningRequest(functools.partial(_send, self._url, headers), self._watch.check)
        try:
            response, failure = request.response()
            if response is None:
                self._broken(failure)
            else:
                self._accept(response, request)
        finally:
            if self._request is not request:
                request.close()

    def _accept(self, response: requests.Response, request: RunningRequest) -> None:
        status = response.status_code
        self._in_chunks = is_chunked(response.headers)
        if status in (200, 206) and self.position and not (is_delimited(response.headers) and request.has_body()):
            # The connection broke in the headers, which looks like an answer without the others. There is a body
            # otherwise, because something is missing still.
            self._broken("broke before it said what it is")
        elif status == 200:
            self._accept_whole(response, request)
        elif status == 206 and self.position:
            self._accept_rest(response, request)
        elif status == 412:
            raise DocumentChangedError("The document has changed since its download began")
        elif status == 416 and self.position:
            self._accept_end(response)
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

    def _accept_whole(self, response: requests.Response, request: RunningRequest) -> None:
        length = content_length(response.headers)
        etag = _strong(response.headers.get("ETag"))
        self._to_the_end, self._until = True, None
        if self.position == 0:
            self.length = length
            self.delimited = is_delimited(response.headers)
            self.content_type = response.headers.get("Content-Type")
            self._etag = etag
            self._request = request
            return
        # The host does not do ranges: read again what is known already, if it is still the same.
        if etag != self._etag:
            raise DocumentChangedError("The document has changed since its download began")
        self._check_length(length)
        self._skip(request)

    def _skip(self, request: RunningRequest) -> None:
        left = self.position
        buffer = memoryview(bytearray(CHUNK))
        while left:
            count, failure = request.readinto(buffer[:left])
            if not count:
                self._broken(failure or "ended early")
                return
            left -= count
        self._request = request

    def _accept_rest(self, response: requests.Response, request: RunningRequest) -> None:
        said = response.headers.get("Content-Range", "")
        match = _RANGE.fullmatch(said)
        end = int(match[2]) + 1 if match else 0
        total = int(match[3]) if match and match[3] != "*" else None
        announced = content_length(response.headers) or 0
        first = int(match[1]) if match else -1
        if first != self.position or not first < end <= (total or end) or announced > end - first:
            raise DocumentDownloadError(
                f"The document host was asked for byte {self.position} on and sent {said!r}"
            )
        if _strong(response.headers.get("ETag")) != self._etag:
            # A host that does not honour If-Match would otherwise have two versions joined.
            raise DocumentChangedError("The document has changed since its download began")
        self._check_length(total)
        self._to_the_end, self._until = False, end
        self._request = request

    def _accept_end(self, response: requests.Response) -> None:
        """Take a 416, which says that there are no more bytes, if it is the end of this very document."""
        match = _NO_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None:
            # It does not say how long the document is, so that it has to show.
            self._by_range = False
            self._broken("answered 416")
            return
        if _strong(response.headers.get("ETag")) not in (None, self._etag) or int(match[1]) != self.position:
            raise DocumentChangedError("The document has changed since its download began")
        self._check_length(self.position)

    def _check_length(self, length: int | None) -> None:
        if self.length is None:
            self.length = length
        if length not in (None, self.length):
            raise DocumentChangedError(f"The document had {self.length} bytes and has {length} now")

    def _broken(self, how: str) -> None:
        """Count a failure, and wait with full jitter; the connection is gone."""
        self._drop()
        self._failures += 1
        where = f"after {self.position} bytes of {'?' if self.length is None else self.length}"
        if self._failures >= ATTEMPTS:
            raise DocumentDownloadError(f"The download broke {self._failures} times in a row {where}; last: {how}")
        wait = random.uniform(0, min(LONGEST_WAIT, 0.25 * 2**self._failures))  # noqa: S311
        self._log.info("The download broke %s (%s); going on in %.1f s", where, how, wait)
        self._watch.pause(wait)

    def _renew_url(self) -> None:
        source = self._fetch()
        check_document_url(source.url, allow_http=self._allow_http, api_host=self._api_host)
        self._url = source.url
        self.compression_algorithm = source.compression_algorithm

    def _drop(self) -> None:
        if self._request is not None:
            self._request.close()
            self._request = None


def _send(url: str, headers: dict[str, str]) -> requests.Response:
    import requests

    session = document_session()
    request = session.prepare_request(requests.Request("GET", url, headers=headers))
    # The signature covers the very bytes of the URL, and requests normalises some of them.
    request.url = url
    settings = session.merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
    return session.send(request, timeout=TIMEOUT, **settings)


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
