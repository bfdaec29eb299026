"""Amazon's marketplaces by region. A table of its own: the sandbox must not share a mistake with the client."""

from __future__ import annotations

from collections.abc import Mapping

_REGIONS: Mapping[str, tuple[str, ...]] = {
    # The first one is in the sandbox's connection.
    "na": ("ATVPDKIKX0DER", "A2EUQ1WTGCTBG2", "A1AM78C64UM0Y8"),
    "eu": (
        "A1PA6795UKMFR9",
        "A1RKKUPIHCS9HS",
        "A1F83G8C2ARO7P",
        "A13V1IB3VIYZZH",
        "APJ6JRA9NG5V4",
        "A21TJRUUN4KGV",
    ),
    "fe": ("A1VC38T7YXB528", "A39IBJ37TRP1C6"),
}
ANY = "any"
REGIONS = (*_REGIONS, ANY)
REGION_OF: Mapping[str, str] = {
    marketplace: region for region, marketplaces in _REGIONS.items() for marketplace in marketplaces
}
AWS_REGIONS: Mapping[str, str] = {"na": "us-east-1", "eu": "eu-west-1", "fe": "us-west-2"}


def default_marketplace(region: str) -> str:
    """Return the marketplace in a connection to a sandbox of this region."""
    return _REGIONS["na" if region == ANY else region][0]


def are_served(marketplace_ids: list[str], region: str) -> bool:
    """Return whether one host can serve these marketplaces together.

    :param marketplace_ids: at least one id.
    :param region: that of the host; ``any`` stands for all hosts, one per request.
    """
    regions = {REGION_OF.get(each) for each in marketplace_ids}
    return None not in regions and len(regions) == 1 and (region == ANY or regions == {region})
