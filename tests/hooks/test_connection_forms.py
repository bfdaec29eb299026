"""The forms a connection can have: environment, URI, JSON and command line, with the ``|`` of Amazon's tokens."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

SECRET = "amzn1.oa2-cs.v1.a|b/c+d="
TOKEN = "Atzr|a/b+c=="
TOKEN_URL = "https://api.amazon.co.uk/auth/o2/token"
JSON = json.dumps(
    {
        "conn_type": "amazon_business",
        "login": "amzn1.application-oa2-client.1",
        "password": SECRET,
        "extra": {"refresh_token": TOKEN, "region": "eu", "token_url": TOKEN_URL},
    }
)
URI = (
    f"amazon-business://amzn1.application-oa2-client.1:{quote(SECRET, safe='')}@/"
    f"?refresh_token={quote(TOKEN, safe='')}&region=eu&token_url={quote(TOKEN_URL, safe='')}"
)
FLAGS = [
    "--conn-type=amazon_business",
    "--conn-login=amzn1.application-oa2-client.1",
    f"--conn-password={SECRET}",
    f"--conn-extra={json.dumps({'refresh_token': TOKEN, 'region': 'eu', 'token_url': TOKEN_URL})}",
]


def assert_read():
    account = AmazonBusinessHook("c").client.config
    assert account.client_id == "amzn1.application-oa2-client.1"
    assert account.client_secret == SECRET
    assert account.refresh_token == TOKEN
    assert account.endpoint == "https://eu.business-api.amazon.com"
    assert account.token_url == TOKEN_URL


@pytest.mark.parametrize("text", [JSON, URI], ids=["JSON", "URI"])
def test_an_environment_variable(monkeypatch, text):
    monkeypatch.setenv("AIRFLOW_CONN_C", text)

    assert_read()


@pytest.mark.parametrize(
    "arguments",
    [["--conn-json", JSON], ["--conn-uri", URI], FLAGS],
    ids=["JSON", "URI", "one by one"],
)
def test_the_command_line(airflow_db, monkeypatch, arguments):
    from airflow.cli import cli_parser
    from airflow.models import Connection
    from airflow.settings import Session

    def airflow(*command):
        given = cli_parser.get_parser().parse_args(["connections", *command])
        given.func(given)

    airflow("add", "c", *arguments)
    try:
        stored = Session().query(Connection).filter_by(conn_id="c").one()
        # In this form Airflow hands it to the processes that it starts, and to the test of a connection.
        monkeypatch.setenv("AIRFLOW_CONN_C", stored.get_uri())
    finally:
        airflow("delete", "c")

    assert_read()


def test_the_endpoint_in_a_uri(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_C", URI.replace("@/?", "@127.0.0.1:8080/http?"))

    assert AmazonBusinessHook("c").client.config.endpoint == "http://127.0.0.1:8080"


def test_a_uri_with_an_underscore_in_its_scheme_names_the_hyphen(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_C", URI.replace("amazon-business://", "amazon_business://"))

    with pytest.raises(exceptions.InvalidInputError, match="begin with amazon-business://"):
        assert AmazonBusinessHook("c").client
