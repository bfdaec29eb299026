"""The account: its URLs, its secrets, and what makes two of them one."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from tests.client.clients import account_with


@pytest.mark.parametrize(
    "written",
    [
        "HTTPS://NA.Business-API.amazon.com:443/",
        " https://na.business-api.amazon.com./\n",
        "https://na.business-api.amazon.com:0443//",
    ],
)
def test_an_account_has_one_set_of_limits_however_it_is_written(written):
    plain = ClientConfig("i", "s", "t", "https://na.business-api.amazon.com")
    other = ClientConfig(" i\n", "s ", "\tt", written)

    assert other == plain
    assert token_buckets(other)["getReport"] is token_buckets(plain)["getReport"]


@pytest.mark.parametrize("name", ["endpoint", "token_url"])
@pytest.mark.parametrize("url", ["http://api.example.com", "ftp://127.0.0.1", "api.example.com", "https://"])
def test_a_url_that_would_show_secrets_is_rejected(name, url):
    with pytest.raises(errors.InvalidParameterError, match=name):
        ClientConfig("id", "secret", "token", **{name: url})


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://h"])
def test_a_url_that_is_fine(url):
    assert ClientConfig("id", "secret", "token", endpoint=url).endpoint == url


def test_an_account_shows_no_secret():
    shown = repr(ClientConfig("id", "the-secret", "the-token"))

    assert "the-secret" not in shown
    assert "the-token" not in shown


def test_an_endpoint_with_a_password_is_rejected(sandbox):
    with pytest.raises(errors.InvalidParameterError, match="neither a user nor a password") as caught:
        account_with(sandbox, endpoint="https://user:hunter2@example.com")
    assert "hunter2" not in str(caught.value)
