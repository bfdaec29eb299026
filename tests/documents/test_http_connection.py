"""Interim responses are skipped, whichever pool a connection comes from."""

from __future__ import annotations

import pytest
import urllib3
from urllib3.connectionpool import HTTPConnectionPool

from airflow_provider_amzbiz.documents import download
from airflow_provider_amzbiz.documents.errors import DocumentDownloadError
from airflow_provider_amzbiz.documents.http_connection import skip_interim_responses
from dev.certificate import write_certificate
from tests.documents.raw_host import (
    LENGTH,
    TEXT,
    RawHost,
    part,
    response,
)

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def test_through_a_proxy():
    with RawHost(HINTS + response(200, TEXT, Content_Length=LENGTH)) as proxy:
        manager = urllib3.ProxyManager(proxy.fetch().url)
        skip_interim_responses(manager)
        got = manager.request("GET", "http://documents.invalid/d", retries=False)
    assert (got.status, got.data) == (200, TEXT)


def test_the_pools_of_a_socks_proxy_stay():
    class SocksPool(HTTPConnectionPool):
        pass

    manager = urllib3.PoolManager()
    manager.pool_classes_by_scheme = {"http": SocksPool}
    skip_interim_responses(manager)
    assert manager.pool_classes_by_scheme == {"http": SocksPool}


class TestInterimResponses:
    """A response may be preceded by others with the status 1xx (RFC 9110, 15.2)."""

    HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
    CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

    @pytest.mark.parametrize(
        "interim", [HINTS, PROCESSING, CONTINUE, HINTS * 3, PROCESSING + CONTINUE + HINTS], ids=range(5)
    )
    def test_are_skipped(self, transferred, interim):
        with RawHost(interim + response(200, TEXT, Content_Length=LENGTH)) as raw:
            assert transferred(raw) == TEXT

    def test_are_skipped_before_the_rest(self, transferred):
        with RawHost(
            self.HINTS + response(200, TEXT[:100], Content_Length=LENGTH),
            lambda headers: [self.HINTS, part(headers)],
        ) as raw:
            assert transferred(raw) == TEXT

    def test_over_tls(self, transferred, tmp_path, monkeypatch):
        certificate = tmp_path / "certificate.pem"
        write_certificate(certificate)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with RawHost(self.HINTS + response(200, TEXT, Content_Length=LENGTH), certificate=certificate) as raw:
            assert transferred(raw) == TEXT

    def test_without_end_are_an_error(self, transferred, monkeypatch):
        monkeypatch.setattr(download, "ATTEMPTS", 2)
        with RawHost(self.PROCESSING * 1000) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)
