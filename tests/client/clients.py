"""Clients of a sandbox, and what they request."""

from __future__ import annotations

import json

from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from airflow_provider_amzbiz.sandbox import Fault

US = "ATVPDKIKX0DER"
CA = "A2EUQ1WTGCTBG2"
LINES = "SANDBOX_ORDER_LINES"


def account_of(sandbox, **limits):
    return ClientConfig(
        sandbox.client_id,
        sandbox.client_secret,
        sandbox.refresh_token,
        sandbox.url,
        sandbox.token_url,
        rate_limits=limits,
    )


def client_of(sandbox, **settings):
    limits = {operation: Limit(50.0, 15) for operation in USAGE_PLAN}
    return ReportsClient(account_of(sandbox, **limits), **settings)


def account_with(sandbox, **changes):
    fields = {
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "refresh_token": sandbox.refresh_token,
        "endpoint": sandbox.url,
        "token_url": sandbox.token_url,
        "rate_limits": {"getReport": Limit(50.0, 100)},
    }
    return ClientConfig(**{**fields, **changes})


def alternate_tokens(sandbox, pages=60):
    """Have getReports return empty pages, and two next tokens in turn."""
    for number in range(pages):
        page = {"reports": [], "nextToken": ("a token", "another")[number % 2]}
        sandbox.inject(Fault(operation="getReports", kind="status", status=200, body=json.dumps(page)))
