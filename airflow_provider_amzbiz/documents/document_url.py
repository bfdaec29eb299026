"""The URL that a document is fetched from: fresh, and safe to follow."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.config import is_loopback
from airflow_provider_amzbiz.documents.errors import DocumentDownloadError, UnsafeDocumentUrlError

# Fresh URLs that may be rejected in a row: each costs one of the API's scarce calls.
MAX_REJECTED = 3


class DocumentSource(Protocol):
    """Where a document is at the moment."""

    @property
    def url(self) -> str:
        """A presigned URL, valid for five minutes."""

    @property
    def compression_algorithm(self) -> str | None:
        """``GZIP``, or None."""


Fetch = Callable[[], DocumentSource]


class DocumentUrl:
    """A document's URL, which is renewed when its host rejects it.

    :param fetch: returns a fresh URL.
    :param allow_http: whether a loopback address is allowed, by http too: the API's own endpoint is one.
    :param api_host: host of the API's own endpoint, which may serve documents over https whatever its address is.
    """

    def __init__(self, fetch: Fetch, *, allow_http: bool, api_host: str | None) -> None:
        self._fetch = fetch
        self._allow_http = allow_http
        self._api_host = api_host
        self._rejected = 0
        self.url = ""
        self.compression_algorithm: str | None = None

    def renew(self) -> None:
        """Get a fresh URL.

        :raises UnsafeDocumentUrlError: it may not be followed.
        """
        source = self._fetch()
        check_document_url(source.url, allow_http=self._allow_http, api_host=self._api_host)
        self.url = source.url
        self.compression_algorithm = source.compression_algorithm

    def accepted(self) -> None:
        """Record that the host has sent bytes."""
        self._rejected = 0

    def rejected(self, status: int) -> None:
        """Record that the host has rejected the URL.

        :raises DocumentDownloadError: it has rejected too many in a row.
        """
        self._rejected += 1
        if self._rejected >= MAX_REJECTED:
            raise DocumentDownloadError(
                f"The document host responded with {status} to {MAX_REJECTED} URLs in a row"
            )


def check_document_url(url: str, *, allow_http: bool, api_host: str | None) -> None:
    """Refuse a URL into an internal network, or over which a document would travel unencrypted.

    :param allow_http: whether a loopback address is allowed, by http too: the API's own endpoint is one.
    :param api_host: host of the API's own endpoint, which may serve documents over https whatever its address is.
    :raises UnsafeDocumentUrlError: the URL may not be followed.
    """
    scheme, host = _scheme_and_host(url)
    local = allow_http and is_loopback(host)
    if not host:
        raise UnsafeDocumentUrlError("The document's URL names no host")
    if scheme != "https" and not (local and scheme == "http"):
        raise UnsafeDocumentUrlError(f"The document's URL is {scheme}://{host}/..., but must be https")
    if not local and host != (api_host or "").lower() and _is_internal(host):
        raise UnsafeDocumentUrlError(
            f"The document's URL is {scheme}://{host}/..., an address that is not on the public internet"
        )


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:
        # Its message would contain the URL.
        return "", ""


def _is_internal(host: str) -> bool:
    """Whether a host is an address of a private network or of this machine.

    Names are not resolved: in a VPC those of S3 resolve to private addresses, and TLS proves the host's identity.
    """
    try:
        # Also in forms that only the C library accepts as an address, such as 0x7f.1.
        address = ipaddress.ip_address(socket.inet_aton(host) if ":" not in host else host)
    except (OSError, ValueError):
        return host == "localhost" or host.endswith(".localhost")
    return not (getattr(address, "ipv4_mapped", None) or address).is_global
