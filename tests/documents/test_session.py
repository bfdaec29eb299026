"""The one HTTP session for documents: nothing of one request reaches the next."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from airflow_provider_amzbiz.documents.session import document_session
from tests.documents.raw_host import (
    CHUNKED,
    LENGTH,
    TEXT,
    RawHost,
    response,
)


def test_documents_share_no_connection_no_cookie_and_no_credentials(plain_host, copy, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for number in range(3):
        copy(fetch_document=plain_host.fetch, key=lambda _, number=number: f"document-{number}")
    # What a host has sent too much on one connection must not become the beginning of the next document.
    assert len({address for address, _ in plain_host.seen}) == 3
    assert not {"cookie", "authorization"} & set.union(*(headers for _, headers in plain_host.seen))


def test_concurrent_transfers_are_not_mixed_up(plain_host, copy, stored):
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
