"""Why a request got no response, in the words of its error."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.reports import ReportsClient
from tests.client.clients import account_with, client_of


def test_a_proxy_that_is_away_is_named(sandbox, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(errors.UnreachableError, match="the proxy rejected the request"):
        client_of(sandbox, retry_for=0).get_report("1")


def test_a_proxy_of_the_environment_is_used(sandbox, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")

    with pytest.raises(errors.UnreachableError, match="the proxy rejected the request"):
        ReportsClient(account_with(sandbox), retry_for=0).token()


def test_a_ca_bundle_that_is_missing_is_an_error_of_ours(sandbox, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
    nowhere = account_with(sandbox, endpoint="https://127.0.0.1:9")

    with pytest.raises(errors.UnreachableError, match="REQUESTS_CA_BUNDLE"):
        ReportsClient(nowhere, retry_for=0).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
