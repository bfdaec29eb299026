"""The body of a response by RFC 9112, from hosts that follow the rules and others: exact bytes, or our error."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentDownloadError, DocumentError
from tests.documents.raw_host import (
    CHUNKED,
    LENGTH,
    TEXT,
    WHOLE_IN_CHUNKS,
    RawHost,
    chunks,
    dripped,
    part,
    response,
)


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
