"""Whatever stands in a field of a connection: it is understood, or named without being shown."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest

from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from tests.airflow_names import redact
from tests.hooks.test_amazon_business import define

LINES = "SANDBOX_ORDER_LINES"


def endpoint(monkeypatch, **fields):
    define(monkeypatch, **fields)
    return AmazonBusinessHook().client.config.endpoint


def error_of(monkeypatch, **fields):
    """Return the error of a connection, which must be the same in every way to use it."""
    define(monkeypatch, **fields)
    with pytest.raises(InvalidInputError) as caught:
        AmazonBusinessHook().get_report("1")
    message = str(caught.value)
    assert AmazonBusinessHook().test_connection() == (False, message)
    assert message.startswith("Connection 'amazon_business_default'")
    return message


def sandbox_connection(monkeypatch, sandbox, fields, extra):
    connection = {**sandbox.connection, **fields, "extra": {**sandbox.connection["extra"], **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("around", [" {}", "{}\n", "\t{} \r\n"])
@pytest.mark.parametrize(
    "name",
    [
        "login",
        "password",
        "host",
        "schema",
        "refresh_token",
        "region",
        "token_url",
        "application_name",
        "marketplace_ids",
        "rate_limits",
        "client_secret_created_on",
    ],
)
def test_blanks_around_a_field_are_dropped(monkeypatch, sandbox, name, around):
    extra = {**sandbox.connection["extra"], "region": "na", "application_name": "Tool"}
    extra |= {"rate_limits": '{"getReport": [50, 50]}', "client_secret_created_on": "2026-01-01"}
    fields = {**sandbox.connection, "host": urlsplit(sandbox.url).netloc, "schema": "http"}
    here = extra if name in extra else fields
    here[name] = around.format(here[name])
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps({**fields, "extra": extra}))

    assert AmazonBusinessHook().test_connection()[0]
    assert AmazonBusinessHook().create_report(LINES) in sandbox.reports


def test_a_secret_that_lost_its_newline_is_masked_in_logs(monkeypatch, sandbox):
    connection = sandbox.connection
    extra = {"refresh_token": connection["extra"]["refresh_token"] + "\n"}
    sandbox_connection(monkeypatch, sandbox, {"password": connection["password"] + "\n"}, extra)

    assert AmazonBusinessHook().client

    line = redact(f"{sandbox.client_secret} {sandbox.refresh_token}")
    assert sandbox.client_secret not in line
    assert sandbox.refresh_token not in line


@pytest.mark.parametrize("ids", [["ATVPDKIKX0DER"], [" ATVPDKIKX0DER ", ""], "ATVPDKIKX0DER,", " ATVPDKIKX0DER "])
def test_marketplaces_as_a_list_or_as_one_string(monkeypatch, sandbox, ids):
    sandbox_connection(monkeypatch, sandbox, {}, {"marketplace_ids": ids})

    report_id = AmazonBusinessHook().create_report(LINES)

    assert list(sandbox.reports[report_id].marketplace_ids) == ["ATVPDKIKX0DER"]


@pytest.mark.parametrize("ids", [5, {"a": 1}, [1], [None], True, [["A"]], "Atzr|hunter2", ["{{ hunter2 }}"]])
def test_marketplaces_of_another_type_are_rejected(monkeypatch, ids):
    define(monkeypatch, extra={"marketplace_ids": ids})

    with pytest.raises(
        InvalidInputError, match="marketplace_ids is a .*, but must be a comma-separated"
    ) as caught:
        AmazonBusinessHook().create_report(LINES)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "http://127.0.0.1", "port": 8080}, "http://127.0.0.1:8080"),
        ({"host": "http://127.0.0.1/v1/", "port": " 8080 "}, "http://127.0.0.1:8080/v1"),
        ({"host": "http://127.0.0.1:8080", "port": 8080}, "http://127.0.0.1:8080"),
        ({"host": "http://127.0.0.1:8080", "port": 0}, "http://127.0.0.1:8080"),
        ({"host": "127.0.0.1", "port": 8080, "schema": "http"}, "http://127.0.0.1:8080"),
        ({"host": "127.0.0.1:8080", "schema": "HTTP"}, "http://127.0.0.1:8080"),
        ({"host": "::1", "port": 8080, "schema": "http"}, "http://[::1]:8080"),
        ({"host": "http://[::1]", "port": 8080}, "http://[::1]:8080"),
        ({"host": "proxy.example.com", "port": 443}, "https://proxy.example.com"),
        ({"host": "https://proxy.example.com:443", "port": 443}, "https://proxy.example.com"),
        ({"host": "https://proxy.example.com", "port": 80}, "https://proxy.example.com:80"),
        ({"host": "Proxy.Example.COM.", "port": "0"}, "https://proxy.example.com"),
        ({"port": 0}, "https://na.business-api.amazon.com"),
        ({"port": 443, "host": " "}, "https://na.business-api.amazon.com"),
        ({"extra": {"region": " EU "}}, "https://eu.business-api.amazon.com"),
    ],
)
def test_the_endpoint_from_its_parts(monkeypatch, fields, url):
    assert endpoint(monkeypatch, **fields) == url


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "http://127.0.0.1:8081", "port": 8080}, "port is 8080, .* has port 8081"),
        ({"host": "https://example.com:443", "port": 8443}, "port is 8443, .* has port 443"),
        ({"host": "example.com:8081", "port": 8080}, "port is 8080, .* has port 8081"),
        ({"host": "https://example.com", "port": 99999}, "port is a int, but must be .* 1 to 65535"),
        ({"host": "https://example.com", "port": -1}, "port is a int, but must be .* 1 to 65535"),
        ({"port": 8080}, "port is 8080, but there is no Endpoint"),
    ],
)
def test_a_port_that_fits_nothing(monkeypatch, fields, expected):
    assert re.search(expected, error_of(monkeypatch, **fields))


# Where each may be written, and what no message shows.
PASSWORD_URLS = [
    "htps://user:hunter2@na.business-api.amazon.com",
    "https://user:hunter2@na.business-api.amazon.com",
    "https://hunter2@na.business-api.amazon.com",
    "user:hunter2@na.business-api.amazon.com",
    "//user:hunter2@na.business-api.amazon.com",
    "https:/user:hunter2@na.business-api.amazon.com",
    "https://user%3Ahunter2%40na.business-api.amazon.com",
    "https://user:hunter2%2540na.business-api.amazon.com",
    "https://na.business-api.amazon.com/user:hunter2@",
    "https://na.business-api.amazon.com\\@hunter2",
    "https://na.business-api.amazon.com?key=hunter2",
    "https://na.business-api.amazon.com#hunter2",
    "https://na.business-api.amazon.com:hunter2",
    "https://[hunter2",
    "https://hunter2..amazon.com",
    "https://hunter2 .amazon.com",
    "http://hunter2.amazon.com",
    "ftp://hunter2",
    "Atzr|hunter2",
    "https://amzn1.oa2-cs.v1.hunter2",
    "hunter2" * 10,
]


@pytest.mark.parametrize("url", PASSWORD_URLS)
@pytest.mark.parametrize("where", ["host", "token_url"])
def test_a_url_with_a_secret_in_it_is_never_shown(monkeypatch, url, where):
    fields = {"extra": {"token_url": url}} if where == "token_url" else {"host": url}

    message = error_of(monkeypatch, **fields)

    assert "hunter2" not in message
    assert f"{'endpoint' if where == 'host' else 'token_url'} " in message


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"region": "hunter2"}},
        {"extra": {"rate_limits": "hunter2"}},
        {"extra": {"rate_limits": {"hunter2": [1, 1]}}},
        {"extra": {"rate_limits": {"getReport": ["hunter2", 1]}}},
        {"extra": {"rate_limits": {"getReport": "hunter2"}}},
        {"extra": {"client_secret_created_on": "hunter2"}},
        {"extra": {"application_name": "hunter2\n|"}},
        {"extra": {"application_name": "x" * 500 + "hunter2"}},
        {"extra": {"refresh_token": ["hunter2"]}},
        {"extra": {"rate_limits": {"getReport": [1, ["hunter2"]]}}},
        {"extra": {"refresh_token": "Atzr|hunter2\nx"}},
        {"login": "hunter2\u2026"},
        {"password": "hunter2\x00x"},
        {"host": "https://x.example.com", "schema": "hunter2", "password": "the-secret-hunter2", "login": "\x7f"},
        {"password": "hunter2-the-secret", "login": "id-hunter2-the-secret"},
        {"password": "hunter2-the-secret", "host": "hunter2-the-secret.example.com"},
        {"password": "hunter2-the-secret", "extra": {"application_name": "hunter2-the-secret"}},
        {"host": "example.com", "schema": "hunter2"},
    ],
)
def test_a_secret_in_the_wrong_field_is_never_shown(monkeypatch, fields):
    assert "hunter2" not in error_of(monkeypatch, **fields)


@pytest.mark.parametrize(
    "limits",
    [
        '{"createReport": [0.1, 1e400]}',
        '{"createReport": [Infinity, 15]}',
        '{"createReport": [NaN, 15]}',
        '{"createReport": [true, 15]}',
        '{"createReport": [0.1, true]}',
        '{"createReport": [0.1, 1.5]}',
        '{"createReport": [0, 15]}',
        '{"createReport": [-1, 15]}',
        '{"createReport": [0.1, 0]}',
        '{"createReport": [0.1]}',
        '{"createReport": {"0": 1, "1": 2}}',
        '{"createReport": null}',
        f'{{"createReport": [{"1" * 400}, 15]}}',
        f'{{"createReport": [{"1" * 5000}, 15]}}',
        "[" * 9999,
        "5",
        "[1]",
        '"x"',
    ],
)
def test_invalid_limits_are_rejected(monkeypatch, limits):
    assert "rate_limits is " in error_of(monkeypatch, extra={"rate_limits": limits})


@pytest.mark.parametrize(
    "variable",
    [
        '{"conn_type": "amazon_business", "port": "hunter2"}',
        '{"conn_type": "amazon_business", "password": ',
        '{"conn_type": "amazon_business", "password": {"a": "hunter2"}}',
        '{"conn_type": "amazon_business", "login": 5, "password": "hunter2"}',
        '{"conn_type": "amazon_business", "login": "i", "password": "hunter2\\ud800"}',
        "amazon-business://id:hunter2@host:hunter2/",
        "amazon-business://id:hunter2@[host/",
        "amazon-business://id:hunter2@a://b://c",
        "hunter2",
        "5",
        "[]",
    ],
)
def test_a_connection_that_airflow_cannot_read_is_an_error_of_ours(monkeypatch, variable):
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", variable)

    with pytest.raises(AmazonBusinessError) as caught:
        AmazonBusinessHook().get_report("1")
    works, message = AmazonBusinessHook().test_connection()
    assert not works
    error = caught.value
    while error is not None:
        assert "hunter2" not in f"{message} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("conn_id", [None, 5, "", " ", "None", "{{ conn }}", "\ud800", ["a"], {}, "a\x00b", "a=b"])
def test_a_connection_id_that_is_none(conn_id):
    with pytest.raises(AmazonBusinessError):
        AmazonBusinessHook(conn_id).get_report("1")
    assert not AmazonBusinessHook(conn_id).test_connection()[0]


def test_limits_that_a_connection_no_longer_names_no_longer_hold(monkeypatch):
    define(monkeypatch, extra={"rate_limits": '{"getReport": [7, 3]}'})
    old = AmazonBusinessHook()
    bucket = token_buckets(old.client.config)["getReport"]
    assert bucket.limit == (7, 3)

    define(monkeypatch)
    assert token_buckets(AmazonBusinessHook().client.config)["getReport"] is bucket
    assert bucket.limit == USAGE_PLAN["getReport"]
    # Of a hook that lives on, as a poller's in a triggerer.
    assert token_buckets(old.client.config)["getReport"] is bucket
    assert bucket.limit == USAGE_PLAN["getReport"]


def test_another_connection_to_the_account_takes_no_limits_away(monkeypatch):
    define(monkeypatch, "limited", extra={"rate_limits": '{"getReport": [7, 3]}'})
    define(monkeypatch, "other")
    bucket = token_buckets(AmazonBusinessHook("limited").client.config)["getReport"]
    assert AmazonBusinessHook("other").client
    assert bucket.limit == (7, 3)

    define(monkeypatch, "limited")
    assert AmazonBusinessHook("limited").client
    assert bucket.limit == USAGE_PLAN["getReport"]
