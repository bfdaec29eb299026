"""Which URLs a document is fetched from."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.config import is_loopback
from airflow_provider_amzbiz.documents.errors import UnsafeDocumentUrlError


def check_document_url(url: str, *, allow_http: bool, api_host: str | None) -> None:
    """Refuse a URL that leads inside, or over which a document would travel readable.

    :param allow_http: whether a loopback address is allowed, by http too: the API's own endpoint is one.
    :param api_host: host of the API's own endpoint, which may serve documents by https whatever its address is.
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
