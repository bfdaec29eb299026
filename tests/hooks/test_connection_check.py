"""The message of the test of a connection for each part that may fail."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from tests.conftest import connect

GIVEN = "Login with Amazon gave an access token"


def days_ago(days):
    return (datetime.now(timezone.utc) - timedelta(days=days)).date().isoformat()


def change(monkeypatch, sandbox, fields, extra):
    connection = sandbox.connection
    changed = {**connection, **fields, "extra": {**connection["extra"], **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(changed))


def what_is_said(sandbox):
    """Return the result of the test, whose message must show no secret."""
    works, message = AmazonBusinessHook().test_connection()
    for secret in (sandbox.client_secret, sandbox.refresh_token, "Atza|"):
        assert secret not in message
    return works, message


def test_all_works_with_one_cheap_call(sandbox):
    works, message = what_is_said(sandbox)

    assert works, message
    assert message.startswith(f"{GIVEN}, {sandbox.url} accepts it, and the application has the role")
    assert "Secret created on" in message
    assert [call.operation for call in sandbox.calls] == ["token", "getReport"]


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (0, "0 days old; 180 of its 180 days are left"),
        (149, "149 days old; 31 of its 180 days are left"),
        (150, "150 days old; 30 of its 180 days are left: rotate it in time"),
        (200, "200 days old, but one expires after 180; set the date of the newest"),
    ],
)
def test_the_age_of_the_secret(sandbox, monkeypatch, age, expected):
    connect(monkeypatch, sandbox, client_secret_created_on=days_ago(age))

    works, message = what_is_said(sandbox)

    assert works
    assert message.endswith(expected)


@pytest.mark.parametrize(
    ("fields", "extra", "expected"),
    [
        (
            {"password": "wrong"},
            {},
            "invalid_client: Client authentication failed (check Client ID and Client secret",
        ),
        (
            {"login": "wrong"},
            {},
            "invalid_client: Client authentication failed (check Client ID and Client secret",
        ),
        ({}, {"refresh_token": "Atzr|wrong"}, "revoked the grant"),
    ],
)
def test_wrong_credentials(sandbox, monkeypatch, fields, extra, expected):
    change(monkeypatch, sandbox, fields, extra)

    works, message = what_is_said(sandbox)

    assert not works
    assert message.startswith("No access token: Login with Amazon rejected the credentials: ")
    assert expected in message


def test_a_revoked_grant(sandbox):
    sandbox.revoke()

    works, message = what_is_said(sandbox)

    assert not works
    assert "invalid_grant" in message
    assert "the customer may have revoked the grant" in message


def test_the_error_for_a_rejected_secret_names_its_age(sandbox, monkeypatch):
    change(monkeypatch, sandbox, {"password": "the old one"}, {"client_secret_created_on": days_ago(190)})

    works, message = what_is_said(sandbox)

    assert not works
    assert message.endswith("By its date, the Client secret is 190 days old")


@pytest.mark.parametrize(
    ("token_url", "expected"),
    [
        ("http://127.0.0.1:9/auth", "http://127.0.0.1:9/auth cannot be reached (connection refused)"),
        ("https://lwa.invalid/auth", "https://lwa.invalid/auth cannot be reached (DNS does not know the host)"),
        ("{sandbox}/nothing", "token returned 403"),
    ],
)
def test_a_token_url_that_is_none(sandbox, monkeypatch, token_url, expected):
    change(monkeypatch, sandbox, {}, {"token_url": token_url.format(sandbox=sandbox.url)})

    works, message = what_is_said(sandbox)

    assert not works
    assert message.startswith("No access token: ")
    assert expected in message
    assert message.endswith("; check Token URL")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 (connection refused); check Region and Endpoint"),
        ("https://api.invalid", "https://api.invalid (DNS does not know the host); check Region and Endpoint"),
    ],
)
def test_a_host_that_is_not_the_api(sandbox, monkeypatch, host, expected):
    change(monkeypatch, sandbox, {"host": host}, {})

    works, message = what_is_said(sandbox)

    assert not works
    assert message.startswith(f"{GIVEN}, so Client ID, Client secret and Refresh token are right; but ")
    assert expected in message


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            {"kind": "status", "status": 403},
            "role Business Purchase Reconciliation; or the Refresh token is of another",
        ),
        ({"kind": "status", "status": 403, "body": "html"}, "does not respond as the Amazon Business API does"),
        ({"kind": "status", "status": 200, "body": "html"}, "does not respond as the Amazon Business API does"),
        ({"kind": "redirect"}, "does not respond as the Amazon Business API does"),
        ({"kind": "expire_token", "times": None}, "Token URL and Endpoint must belong together"),
        ({"kind": "status", "status": 404, "body": "html"}, "does not respond as the Amazon Business API does"),
        ({"kind": "status", "status": 429, "times": None}, "the account's limit is used up"),
        ({"kind": "status", "status": 503, "body": "html"}, "has a fault; try again"),
        ({"kind": "drop"}, "has a fault; try again"),
    ],
)
def test_what_the_api_may_return(sandbox, fault, expected):
    sandbox.inject(Fault("getReport", **fault))

    works, message = what_is_said(sandbox)

    assert not works
    assert message.startswith(f"{GIVEN}, so Client ID, Client secret and Refresh token are right; but ")
    assert expected in message


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "status", "status": 503}, "token returned 503"),
        ({"kind": "status", "status": 403, "body": "html"}, "check Token URL"),
        ({"kind": "status", "status": 200, "body": "html"}, "check Token URL"),
    ],
)
def test_what_the_token_url_may_return(sandbox, fault, expected):
    sandbox.inject(Fault("token", **fault))

    works, message = what_is_said(sandbox)

    assert not works
    assert message.startswith("No access token: ")
    assert expected in message
    assert "role" not in message


def test_a_field_that_is_not_allowed(sandbox, monkeypatch):
    change(monkeypatch, sandbox, {}, {"region": "us"})

    works, message = what_is_said(sandbox)

    assert not works
    assert "region is 'us', but must be one of ['eu', 'fe', 'na']" in message
