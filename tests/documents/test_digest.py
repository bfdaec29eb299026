"""Size, checksums and number of lines, against Python's own."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_amzbiz.documents.digest import Digest, to_base64
from tests.documents.samples import crc32

TEXT = b"order\tamount\n" * 100


def digest_of(content, step, **options):
    digest = Digest(**options)
    for start in range(0, len(content), step):
        chunk = content[start : start + step]
        digest.update_crc32(memoryview(chunk))
        digest.update_sha256_and_rows(bytearray(chunk))
    return digest


@pytest.mark.parametrize("step", [1, 7, 5000])
def test_in_chunks_of_any_size(step):
    digest = digest_of(TEXT, step, sha256=True, rows=True)
    assert (digest.count, digest.crc32, digest.rows) == (len(TEXT), crc32(TEXT), 100)
    assert digest.sha256 == hashlib.sha256(TEXT).hexdigest()


def test_sha256_and_rows_are_optional():
    digest = digest_of(TEXT, 100, sha256=False)
    assert (digest.sha256, digest.rows) == (None, None)


def test_a_checksum_with_leading_zeros_has_all_its_bytes():
    assert to_base64(1) == "AAAAAQ=="
