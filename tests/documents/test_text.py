"""The beginning of a document as text."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentError
from airflow_provider_amzbiz.documents.text import read_head

REASON = '{"errorDetails": "Die Rechnung für 112-1 gibt es nicht."}'


@pytest.mark.parametrize("packed", [True, False])
def test_text(host, packed):
    host.content = gzip.compress(REASON.encode()) if packed else REASON.encode()
    host.compression_algorithm = "GZIP" if packed else None
    assert read_head(host.fetch, limit=2000, allow_http=True) == REASON


def test_defaults(host):
    host.content = b"x" * 5000
    with pytest.raises(DocumentError, match=r"(?i)https"):
        read_head(host.fetch)
    assert read_head(host.fetch, allow_http=True) == "x" * 2000


@pytest.mark.parametrize("limit", [1, 10, 100_000])
def test_limit(host, limit):
    host.content = ("ü" * 50_000).encode()
    assert read_head(host.fetch, limit=limit, allow_http=True) == "ü" * min(limit, 50_000)


def test_of_a_large_document_reads_little(host):
    host.content = gzip.compress(bytes(100_000_000), 1)
    assert read_head(host.fetch, limit=10, allow_http=True) == "\0" * 10


def test_not_utf_8(host):
    host.content = b"caf\xe9"
    assert read_head(host.fetch, limit=10, allow_http=True) in ("caf�", "café")


def test_empty(host):
    assert read_head(host.fetch, limit=10, allow_http=True) == ""


def test_zip(host):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("invoice.pdf", b"%PDF-")
    host.content = gzip.compress(file.getvalue())
    assert "ZIP" in read_head(host.fetch, limit=2000, allow_http=True)
