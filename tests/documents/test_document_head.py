"""Each response after the first one confirms what that one said, or is an error."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentDownloadError
from tests.documents.raw_host import (
    CHUNKED,
    LENGTH,
    TEXT,
    WHOLE_IN_CHUNKS,
    RawHost,
    chunks,
    part,
    response,
)


class TestRest:
    FIRST = response(200, chunks(TEXT[:100], 50), **CHUNKED)

    @pytest.mark.parametrize("step", [1, 7, 100, LENGTH])
    def test_of_unknown_total_is_requested_until_there_is_no_more(self, transferred, step):
        def reply(headers):
            start = int(headers["range"][6:-1])
            yield part(headers, start + step, "*")

        with RawHost(response(200, chunks(TEXT[:280], 50), **CHUNKED), reply) as raw:
            assert transferred(raw) == TEXT
            assert raw.requests[-1]["range"] == f"bytes={LENGTH}-"

    def test_all_bytes_came_but_not_the_end_of_the_chunks(self, transferred):
        with RawHost(response(200, chunks(TEXT, 50), **CHUNKED), lambda headers: [part(headers)]) as raw:
            assert transferred(raw) == TEXT

    def test_a_host_that_does_not_send_the_length_is_read_again(self, transferred):
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

    def test_a_206_that_was_not_requested_is_an_error(self, transferred):
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
