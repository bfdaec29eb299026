"""The URL of a document: safe to follow, and renewed when its host rejects it."""

from __future__ import annotations

import random

import pytest

from airflow_provider_amzbiz.documents import download
from airflow_provider_amzbiz.documents.errors import (
    DocumentDownloadError,
    DocumentError,
)
from tests.documents.scripted_server import EXPIRED_URL, Document, Response, serve_gzip

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20


LARGE = random.Random(7).randbytes(3 * 1024 * 1024)


class TestSafety:
    """A document's URL may neither lead inside nor be unencrypted."""

    @pytest.mark.parametrize("allow_http", [True, False])
    def test_plain_http_elsewhere_is_refused(self, copy, allow_http):
        with pytest.raises(DocumentError, match=r"(?i)https"):
            copy(
                fetch_document=lambda: Document("http://documents.example/x?X-Amz-Signature=1", None),
                allow_http=allow_http,
            )

    @pytest.mark.parametrize("allow_http", [True, False])
    @pytest.mark.parametrize(
        "address",
        ["10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "[fe80::1]", "[fd00::1]", "0xa9fea9fe", "10.1"],
    )
    def test_an_address_of_a_private_network_is_refused(self, copy, address, allow_http):
        with pytest.raises(DocumentError, match="not on the public internet"):
            copy(
                fetch_document=lambda: Document(f"https://{address}/x?X-Amz-Signature=1", None),
                allow_http=allow_http,
            )

    @pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.localhost"])
    def test_this_machine_is_refused_unless_the_api_is_on_it(self, copy, address):
        with pytest.raises(DocumentError, match="not on the public internet"):
            copy(fetch_document=lambda: Document(f"https://{address}/x?X-Amz-Signature=1", None), allow_http=False)

    @pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "[fd00::1]", "127.0.0.1"])
    def test_the_host_of_the_api_may_serve_documents_by_https(self, copy, monkeypatch, address):
        monkeypatch.setattr(download, "ATTEMPTS", 1)
        monkeypatch.setattr(download, "TIMEOUT", (0.1, 0.1))

        own = address.strip("[]")

        def fetch_from(scheme, api_host=own):
            url = f"{scheme}://{address}:1/x?X-Amz-Signature=1"
            copy(fetch_document=lambda: Document(url, None), allow_http=False, api_host=api_host)

        with pytest.raises(DocumentError, match="broke"):
            fetch_from("https")
        with pytest.raises(DocumentError, match="must be https"):
            fetch_from("http")
        with pytest.raises(DocumentError, match="not on the public internet"):
            fetch_from("https", api_host="10.0.0.2")

    def test_a_name_is_not_refused(self, copy, monkeypatch):
        monkeypatch.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(DocumentError, match="broke"):
            copy(
                fetch_document=lambda: Document("https://documents.invalid/x?X-Amz-Signature=1", None),
                allow_http=False,
            )

    def test_plain_http_here_is_refused_unless_allowed(self, host, copy):
        with pytest.raises(DocumentError, match=r"(?i)https"):
            copy(allow_http=False)
        assert host.requests == []


class TestExpiredUrl:
    def test_at_the_start(self, host, copy, stored):
        serve_gzip(host, TEXT)
        host.responses.append(EXPIRED_URL)
        copy()
        assert stored() == {"document": TEXT}
        assert host.urls_given == 2

    def test_that_credentials_have_signed_which_expired(self, host, copy, stored):
        serve_gzip(host, TEXT)
        host.responses.append(Response(status=400, body=b"<Error><Code>ExpiredToken</Code></Error>"))
        copy()
        assert stored() == {"document": TEXT}
        assert host.urls_given == 2

    def test_in_the_middle(self, host, copy, stored):
        serve_gzip(host, LARGE)
        host.responses.extend([Response(cut=1_234_567), EXPIRED_URL])
        copy()
        assert stored() == {"document": LARGE}
        assert host.urls_given == 2
        assert host.requests[-1]["Range"] == "bytes=1234567-"

    def test_forever(self, host, copy, nothing_left):
        host.always = EXPIRED_URL
        with pytest.raises(DocumentDownloadError, match="403"):
            copy()
        assert 2 <= host.urls_given <= 6
        nothing_left()
