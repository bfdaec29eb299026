"""The one HTTP session for documents: nothing of one request reaches the next."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_amzbiz.documents.session import document_session
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
