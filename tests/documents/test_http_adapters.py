"""TLS to document hosts, by the CA bundle of the environment."""

from __future__ import annotations

import ssl

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentError
from dev.certificate import write_certificate
from tests.documents.scripted_server import Document


class TestTls:
    """A CA bundle is read once and not for each document, and yet each is served by whom the bundle trusts."""

    @pytest.fixture
    def secure_host(self, plain_host, tmp_path):
        certificate = tmp_path / "certificate.pem"
        write_certificate(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        plain_host._server.socket = context.wrap_socket(plain_host._server.socket, server_side=True)
        port = plain_host._server.server_address[1]

        def fetch(host="127.0.0.1"):
            return Document(f"https://{host}:{port}/x?X-Amz-Signature=1", None)

        return fetch, certificate

    def test_whom_the_bundle_trusts(self, secure_host, copy, monkeypatch):
        fetch, certificate = secure_host
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        for _ in range(2):
            (stored,) = copy(fetch_document=fetch)
            assert stored.bytes > 0

    @pytest.mark.parametrize("bundle", ["the usual one", "another", "one that has changed"])
    def test_whom_it_does_not_trust(self, secure_host, copy, monkeypatch, tmp_path, nothing_left, bundle):
        fetch, certificate = secure_host
        other = tmp_path / "other.pem"
        write_certificate(other)
        if bundle == "another":
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
        if bundle == "one that has changed":
            changing = tmp_path / "changing.pem"
            changing.write_bytes(certificate.read_bytes())
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(changing))
            copy(fetch_document=fetch, key=lambda _: "before")
            changing.write_bytes(other.read_bytes())
            with pytest.raises(DocumentError):
                copy(fetch_document=fetch)
            return
        with pytest.raises(DocumentError):
            copy(fetch_document=fetch)
        nothing_left()

    def test_a_host_of_another_name(self, secure_host, copy, monkeypatch, nothing_left):
        fetch, certificate = secure_host
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(DocumentError):
            copy(fetch_document=lambda: fetch("localhost"))
        nothing_left()
