"""Where to call the API, and as whom."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.store_address import StoreAddress
from airflow_provider_amzbiz.client.usage_plan import Limit

# Amazon's own regional hosts; the far east is served by the Japanese one.
REGION_ENDPOINTS: Mapping[str, str] = {
    "na": "https://na.business-api.amazon.com",
    "eu": "https://eu.business-api.amazon.com",
    "fe": "https://jp.business-api.amazon.com",
}
_WHERE = {
    "client_id": "Client ID, login",
    "client_secret": "Client secret, password",
    "refresh_token": "Refresh token, extra refresh_token",
}
LWA_TOKEN_URL = "https://api.amazon.com/auth/o2/token"  # noqa: S105

_PORTS = {"https": 443, "http": 80}
# A label of a host name; container networks use the underscore.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# How the secrets of Login with Amazon begin. The last one could be the name of a host.
_SECRET_PREFIXES = ("atzr|", "atza|", "amzn1.")


@dataclass(frozen=True)
class ClientConfig:
    """One application with the consent of one Amazon Business customer: rate limits apply to each such pair.

    Blanks and newlines around a value are dropped, and URLs are normalized, so that an account equals itself
    however it is written.

    :param client_id: Login with Amazon (LWA) client identifier of the application.
    :param client_secret: LWA client secret; expires after 180 days.
    :param refresh_token: LWA refresh token of the consenting customer.
    :param endpoint: base URL of the API, https, or http on a loopback address (a local sandbox).
    :param token_url: URL of the LWA token exchange, under the same rule.
    :param application_name: goes into the User-Agent.
    :param rate_limits: operation id to :class:`.Limit`, where they differ from the built-in usage plan.
    :param source: where these values come from, such as the id of a connection: its rate limits apply until the
        same source is read again without them.
    :param rate_limit_store: the Redis server that holds the account's limits for all processes; None if each
        process counts for itself.
    :ivar order: grows with each instance, so that of two from one source the newer is known.
    :raises InvalidParameterError: a value is missing or not allowed; the message does not show it, because it may
        be a secret in the wrong field.
    """

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    endpoint: str = REGION_ENDPOINTS["na"]
    token_url: str = LWA_TOKEN_URL
    application_name: str | None = None
    rate_limits: Mapping[str, Limit] = field(default_factory=dict, hash=False)
    source: str = field(default="", compare=False)
    rate_limit_store: StoreAddress | None = field(default=None, compare=False)
    order: int = field(default_factory=itertools.count().__next__, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, where in _WHERE.items():
            object.__setattr__(self, name, _credential(name, where, getattr(self, name)))
        for name in ("endpoint", "token_url"):
            object.__setattr__(self, name, normalized_url(name, getattr(self, name)))
        for name in ("client_id", "endpoint", "token_url", "application_name"):
            shown = unquote(getattr(self, name) or "").lower()
            # A shorter one may be part of any value by chance.
            if any(len(secret) >= 8 and secret.lower() in shown for secret in self._secrets):
                raise InvalidParameterError(f"{name} holds the Client secret or the Refresh token, but must not")

    @property
    def _secrets(self) -> tuple[str, str]:
        return self.client_secret, self.refresh_token

    @property
    def identity(self) -> tuple[str, str, str]:
        """What identifies the account, whatever connection it comes from. Secret."""
        return self.endpoint, self.client_id, self.refresh_token

    @property
    def account_hash(self) -> str:
        """A SHA-256 of the identity, which is the same in all processes and no secret."""
        return hashlib.sha256("\n".join(("limits of", *self.identity)).encode()).hexdigest()


def normalized_url(name: str, url: str) -> str:
    """Return a URL in the one form in which URLs of one server are equal: ``https://host[:port][/path]``.

    Scheme and host are in lower case; a default port, a dot after the host and slashes at the end are dropped.

    :raises InvalidParameterError: it is no such URL, or secrets would travel unencrypted; the message does not
        show it, because it may hold a password.
    """
    if not isinstance(url, str):
        raise _no_url(name, f"is a {type(url).__name__}")
    url = url.strip()
    # Other URL parsers take another part of such a URL for the host, and would send the secrets there.
    if "@" in _fully_unquoted(url):
        raise _no_url(name, "has an @")
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise _no_url(name, "contains a blank, a backslash or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _no_url(name, "has an invalid port (not a number up to 65535) or a misplaced bracket") from None
    if parts.scheme not in _PORTS:
        raise _no_url(name, "has a scheme other than https")
    if "?" in url or "#" in url:
        raise _no_url(name, "has a query or a fragment")
    if port == 0:
        raise _no_url(name, "has port 0")
    host = _normalized_host(name, parts.hostname or "")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidParameterError(
            f"{name} is a URL with plain http, but must be https: plain http is only allowed for a loopback "
            "address, because secrets would travel unencrypted"
        )
    shown = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown}{suffix}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name alone, without DNS."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _normalized_host(name: str, host: str) -> str:
    if ":" in host:
        with suppress(ValueError):
            address = ipaddress.IPv6Address(host)
            if address.scope_id is None:
                return address.compressed
        raise _no_url(name, "has a host in brackets that is not an IPv6 address")
    host = host.lower().removesuffix(".")
    if host.startswith(_SECRET_PREFIXES):
        raise _no_url(name, "is a credential of Login with Amazon")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise _no_url(
            name,
            "has no host, or an invalid host name (allowed: letters, digits and hyphens, in labels of 1 to 63 "
            "characters separated by dots)",
        )
    return host


def _no_url(name: str, what: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"{name} {what}, but must be a URL such as https://host, https://host:8443 or https://host/path, with "
        "neither a user nor a password nor a query"
    )


def _credential(name: str, where: str, value: object) -> str:
    if value is None or value == "":
        raise InvalidParameterError(f"{name} is missing (in a connection: {where})")
    if not isinstance(value, str):
        raise InvalidParameterError(f"{name} must be a string, but is a {type(value).__name__} ({where})")
    stripped = value.strip()
    if not stripped:
        raise InvalidParameterError(f"{name} is missing (in a connection: {where})")
    if not (stripped.isascii() and stripped.isprintable()):
        # RFC 6749, appendix A: no server issues one with other characters.
        raise InvalidParameterError(
            f"{name} must be printable ASCII, but has another character, such as a newline inside ({where})"
        )
    return stripped


def _fully_unquoted(url: str) -> str:
    while (unquoted := unquote(url)) != url:
        url = unquoted
    return url
