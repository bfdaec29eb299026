"""The way of raw bytes: broken connections, expired URLs, changed documents, and what must not be asked at all."""

from __future__ import annotations

import logging
import random
import socket
import traceback

import pytest

from airflow_provider_amzbiz.documents import download
from airflow_provider_amzbiz.documents.errors import (
    DocumentDownloadError,
    DocumentError,
    UnsupportedDocumentError,
)
from airflow_provider_amzbiz.documents.text import read_head
from tests.documents.scripted_server import EXPIRED_URL, SECRET, Document, Response, serve_gzip

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20
LARGE = random.Random(7).randbytes(3 * 1024 * 1024)


class TestRequest:
    def test_is_bare(self, host, copy, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password something\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        host.content = TEXT
        copy()
        (request,) = host.requests
        assert request["Accept-Encoding"] == "identity"
        assert not {"authorization", "cookie", "x-amz-access-token"} & {name.lower() for name in request}

    def test_sends_the_url_byte_by_byte(self, host, copy):
        host.content = TEXT
        copy()
        assert host.fetch().url.endswith(host.requests[0]["path"].rpartition(SECRET)[0] + SECRET + "2")

    def test_url_is_requested_once(self, host, copy):
        serve_gzip(host, LARGE)
        host.responses.extend([Response(cut=1000), Response(cut=5000)])
        copy()
        assert host.urls_given == 1

    def test_errors_of_the_fetch_pass_through(self, host, copy):
        def fetch():
            raise ConnectionError("the API is away")

        with pytest.raises(ConnectionError, match="the API is away"):
            copy(fetch_document=fetch)
        assert host.requests == []

    @pytest.mark.parametrize("status", [301, 302, 307])
    def test_redirect_is_refused(self, host, copy, nothing_left, status):
        host.content = TEXT
        host.responses.append(Response(status=status, headers={"Location": host.fetch().url}))
        with pytest.raises(DocumentError, match=str(status)):
            copy()
        assert len(host.requests) == 1
        nothing_left()


class TestResume:
    def test_after_a_cut_at_every_byte(self, host, copy, stored):
        serve_gzip(host, TEXT)
        for offset in range(len(host.content)):
            host.responses.append(Response(cut=offset))
            copy(key=lambda _, offset=offset: f"cut-{offset:03}")
        contents = stored()
        assert len(contents) == len(host.content)
        assert set(contents.values()) == {TEXT}

    @pytest.mark.parametrize("announced", ["GZIP", None])
    def test_after_seven_cuts(self, host, copy, stored, announced):
        if announced:
            serve_gzip(host, LARGE)
        else:
            host.content = LARGE
        host.responses.extend(Response(cut=300_000 + 7 * n) for n in range(7))
        copy()
        assert stored() == {"document": LARGE}
        ranges = [int(each["Range"][6:-1]) for each in host.requests[1:]]
        assert ranges == [sum(300_000 + 7 * n for n in range(upto + 1)) for upto in range(7)]
        assert {each["If-Match"] for each in host.requests[1:]} == {host.etag}

    def test_after_a_stall(self, host, copy, stored, monkeypatch):
        monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.2))
        serve_gzip(host, TEXT)
        host.responses.extend([Response(stall=0), Response(stall=30)])
        copy()
        assert stored() == {"document": TEXT}

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_after_a_passing_error(self, host, copy, stored, status):
        serve_gzip(host, TEXT)
        host.responses.extend([Response(status=status, body=b"<Error><Code>SlowDown</Code></Error>")] * 3)
        copy()
        assert stored() == {"document": TEXT}

    def test_with_a_host_that_ignores_ranges(self, host, copy, stored):
        host.content = LARGE
        host.responses.extend([Response(cut=1_000_000), Response(ignore_range=True, cut=2_000_000)])
        host.responses.append(Response(ignore_range=True))
        copy()
        assert stored() == {"document": LARGE}

    def test_of_a_chunked_body(self, host, copy, stored):
        host.content = LARGE
        host.responses.append(Response(chunked=True, cut=1_000_000))
        copy()
        assert stored() == {"document": LARGE}

    def test_gives_up_without_progress(self, host, copy, nothing_left):
        serve_gzip(host, LARGE)
        host.responses.append(Response(cut=1000))
        host.always = Response(cut=0)
        with pytest.raises(DocumentDownloadError, match="1000"):
            copy()
        assert 3 <= len(host.requests) <= 12
        nothing_left()

    def test_never_gives_up_while_bytes_come(self, host, copy, stored):
        serve_gzip(host, TEXT)
        host.always = Response(cut=3)
        copy()
        assert stored() == {"document": TEXT}

    def test_wrong_range_is_refused(self, host, copy, nothing_left):
        host.content = LARGE
        host.responses.append(Response(cut=1000))
        host.always = Response(headers={"Content-Range": f"bytes 999-{len(LARGE) - 1}/{len(LARGE)}"})
        with pytest.raises(DocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("status", [404, 405])
    def test_no_retry_where_it_cannot_help(self, host, copy, nothing_left, status):
        host.always = Response(status=status, body=b"<Error><Code>NoSuchKey</Code></Error>")
        with pytest.raises(DocumentDownloadError, match=str(status)):
            copy()
        assert len(host.requests) == 1
        nothing_left()

    def test_a_rest_that_ends_too_early_is_requested_again(self, host, copy, stored):
        """As from a proxy that announces no more than it has."""
        host.content = LARGE
        host.responses.extend([Response(cut=1_000_000), Response(body=LARGE[1_000_000:1_500_000])])
        copy()
        assert stored() == {"document": LARGE}
        assert host.requests[-1]["Range"] == "bytes=1500000-"


class TestLength:
    @pytest.mark.parametrize("cut", [40, None])
    @pytest.mark.parametrize("packed", [True, False])
    def test_is_needed(self, host, copy, nothing_left, cut, packed):
        if packed:
            # Its end shows, but that of its first member would, too.
            serve_gzip(host, TEXT)
        else:
            host.content = TEXT
        host.always = Response(headers={"Content-Length": None}, cut=cut)
        with pytest.raises(DocumentError):
            copy()
        nothing_left()

    def test_chunks_are_as_good(self, host, copy, stored):
        host.content = TEXT
        host.always = Response(chunked=True)
        copy()
        assert stored() == {"document": TEXT}

    @pytest.mark.parametrize("encoding", ["gzip", "identity", "br", "aws-chunked"])
    def test_the_content_encoding_of_a_gzip_does_not_matter(self, host, copy, stored, encoding):
        serve_gzip(host, TEXT)
        host.always = Response(headers={"Content-Encoding": encoding})
        copy()
        assert stored() == {"document": TEXT}


class TestContentEncoding:
    """A host that compresses the document although it was asked not to, such as a proxy."""

    @pytest.mark.parametrize("unpack", ["auto", "gzip"])
    @pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, br", "BR"])
    def test_that_cannot_be_undone_is_an_error(self, host, copy, nothing_left, encoding, unpack):
        host.content = b"\x1b\x0e\x00\xf8compressed"
        host.always = Response(headers={"Content-Encoding": encoding})
        with pytest.raises(UnsupportedDocumentError, match=f"Content-Encoding {encoding!r}"):
            copy(unpack=unpack)
        nothing_left()

    @pytest.mark.parametrize("encoding", ["", "identity", "gzip", "aws-chunked"])
    def test_of_plain_bytes_that_are_not_compressed(self, host, copy, stored, encoding):
        host.content = TEXT
        host.always = Response(headers={"Content-Encoding": encoding})
        copy()
        assert stored() == {"document": TEXT}

    def test_is_kept_on_request(self, host, copy, stored):
        host.content = b"\x1b\x0e\x00\xf8compressed"
        host.always = Response(headers={"Content-Encoding": "br"})
        copy(unpack="none")
        assert stored() == {"document": host.content}

    def test_is_no_reason_of_a_fatal_report(self, host):
        host.content = b"\x1b\x0e\x00\xf8compressed"
        host.always = Response(headers={"Content-Encoding": "br"})
        with pytest.raises(UnsupportedDocumentError, match="Content-Encoding 'br'"):
            read_head(host.fetch, allow_http=True)


class TestSecret:
    """The URL is as good as the document, so it is in no message, traceback, log line or repr."""

    def refused_port(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            return unused.getsockname()[1]

    @pytest.mark.parametrize(
        "case",
        ["refused", "cut", "stall", "expired", "server error", "redirect", "not found", "truncated", "http"],
    )
    def test_stays_secret(self, host, copy, case, caplog, monkeypatch):
        caplog.set_level(logging.DEBUG)
        monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.1))
        serve_gzip(host, TEXT)
        arguments = {}
        if case == "refused":
            url = f"http://127.0.0.1:{self.refused_port()}/a?X-Amz-Signature={SECRET}"
            arguments["fetch_document"] = lambda: Document(url, None)
        elif case == "http":
            arguments["allow_http"] = False
        elif case == "truncated":
            host.content = host.content[:-9]
        else:
            host.always = {
                "cut": Response(cut=0),
                "stall": Response(stall=0),
                "expired": EXPIRED_URL,
                "server error": Response(status=500, body=f"<Error><Code>Oops</Code>{SECRET}</Error>".encode()),
                "redirect": Response(status=302, headers={"Location": host.fetch().url}),
                "not found": Response(status=404, body=f"<Error><Message>{SECRET}</Message></Error>".encode()),
            }[case]
        with pytest.raises(DocumentError) as caught:
            copy(**arguments)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in caplog.text
        error = caught.value
        while error is not None:
            assert SECRET not in f"{error} {error!r} {error.args}"
            error = error.__cause__ or error.__context__

    def test_of_a_good_transfer_stays_secret(self, host, copy, caplog):
        caplog.set_level(logging.DEBUG)
        serve_gzip(host, LARGE)
        host.responses.extend([Response(cut=1_000_000), EXPIRED_URL])
        copy()
        assert SECRET not in caplog.text
