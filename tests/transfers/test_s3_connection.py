"""The AWS connection: its very credentials, or an error of ours without a secret."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, ConnectionNotFoundError, InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.airflow_names import AirflowFailException

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEBYaDNot0A0RealToken"


def connect(monkeypatch, **extra):
    connection = {"conn_type": "aws", "login": "AKIDEXAMPLE", "password": SECRET, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_OTHER", json.dumps(connection))


def transfer(report_id="1", aws_conn_id="aws_other"):
    return ReportDocumentToS3Operator(
        task_id="move", report_id=report_id, s3_bucket="tests", s3_key="connection/k", aws_conn_id=aws_conn_id
    ).execute({})


def texts(error):
    """All texts that a traceback shows."""
    while error:
        yield f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    "extra",
    [
        {"endpoint_url": "localhost:9000"},
        {"endpoint_url": "http://[::1"},
        {"config_kwargs": {"nonsense": 1}},
        {"config_kwargs": {"retries": {"mode": "nonsense"}}},
        {"config_kwargs": {"request_checksum_calculation": "nonsense"}},
        {"config_kwargs": ["nonsense"]},
        {"region_name": "not a region"},
        {"role_arn": "arn:aws:iam::1:role/x", "assume_role_method": "nonsense"},
    ],
    ids=json.dumps,
)
def test_a_connection_that_makes_no_client_is_named(sandbox, s3, monkeypatch, extra):
    connect(monkeypatch, aws_session_token=TOKEN, **extra)
    with pytest.raises(AmazonBusinessError, match="aws_conn_id 'aws_other'") as caught:
        transfer()
    assert not [text for text in texts(caught.value) if SECRET in text or TOKEN in text]
    assert sandbox.calls == []


def test_a_secret_in_the_wrong_field_is_not_shown(sandbox, s3, monkeypatch):
    connect(monkeypatch, region_name="eu-west-1", endpoint_url=f"localhost:9000/{SECRET}", aws_session_token=TOKEN)
    with pytest.raises(AmazonBusinessError, match="Could not create an S3 client") as caught:
        transfer()
    assert not [text for text in texts(caught.value) if SECRET in text]


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"\t{TOKEN}\r\n x"])
def test_a_token_that_no_header_can_have_is_not_shown(sandbox, s3_server, monkeypatch, token):
    connect(monkeypatch, endpoint_url=s3_server.endpoint_url, region_name="us-east-1", aws_session_token=token)
    sandbox.script(document=RawDocument(b"text", None))
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    with pytest.raises(AmazonBusinessError) as caught:
        transfer(report_id)
    assert not [text for text in texts(caught.value) if TOKEN in text]


@pytest.mark.parametrize("aws_conn_id", ["nobody", "None", "aws_default"])
def test_an_unknown_connection_is_an_error_and_no_other_credentials_are_used(
    sandbox, s3_server, monkeypatch, aws_conn_id
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    with pytest.raises(ConnectionNotFoundError, match=f"There is no connection '{aws_conn_id}'") as caught:
        transfer(aws_conn_id=aws_conn_id)
    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.calls == []


@pytest.mark.parametrize("aws_conn_id", ["", " "])
def test_an_empty_id_is_not_taken_for_none(sandbox, s3, aws_conn_id):
    with pytest.raises(InvalidInputError, match="aws_conn_id is"):
        transfer(aws_conn_id=aws_conn_id)
    assert sandbox.calls == []


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, "No such file"),
        ({"AWS_ENDPOINT_URL": "https://[::1"}, "aws_conn_id None"),
        ({"AWS_DEFAULT_REGION": "not a region"}, "not a region"),
        ({"AWS_PROFILE": "nobody-has-this"}, "nobody-has-this"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_in_boto3s_own_chain(sandbox, s3_server, monkeypatch, environment, message):
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    listener = socket.create_server(("127.0.0.1", 0))
    good = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{listener.getsockname()[1]}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in {**good, **environment}.items():
        monkeypatch.setenv(name, value)
    sandbox.script(document=RawDocument(gzip.compress(b"text"), "GZIP"))
    report_id = AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    with listener, pytest.raises(AmazonBusinessError, match=message) as caught:
        transfer(report_id, aws_conn_id=None)
    assert not [text for text in texts(caught.value) if SECRET in text]
