"""The raw bytes of a document, through broken connections and expired URLs."""

from __future__ import annotations

import functools
import io
import logging
import random
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.document_head import DocumentHead
from airflow_provider_amzbiz.documents.document_url import DocumentUrl
from airflow_provider_amzbiz.documents.errors import (
    DocumentChangedError,
    DocumentDownloadError,
    DocumentGoneError,
    UnsafeDocumentUrlError,
)
from airflow_provider_amzbiz.documents.http_body import is_chunked, is_delimited
from airflow_provider_amzbiz.documents.http_request import RunningRequest
from airflow_provider_amzbiz.documents.session import document_session
from airflow_provider_amzbiz.documents.streams import CHUNK, Log
from airflow_provider_amzbiz.documents.watch import Watch

if TYPE_CHECKING:
    import requests

# Seconds to connect, and between two reads of the body.
TIMEOUT = (10.0, 60.0)
# Attempts in a row that may fail without a single new byte.
ATTEMPTS = 6
# Maximum seconds between two attempts.
LONGEST_WAIT = 30.0
# The parameters of a signed URL, in both of S3's versions of signing.
_SIGNED = re.compile(r"[?&](X-Amz-|Signature=)", re.IGNORECASE)


class DocumentStream(io.RawIOBase):
    """The bytes of a document as its host has them, in order, each exactly once.

    A download that breaks is resumed at the byte it reached, with a fresh URL if the old one has expired. The
    reader does not notice.

    :param url: renewed when the download starts, and then only after a 403: each call is one of about 0.1 per
        second that the API allows.
    :param log: receives a line about each break.
    :param watch: raises if the transfer is to end.
    :ivar head: what the document's host says about it.
    :ivar position: number of bytes read so far.
    :raises DocumentDownloadError: no new byte arrived in :data:`ATTEMPTS` attempts, the host's response is none
        that a retry helps against, or the transfer is to end.
    :raises DocumentChangedError: the host has another document now.
    """

    def __init__(self, url: DocumentUrl, *, log: Log, watch: Watch) -> None:
        super().__init__()
        self.url = url
        self.head = DocumentHead()
        self.position = 0
        self._log = log
        self._watch = watch
        self._request: RunningRequest | None = None
        self._failures = 0
        # Whether only the rest is requested; otherwise the document is read again from the start.
        self._by_range = True
        # Whether the end of the body in progress is the end of the document.
        self._to_the_end = True
        # Whether the body ends by itself, and not where its length says.
        self._is_chunked = False
        # Position where the body in progress must end at the latest.
        self._until: int | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()
        super().close()

    def start(self) -> None:
        """Get the first URL and connect, so that ``head`` is known before the first byte is read."""
        self.url.renew()
        while self._request is None:
            self._connect()

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte, or return 0 at the end of the whole document."""
        while self.head.length is None or self.position < self.head.length:
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
        if self._request is not None and self._is_chunked:
            # The chunks must end where the length says, which comes from another header or another response.
            self._advance(self._request.readinto(bytearray(1))[0])
            self._disconnect()
        return 0

    def _advance(self, count: int) -> None:
        self.position += count
        self._failures = 0
        self.url.accepted()
        for limit in (self._until, self.head.length):
            if limit is not None and self.position > limit:
                raise DocumentDownloadError(
                    f"The document host sent more than the {limit} bytes that it announced"
                )

    def _body_ended(self) -> bool:
        """Return whether the document ends where a body did; if not, the rest is requested."""
        if self.head.length is not None:
            self._broken(f"ended after {self.position} of {self.head.length} bytes")
        elif not self.head.delimited and not self.position:
            # A connection that breaks between two headers looks like a response without a length.
            self._broken("ended before the first byte")
        elif self._to_the_end:
            return True
        else:
            # A part of a document of unknown length: only the host knows whether there is more.
            self._disconnect()
        return False

    def _connect(self) -> None:
        """Request the rest of the document; leaves ``_request`` None if another attempt is due."""
        headers = {"Accept-Encoding": "identity"}
        if self.position:
            if self.head.etag is None:
                raise DocumentChangedError(
                    f"The download broke after {self.position} bytes, and its host gave no strong ETag by which "
                    "to resume it safely"
                )
            headers["If-Match"] = self.head.etag
            if self._by_range:
                headers["Range"] = f"bytes={self.position}-"
        request = RunningRequest(functools.partial(_send, self.url.url, headers), self._watch.check)
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
        self._is_chunked = is_chunked(response.headers)
        if status in (200, 206) and self.position and not (is_delimited(response.headers) and request.has_body()):
            # The connection broke between two headers, which looks like a response without the others. There is a
            # body otherwise, because some of the document is still missing.
            self._broken("broke within the headers")
        elif status == 200:
            self._accept_whole(response, request)
        elif status == 206 and self.position:
            self._to_the_end, self._until = False, self.head.check_rest(response.headers, self.position)
            self._request = request
        elif status == 412:
            raise DocumentChangedError("The document has changed since its download began")
        elif status == 416 and self.position:
            if not self.head.check_end(response.headers, self.position):
                # Only the whole document can show how long it is.
                self._by_range = False
                self._broken("responded with 416")
        elif status in (400, 401, 403):
            # Expired, in all likelihood: S3 checks the time at the start of each request. It responds with 400 if
            # the credentials that signed the URL have expired.
            self.url.rejected(status)
            self._broken(f"responded with {status}")
            self.url.renew()
        elif status == 429 or status >= 500:
            self._broken(f"responded with {status}")
        elif 300 <= status < 400:
            raise UnsafeDocumentUrlError(f"The document host responded with {status}; redirects are not followed")
        else:
            kind = DocumentGoneError if status in (404, 410) else DocumentDownloadError
            raise kind(f"The document host responded with {status}")

    def _accept_whole(self, response: requests.Response, request: RunningRequest) -> None:
        self._to_the_end, self._until = True, None
        if self.position == 0:
            self.head.read(response.headers)
            self._request = request
            return
        # The host does not support ranges: skip what was read already, if the document is still the same.
        self.head.check_whole(response.headers)
        if failure := _skip(request, self.position):
            self._broken(failure)
        else:
            self._request = request

    def _broken(self, how: str) -> None:
        """Count a failed attempt, and wait with full jitter."""
        self._disconnect()
        self._failures += 1
        where = f"after {self.position} bytes of {'?' if self.head.length is None else self.head.length}"
        if self._failures >= ATTEMPTS:
            raise DocumentDownloadError(f"The download broke {self._failures} times in a row {where}; last: {how}")
        wait = random.uniform(0, min(LONGEST_WAIT, 0.25 * 2**self._failures))  # noqa: S311
        self._log.info("The download broke %s (%s); resuming in %.1f s", where, how, wait)
        self._watch.pause(wait)

    def _disconnect(self) -> None:
        if self._request is not None:
            self._request.close()
            self._request = None


def _skip(request: RunningRequest, count: int) -> str:
    """Skip the first bytes of a body; return how it broke, or an empty string."""
    buffer = memoryview(bytearray(CHUNK))
    while count:
        read, failure = request.readinto(buffer[:count])
        if not read:
            return failure or "ended early"
        count -= read
    return ""


def _send(url: str, headers: dict[str, str]) -> requests.Response:
    import requests

    session = document_session()
    request = session.prepare_request(requests.Request("GET", url, headers=headers))
    # The signature covers the exact bytes of the URL, and requests normalizes some of them.
    request.url = url
    settings = session.merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
    return session.send(request, timeout=TIMEOUT, **settings)


def _redact(record: logging.LogRecord) -> bool:
    """Remove signatures from urllib3's own log lines, which show each path with its query at DEBUG."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            each.split("?")[0] + "?..." if isinstance(each, str) and _SIGNED.search(each) else each
            for each in record.args
        )
    return True


# The second one logs headers that cannot be parsed.
for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_redact)
