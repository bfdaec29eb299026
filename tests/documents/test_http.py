"""HTTP by RFC 9110 and 9112, from hosts that play by the rules and from others: exact bytes, or our error."""

from __future__ import annotations

import random
import threading
import time

import pytest

from airflow_provider_amzbiz.documents import download, http_request, watch
from airflow_provider_amzbiz.documents.errors import DocumentDownloadError, DocumentError
from airflow_provider_amzbiz.documents.text import read_head
from dev.certificate import write_certificate
from tests.documents.raw_host import RawHost, chunks, dripped, response

TEXT = b"".join(b"%d\tpaper\n" % number for number in range(40))
LENGTH = len(TEXT)
CHUNKED = {"Transfer_Encoding": "chunked"}
WHOLE_IN_CHUNKS = response(200, chunks(TEXT, 50) + b"0\r\n\r\n", **CHUNKED)
# Far more than any of these takes, and less than what would be waited for otherwise.
AT_ONCE = 20


def part(headers, end=LENGTH, total: object = LENGTH, **more):
    """Return the right response to a request for a range."""
    start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
    if start >= LENGTH:
        return response(416, Content_Range=f"bytes */{LENGTH}", Content_Length=0)
    body = TEXT[start:end]
    return response(206, body, Content_Range=f"bytes {start}-{start + len(body) - 1}/{total}",
                    Content_Length=len(body), **more)  # fmt: skip


@pytest.fixture(scope="module")
def s3(s3_server):
    """One client for all cases: to make one takes longer than a case."""
    return s3_server.client()


@pytest.fixture(scope="module")
def bucket(s3_server):
    return s3_server.make_bucket("documents-http")


@pytest.fixture
def transferred(copy, s3, bucket, stored, nothing_left):
    """Copy from a raw host; return what was stored, or the error, after which nothing is there."""

    def run(raw, **arguments):
        try:
            copy(fetch_document=raw.fetch, **arguments)
        except DocumentError as error:
            nothing_left()
            return error
        ((key, content),) = stored().items()
        s3.delete_object(Bucket=bucket, Key=key)
        return content

    return run


class TestChunks:
    @pytest.mark.parametrize("cut", range(0, len(WHOLE_IN_CHUNKS), 3))
    def test_cut_anywhere(self, transferred, cut):
        with RawHost(
            WHOLE_IN_CHUNKS[:cut], lambda headers: [part(headers) if "range" in headers else WHOLE_IN_CHUNKS]
        ) as raw:
            assert transferred(raw) == TEXT

    @pytest.mark.parametrize("size", [b"0", b"00", b"0fff"])
    def test_cut_within_a_size_that_looks_like_the_end(self, transferred, size):
        cut = response(200, chunks(TEXT[:100], 50) + size[:2], **CHUNKED)
        with RawHost(cut, lambda headers: [part(headers)]) as raw:
            assert transferred(raw) == TEXT

    @pytest.mark.parametrize(
        "size", [b"-5", b"+5", b"0x5", b"1_0", b"", b"g", b" 5", b"5 5", b"f" * 16, b"5" * 9000]
    )
    def test_a_size_that_is_none(self, transferred, size):
        wrong = response(200, chunks(TEXT[:100], 50) + size + b"\r\n" + TEXT[100:] + b"\r\n0\r\n\r\n", **CHUNKED)
        with RawHost(wrong) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)
        with RawHost(wrong, lambda headers: [part(headers)]) as raw:
            assert transferred(raw) == TEXT

    def test_a_chunk_that_is_longer_than_its_size(self, transferred):
        wrong = response(200, b"5\r\nfirst and more\r\n0\r\n\r\n", **CHUNKED)
        with RawHost(wrong) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)

    def test_extensions_and_trailers(self, transferred):
        body = b"%x;name=value\r\n%b\r\n0\r\nX-Checksum: 1\r\n\r\n" % (LENGTH, TEXT)
        with RawHost(response(200, body, **CHUNKED)) as raw:
            assert transferred(raw) == TEXT

    @pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "chunked, chunked", "chunke"])
    def test_another_coding_is_an_error(self, transferred, coding):
        body = chunks(TEXT, 50) + b"0\r\n\r\n"
        with RawHost(response(200, body, Transfer_Encoding=coding, Content_Length=len(body))) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)

    @pytest.mark.parametrize("wrong", [-50, -10, -1, 1, 10])
    @pytest.mark.parametrize("size", [1, 50, LENGTH])
    def test_and_a_length_that_disagrees(self, transferred, wrong, size):
        body = chunks(TEXT, size) + b"0\r\n\r\n"
        with RawHost(response(200, body, **CHUNKED, Content_Length=LENGTH + wrong)) as raw:
            assert isinstance(transferred(raw), DocumentError)

    @pytest.mark.parametrize("size", [1, 50, LENGTH])
    def test_and_a_length_that_agrees(self, transferred, size):
        body = chunks(TEXT, size) + b"0\r\n\r\n"
        with RawHost(response(200, body, **CHUNKED, Content_Length=LENGTH)) as raw:
            assert transferred(raw) == TEXT

    @pytest.mark.parametrize("more", [b"m", b"more" * 100])
    def test_that_are_longer_than_the_document_was(self, transferred, more):
        """A host without ranges sends another document under the same ETag."""
        longer = response(200, chunks(TEXT, 40) + chunks(more, 40) + b"0\r\n\r\n", **CHUNKED)
        with RawHost(response(200, TEXT[:100], Content_Length=LENGTH), longer) as raw:
            assert isinstance(transferred(raw), DocumentError)


class TestLength:
    @pytest.mark.parametrize(("length", "good"), [
        (LENGTH, True), (f"{LENGTH}, {LENGTH}", True), (f"{LENGTH}, 5", False), (-5, False), (f"+{LENGTH}", False),
        ("4_0", False), ("", False), ("0x10", False), (LENGTH + 1, False), ("9" * 30, False),
    ])  # fmt: skip
    def test_is_what_it_says(self, transferred, length, good):
        with RawHost(response(200, TEXT, Content_Length=length)) as raw:
            found = transferred(raw)
        assert found == TEXT if good else isinstance(found, DocumentError)

    def test_bytes_after_it_are_not_of_the_document(self, transferred):
        with RawHost(response(200, TEXT + b"more", Content_Length=LENGTH)) as raw:
            assert transferred(raw) == TEXT


class TestRest:
    FIRST = response(200, chunks(TEXT[:100], 50), **CHUNKED)

    @pytest.mark.parametrize("step", [1, 7, 100, LENGTH])
    def test_of_unknown_total_is_asked_for_until_there_is_no_more(self, transferred, step):
        def reply(headers):
            start = int(headers["range"][6:-1])
            yield part(headers, start + step, "*")

        with RawHost(response(200, chunks(TEXT[:280], 50), **CHUNKED), reply) as raw:
            assert transferred(raw) == TEXT
            assert raw.requests[-1]["range"] == f"bytes={LENGTH}-"

    def test_all_bytes_came_but_not_the_end_of_the_chunks(self, transferred):
        with RawHost(response(200, chunks(TEXT, 50), **CHUNKED), lambda headers: [part(headers)]) as raw:
            assert transferred(raw) == TEXT

    def test_a_host_that_does_not_say_the_length_is_read_again(self, transferred):
        refused = response(416, Content_Length=0)
        with RawHost(response(200, chunks(TEXT, 50), **CHUNKED), refused, WHOLE_IN_CHUNKS) as raw:
            assert transferred(raw) == TEXT
            assert "range" not in raw.requests[-1]

    @pytest.mark.parametrize("length", [LENGTH - 1, LENGTH + 1, 0])
    def test_a_416_of_another_length_is_another_document(self, transferred, length):
        refused = response(416, Content_Range=f"bytes */{length}", Content_Length=0)
        with RawHost(response(200, chunks(TEXT, 50), **CHUNKED), refused, WHOLE_IN_CHUNKS) as raw:
            assert transferred(raw) == TEXT
            assert "range" not in raw.requests[-1]

    def test_a_416_at_the_start_is_an_error(self, transferred):
        with RawHost(response(416, Content_Range="bytes */0", Content_Length=0)) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)

    def test_a_206_that_was_not_asked_for_is_an_error(self, transferred):
        with RawHost(response(206, TEXT[:100], Content_Range="bytes 0-99/*", Content_Length=100)) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)

    @pytest.mark.parametrize(
        "said",
        [
            "bytes 100-99/*",
            "bytes 99-200/*",
            f"bytes 100-{LENGTH}/{LENGTH}",
            "bytes x-y/z",
            "items 100-200/300",
            "bytes 100-200",
        ],
    )
    def test_a_range_that_is_none_is_an_error(self, transferred, said):
        wrong = response(206, TEXT[100:], Content_Range=said, Content_Length=LENGTH - 100)
        with RawHost(self.FIRST, wrong) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)

    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_more_bytes_than_the_range_has_are_an_error(self, transferred, framing):
        said = f"bytes 100-149/{LENGTH}"
        if framing == "length":
            wrong = response(206, TEXT[100:], Content_Range=said, Content_Length=LENGTH - 100)
        else:
            wrong = response(206, chunks(TEXT[100:], 90) + b"0\r\n\r\n", Content_Range=said, **CHUNKED)
        with RawHost(self.FIRST, wrong) as raw:
            assert isinstance(transferred(raw), DocumentDownloadError)

    def test_a_whole_of_another_length_is_another_document(self, transferred):
        first = response(200, TEXT[:100], Content_Length=LENGTH)
        other = response(200, TEXT[:200], Content_Length=200)
        with RawHost(first, other, response(200, TEXT, Content_Length=LENGTH)) as raw:
            assert transferred(raw) == TEXT


@pytest.mark.parametrize("unpack", ["none", "auto"])
@pytest.mark.parametrize("framing", [CHUNKED, {"Content_Length": LENGTH}])
def test_a_first_response_cut_within_its_headers(transferred, unpack, framing):
    headers = response(200, Content_Type="text/plain", **framing)
    whole = response(200, TEXT, Content_Length=LENGTH)
    for cut in range(0, len(headers) + 1, 2):
        with RawHost(headers[:cut], whole) as raw:
            assert transferred(raw, unpack=unpack, key=lambda _: "document") == TEXT, headers[:cut]


@pytest.mark.parametrize("body", [WHOLE_IN_CHUNKS, response(200, TEXT, Content_Length=LENGTH)])
def test_slow_drips(transferred, body):
    with RawHost(lambda _: dripped(body, 0.001)) as raw:
        assert transferred(raw) == TEXT


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
