"""A request in the background: whoever waits for its bytes can stop at any moment."""

from __future__ import annotations

import random
import threading
import time

import pytest

from airflow_provider_amzbiz.documents import download, http_request, watch
from airflow_provider_amzbiz.documents.errors import DocumentDownloadError
from airflow_provider_amzbiz.documents.text import read_head
from dev.certificate import write_certificate
from tests.documents.raw_host import (
    CHUNKED,
    LENGTH,
    TEXT,
    RawHost,
    chunks,
    dripped,
    response,
)

# Far more than any of these takes, and less than what would be waited for otherwise.
AT_ONCE = 20


class TestStop:
    """A host may be silent for a minute before that is an error, and a pause may take half of one."""

    @pytest.fixture(autouse=True)
    def _long_timeouts(self, monkeypatch):
        monkeypatch.setattr(download, "TIMEOUT", (60.0, 60.0))

    @pytest.mark.parametrize("when", ["before the headers", "within the headers", "in the body", "a pause"])
    def test_is_noticed(self, transferred, monkeypatch, when):
        stop = threading.Event()
        begun = threading.Event()

        def reply(_):
            begun.set()
            whole = response(200, TEXT[:-1], Content_Length=LENGTH)
            if when == "a pause":
                return
            yield whole[: {"before the headers": 0, "within the headers": 30}.get(when, len(whole))]
            yield raw.silent()

        if when == "a pause":
            monkeypatch.setattr(random, "uniform", lambda *_: 60.0)
        with RawHost(reply) as raw:
            threading.Thread(target=lambda: begun.wait() and stop.set(), daemon=True).start()
            started = time.monotonic()
            assert "was stopped" in str(transferred(raw, stopped=stop.is_set))
            assert time.monotonic() - started < AT_ONCE

    def test_a_document_has_a_time_limit(self, transferred, monkeypatch):
        monkeypatch.setattr(watch, "TIME_LIMIT", 1.0)
        with RawHost(lambda _: dripped(response(200, TEXT * 100, Content_Length=100 * LENGTH), 0.01)) as raw:
            assert "longer than the maximum of 1 s" in str(transferred(raw))

    def test_an_error_message_does_not_wait_longer_for_a_reason(self, monkeypatch):
        monkeypatch.setattr("airflow_provider_amzbiz.documents.text._TIME_LIMIT", 1.0)
        drips = dripped(response(200, TEXT * 100, Content_Length=100 * LENGTH), 0.01)
        with (
            RawHost(lambda _: drips) as raw,
            pytest.raises(DocumentDownloadError, match="longer than the maximum of 1 s"),
        ):
            read_head(raw.fetch, allow_http=True)

    def test_leaves_no_thread_behind(self, transferred):
        with RawHost(lambda _: [response(200, TEXT[:-1], Content_Length=LENGTH), raw.silent()]) as raw:
            asked = iter([False] * 8)
            assert "was stopped" in str(transferred(raw, stopped=lambda: next(asked, True)))
        for thread in threading.enumerate():
            if thread.name == http_request.THREAD_NAME:
                thread.join(AT_ONCE)
                assert not thread.is_alive()


class TestTls:
    """A sandbox behind TLS, on this machine."""

    @pytest.fixture
    def certificate(self, tmp_path, monkeypatch):
        path = tmp_path / "certificate.pem"
        write_certificate(path)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        return path

    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_is_read_whole(self, transferred, certificate, framing):
        large = random.Random(1).randbytes(1_000_000)
        body = large if framing == "length" else chunks(large, 70_000) + b"0\r\n\r\n"
        headers = CHUNKED if framing == "chunks" else {"Content_Length": len(large)}
        whole = response(200, body, **headers)

        def rest(headers):
            start = int(headers["range"][6:-1])
            said = f"bytes {start}-{len(large) - 1}/{len(large)}"
            yield response(206, large[start:], Content_Range=said, Content_Length=len(large) - start)

        with RawHost(whole[:600_000], rest, certificate=certificate) as raw:
            assert transferred(raw) == large
            assert len(raw.requests) == 2

    def test_a_stop_is_noticed(self, transferred, certificate, monkeypatch):
        monkeypatch.setattr(download, "TIMEOUT", (60.0, 60.0))
        asked = iter([False] * 4)
        whole = response(200, TEXT[:-1], Content_Length=LENGTH)
        with RawHost(lambda _: [whole, raw.silent()], certificate=certificate) as raw:
            assert "was stopped" in str(transferred(raw, stopped=lambda: next(asked, True)))
