"""Amazon's marketplaces by region: a host only serves those of its own region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.config import REGION_ENDPOINTS
from airflow_provider_amzbiz.client.errors import InvalidParameterError

# From Amazon Business's page of marketplace ids. It grows, so an id that is not here may exist.
MARKETPLACES: Mapping[str, Mapping[str, str]] = {
    "na": {
        "A2EUQ1WTGCTBG2": "Canada",
        "A1AM78C64UM0Y8": "Mexico",
        "ATVPDKIKX0DER": "United States",
    },
    "eu": {
        "A13V1IB3VIYZZH": "France",
        "A1PA6795UKMFR9": "Germany",
        "A21TJRUUN4KGV": "India",
        "APJ6JRA9NG5V4": "Italy",
        "A1RKKUPIHCS9HS": "Spain",
        "A1F83G8C2ARO7P": "United Kingdom",
    },
    "fe": {
        "A39IBJ37TRP1C6": "Australia",
        "A1VC38T7YXB528": "Japan",
    },
}
_REGION_BY_HOST = {urlsplit(url).hostname: region for region, url in REGION_ENDPOINTS.items()}


def region_of_endpoint(endpoint: str | None) -> str | None:
    """Return the region of one of Amazon's own hosts; None for any other host, such as a proxy or a sandbox."""
    return _REGION_BY_HOST.get(urlsplit(endpoint).hostname) if endpoint else None


def region_of_marketplace(marketplace_id: str) -> str | None:
    """Return the region of a marketplace; None for one that is not in Amazon's list."""
    return next((region for region, ids in MARKETPLACES.items() if marketplace_id in ids), None)


def check_region(marketplace_ids: Iterable[str], endpoint: str | None) -> None:
    """Reject marketplaces that are known to be of another region than the host.

    :param endpoint: base URL of the API; with None, or a host of an unknown region, nothing is checked.
    :raises InvalidParameterError: it names the marketplace, its region and what the host serves.
    """
    called = region_of_endpoint(endpoint)
    if called is None:
        return
    for marketplace_id in marketplace_ids:
        region = region_of_marketplace(marketplace_id)
        if region not in (None, called):
            country = MARKETPLACES[region][marketplace_id]
            served = ", ".join(f"{each} ({name})" for each, name in MARKETPLACES[called].items())
            raise InvalidParameterError(
                f"marketplace_ids has {marketplace_id!r} ({country}), which is of region {region!r}, but the "
                f"connection calls the host of region {called!r}, which serves {served}; use a connection of "
                f"region {region!r}"
            )
