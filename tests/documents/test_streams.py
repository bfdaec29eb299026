"""The limits of decoded content."""

from __future__ import annotations

import gzip

import pytest

from airflow_provider_amzbiz.documents.errors import (
    DocumentTooLargeError,
)
from tests.documents.samples import zipped

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20


MIB = 1024 * 1024


class TestSize:
    @pytest.mark.parametrize("unpack", ["auto", "none"])
    def test_plain_above_the_limit(self, host, copy, nothing_left, unpack):
        host.content = TEXT
        copy(unpack=unpack, max_bytes=len(TEXT), key=lambda _: "fits")
        with pytest.raises(DocumentTooLargeError) as caught:
            copy(unpack=unpack, max_bytes=len(TEXT) - 1)
        assert caught.value.permanent

    def test_gzip_above_the_limit(self, host, copy, nothing_left):
        host.content = gzip.compress(bytes(20 * MIB))
        with pytest.raises(DocumentTooLargeError):
            copy(max_bytes=20 * MIB - 1)
        nothing_left()

    def test_files_together_above_the_limit(self, host, copy, nothing_left):
        host.content = zipped(("a", TEXT), ("b", TEXT), ("c", TEXT))
        with pytest.raises(DocumentTooLargeError):
            copy(max_bytes=3 * len(TEXT) - 1)
        nothing_left()

    def test_bomb(self, host, copy, nothing_left):
        host.content = gzip.compress(zipped(("bomb", bytes(80 * MIB))))
        assert len(host.content) < 10_000
        with pytest.raises(DocumentTooLargeError):
            copy()
        nothing_left()

    def test_one_honest_layer_of_zeros_is_no_bomb(self, host, copy):
        host.content = gzip.compress(bytes(70 * MIB), 9)
        (result,) = copy(sha256=False)
        assert result.bytes == 70 * MIB
