"""A connection by TLS that fails: before the request is on its way, and after."""

from __future__ import annotations

import json
import socket
import ssl
import threading

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from dev.certificate import write_certificate


@pytest.fixture
def certificate(tmp_path):
    """A file with a certificate for 127.0.0.1, which is its own authority, and its key."""
    path = tmp_path / "certificate.pem"
    write_certificate(path)
    return path


@pytest.fixture
def api(certificate):
    """An API that reads each request and then speaks no TLS any more; gives its port and what it has read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    read = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as connection:
                        read.append(connection.recv(65536))
                        with socket.socket(fileno=connection.detach()) as bare:
                            bare.sendall(b"This is no TLS, which is an SSLError.")
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], read
        listener.shutdown(socket.SHUT_RDWR)


def client_of(sandbox, port):
    account = ClientConfig(
        sandbox.client_id,
        sandbox.client_secret,
        sandbox.refresh_token,
        f"https://127.0.0.1:{port}",
        sandbox.token_url,
    )
    return ReportsClient(account, retry_for=0)


def test_a_certificate_that_is_not_trusted_is_seen_before_anything_is_sent(sandbox, api):
    port, read = api

    with pytest.raises(errors.UnreachableError):
        client_of(sandbox, port).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    assert read == []


def test_a_connection_that_breaks_after_the_request_leaves_open_what_became_of_it(
    sandbox, api, certificate, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    port, read = api

    with pytest.raises(errors.ResponseLostError, match="may have been created"):
        client_of(sandbox, port).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    assert b"POST /reports" in read[0]
    assert len(read) == 1


class TestMissingBundle:
    """Settings that name a file of certificates which is not there: requests raises a plain OSError."""

    @pytest.fixture(autouse=True)
    def _missing(self, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")

    def test_nothing_was_sent_when_a_report_is_created(self, sandbox, api):
        port, read = api

        with pytest.raises(errors.UnreachableError, match="REQUESTS_CA_BUNDLE"):
            client_of(sandbox, port).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
        assert read == []

    @pytest.fixture
    def hook(self, sandbox, api, monkeypatch):
        """A connection whose token endpoint uses TLS, too."""
        url = f"https://127.0.0.1:{api[0]}"
        connection = {**sandbox.connection, "host": url}
        connection["extra"] = {**connection["extra"], "token_url": f"{url}/token"}
        monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(connection))
        return AmazonBusinessHook(retry_for=0)

    def test_a_hook_raises_an_error_of_ours(self, hook):
        with pytest.raises(AmazonBusinessError, match="REQUESTS_CA_BUNDLE"):
            hook.get_report("1")

    def test_the_test_of_the_connection_names_the_cause(self, hook):
        works, message = hook.test_connection()
        assert not works
        assert "REQUESTS_CA_BUNDLE" in message
