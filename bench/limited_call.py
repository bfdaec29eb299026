"""One createReport call, as a fresh process makes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import ThrottledError
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.store_address import StoreAddress
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import Limit

OPERATION = "createReport"
CONN_ID = "amazon_business_default"


def config_of(account: Mapping[str, Any]) -> ClientConfig:
    """Return the account as a client has it."""
    store = StoreAddress("bench", "127.0.0.1", account["redis_port"]) if account["redis_port"] else None
    client_id, client_secret, refresh_token, endpoint, token_url = account["credentials"]
    return ClientConfig(
        client_id,
        client_secret,
        refresh_token,
        endpoint,
        token_url,
        rate_limits={OPERATION: Limit(*account["limit"])},
        source=account["source"],
        rate_limit_store=store,
    )


class _Permits(CallListener):
    """When the call asked for its permit first, and when it got it last."""

    def __init__(self) -> None:
        self.asked = self.given = time.time()
        self._is_first = True
        self.store_failures = 0

    def on_permit_wait(self, operation: str, seconds: float) -> None:
        self.given = time.time()
        if self._is_first:
            self.asked, self._is_first = self.given - seconds, False

    def on_store_failure(self) -> None:
        self.store_failures += 1


def create(account: Mapping[str, Any], max_wait: float, *, granted: bool, is_mapped: bool) -> dict[str, Any]:
    """Create a report; return when it asked for its permit and got it, how long it took, and whether it worked."""
    logging.disable(logging.CRITICAL)
    config, began, permits = config_of(account), time.time(), _Permits()
    client = ReportsClient(config, max_throttle_wait=max_wait, listener=permits)
    if is_mapped:
        token_buckets(config)[OPERATION].expect_others()
    if granted:
        client.grant(OPERATION)
    worked = True
    try:
        client.create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    except ThrottledError:
        worked = False
    return {
        "arrived": permits.asked,
        "ended": permits.given,
        "held": time.time() - began,
        "worked": worked,
        "store_failures": permits.store_failures,
    }


def call_with_permit(account: Mapping[str, Any]) -> dict[str, Any]:
    """Create a report with a permit that a triggerer has waited for."""
    return create(account, 0.0, granted=True, is_mapped=False)


def nothing() -> None:
    """Start the process."""
