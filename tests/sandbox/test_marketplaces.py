"""Which marketplaces one host serves together."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client import marketplaces as clients
from airflow_provider_amzbiz.sandbox.marketplaces import ANY, REGION_OF, REGIONS, are_served, default_marketplace

US, CA, DE, JP = "ATVPDKIKX0DER", "A2EUQ1WTGCTBG2", "A1PA6795UKMFR9", "A1VC38T7YXB528"


@pytest.mark.parametrize(
    ("ids", "region", "served"),
    [
        ([US, CA], "na", True),
        ([US], "eu", False),
        ([US, DE], "na", False),
        ([US, DE], ANY, False),
        ([JP], ANY, True),
        (["A0UNKNOWN"], ANY, False),
    ],
)
def test_one_region_per_request_and_host(ids, region, served):
    assert are_served(ids, region) is served


@pytest.mark.parametrize("region", REGIONS)
def test_the_default_is_served(region):
    assert are_served([default_marketplace(region)], region)


def test_both_tables_of_marketplaces_agree():
    assert {each: region for region, ids in clients.MARKETPLACES.items() for each in ids} == REGION_OF
