"""The one HTTP session for documents: nothing of one request reaches the next."""

from __future__ import annotations

import multiprocessing
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentError
from airflow_provider_amzbiz.documents.session import document_session
from dev.certificate import write_certificate
from tests.documents.raw_host import (
    CHUNKED,
    LENGTH,
    TEXT,
    RawHost,
    response,
)
from tests.documents.scripted_server import Document


class Host:
    """Sends a document with a cookie; keeps the headers and the client's address of each request."""

    def __init__(self):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                seen.append((self.client_address, {name.lower() for name in self.headers}))
                body = self.path.encode() * 100
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Set-Cookie", "session=1; Path=/")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def fetch(self, name="x"):
        return Document(f"http://127.0.0.1:{self._server.server_address[1]}/{name}?X-Amz-Signature=1", None)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def plain_host():
    running = Host()
    yield running
    running.stop()


def test_documents_share_no_connection_no_cookie_and_no_credentials(plain_host, copy, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for number in range(3):
        copy(fetch_document=plain_host.fetch, key=lambda _, number=number: f"document-{number}")
    # What a host has sent too much on one connection must not become the beginning of the next document.
    assert len({address for address, _ in plain_host.seen}) == 3
    assert not {"cookie", "authorization"} & set.union(*(headers for _, headers in plain_host.seen))


def test_documents_that_are_moved_side_by_side_are_not_mixed_up(plain_host, copy, stored):
    names = [f"name-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        moves = [
            pool.submit(copy, fetch_document=partial(plain_host.fetch, name), key=lambda _, name=name: name)
            for name in names
        ]
        for each in moves:
            each.result()
    assert stored() == {name: f"/{name}?X-Amz-Signature=1".encode() * 100 for name in names}


def _tell_headers(queue):
    queue.put(dict(document_session().headers))


def test_a_forked_process_has_a_session_of_its_own():
    mine = document_session()
    assert document_session() is mine
    mine.headers["X-Parent"] = "yes"
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    process = fork.Process(target=_tell_headers, args=(queue,))
    process.start()
    told = queue.get()
    process.join()
    del mine.headers["X-Parent"]
    assert "X-Parent" not in told


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


def test_no_cookie_is_kept(transferred):
    with RawHost(
        response(503, Set_Cookie="a=b", Content_Length=0), response(200, TEXT, Content_Length=LENGTH)
    ) as raw:
        assert transferred(raw) == TEXT
        assert "cookie" not in raw.requests[-1]


def test_the_body_of_a_redirect_is_not_read(transferred):
    def endless(_):
        yield response(302, Location="http://127.0.0.1:1/", **CHUNKED)
        while True:
            yield b"10000\r\n" + bytes(0x10000) + b"\r\n"

    with RawHost(endless) as raw:
        assert "redirects are not followed" in str(transferred(raw))
