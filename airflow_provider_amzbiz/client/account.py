"""Where to call the API, and as whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.errors import InvalidParameterError
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


@dataclass(frozen=True)
class Account:
    """One application with the consent of one Amazon Business customer: what the limits are counted by.

    :param client_id: Login with Amazon (LWA) client identifier of the application.
    :param client_secret: LWA client secret; lives 180 days.
    :param refresh_token: LWA refresh token of the consenting customer.
    :param endpoint: base URL of the API, https, or http on a loopback address (a local sandbox).
    :param token_url: URL of the LWA token exchange, with the same rule.
    :param application_name: goes into the User-Agent.
    :param rate_limits: operation id to :class:`.Limit`, where they differ from the built-in usage plan.
    :param source: where these values come from, such as the id of a connection: its rate limits hold until the
        same source is read again without them.
    """

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    endpoint: str = REGION_ENDPOINTS["na"]
    token_url: str = LWA_TOKEN_URL
    application_name: str | None = None
    rate_limits: Mapping[str, Limit] = field(default_factory=dict, hash=False)
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, where in _WHERE.items():
            if not getattr(self, name):
                raise InvalidParameterError(f"{name} is missing (in a connection: {where})")
        check_url("endpoint", self.endpoint)
        check_url("token_url", self.token_url)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells accounts apart, whatever connection they come from. Secret."""
        return self.endpoint, self.client_id, self.refresh_token


def check_url(name: str, url: str) -> None:
    """Refuse a URL over which a secret would travel readable, or that is none.

    :raises InvalidParameterError: not https, and not http to a loopback address.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise InvalidParameterError(f"{name} is {url!r}, which is not a URL such as https://host")
    if parts.username or parts.password or parts.query:
        # It is named in errors and logs.
        raise InvalidParameterError(f"{name} may hold neither a user nor a password nor a query")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise InvalidParameterError(
            f"{name} is {url!r}: plain http is allowed for a loopback address only, because "
            "secrets would travel readable"
        )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its very name, without asking DNS."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
