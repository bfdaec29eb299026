"""What a document is: its bytes decide, then its host or its archive."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from tests.documents.samples import zipped
from tests.documents.scripted_server import Response

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40


WESTERN = "Bestellung\tBetrag\nMüller „Büro“\t1.200 €\n"


PACKED = gzip.compress(WESTERN.encode("cp1252") * 50)


BINARIES = {
    "gzip": PACKED,
    "zip": zipped(*{"a.txt": b"a" * 100}.items()),
    "pdf": b"%PDF-1.7\n\xff\x81" + b"a" * 5000,
    "pdf with something before": b"\r\n\xef\xbb\xbf%PDF-1.4\n\xff\x81",
    "old office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"a" * 600,
    "png": b"\x89PNG\r\n\x1a\n" + b"a" * 50,
    "zlib": zlib.compress(b"abc" * 100),
    "raw deflate": zlib.compress(random.Random(1).randbytes(3000))[2:],
    "encrypted": random.Random(2).randbytes(3000).replace(b"\0", b"\1"),
    "with a NUL": b"a;b\n" * 500 + b"\0" + b"caf\xe9;b\n" * 500,
}


@pytest.mark.parametrize("announced", ["text/plain; charset=Cp1252", None])
@pytest.mark.parametrize("encoding", ["Cp1252", None])
@pytest.mark.parametrize("kind", BINARIES)
def test_what_is_not_text_stays_whatever_is_declared(host, copy, stored, kind, encoding, announced):
    host.content = BINARIES[kind]
    host.always = Response(headers={"Content-Type": announced})

    (result,) = copy(unpack="none", encoding=encoding)

    assert stored() == {"document": host.content}
    assert not result.content_type.startswith(("text/", "application/json"))


@pytest.mark.parametrize("unpack", ["auto", "gzip"])
def test_what_is_not_text_once_unpacked_stays(host, copy, stored, unpack):
    host.content = gzip.compress(PACKED)
    host.always = Response(headers={"Content-Type": "text/plain; charset=Cp1252"})
    copy(unpack=unpack, encoding="declared")
    assert stored() == {"document": PACKED}


@pytest.mark.parametrize("encoding", ["Cp1252", None])
def test_of_an_archive_only_text_is_converted(host, copy, stored, encoding):
    western = WESTERN.encode("cp1252")
    kept = {
        "b.bin": b"\x81\xff",
        "c.csv": b"%PDF-1.7\x81",
        "d.csv.gz": PACKED,
        "e.csv.gz": western,
        "f.csv": PACKED,
        "g.txt": BINARIES["zip"],
        "h.xlsx": BINARIES["zip"],
        "i.txt": b"\x00\x01\x02",
        "j": western,
    }
    host.content = zipped(*{"a.csv": western, **kept}.items())
    results = copy(encoding=encoding)
    text = WESTERN.encode() if encoding else western
    assert stored() == {"files/a.csv": text, **{f"files/{name}": content for name, content in kept.items()}}
    assert [each.uri[-5:] for each in results if each.content_type.startswith("text/")] == ["a.csv"]


class TestContentType:
    @pytest.mark.parametrize(
        ("content", "downloaded_as", "given", "expected"),
        [
            (PDF, "text/plain", None, "application/pdf"),
            (TEXT, "text/plain; charset=Cp1252", None, "text/plain; charset=Cp1252"),
            (TEXT, None, None, "binary/octet-stream"),
            (TEXT, "application/octet-stream", None, "binary/octet-stream"),
            (TEXT, "text/plain", "text/csv", "text/csv"),
            (PDF, None, "application/x-invoice", "application/x-invoice"),
        ],
    )
    def test_of_a_document(self, host, copy, s3, bucket, content, downloaded_as, given, expected):
        host.content = content
        host.always = Response(headers={"Content-Type": downloaded_as})
        (result,) = copy(content_type=given)
        assert result.content_type == expected
        assert s3.head_object(Bucket=bucket, Key="document")["ContentType"] == expected


@pytest.mark.parametrize(
    "said",
    [
        "text/csv\vx",
        "text/csv; x=" + "a" * 9000,
        "t\u00e9xt/csv",
        "text",
        "text/csv text/plain",
        "a" * 200 + "/b",
        "/",
    ],
)
def test_a_content_type_that_is_none_is_not_sent_to_s3(host, copy, s3, bucket, stored, said):
    host.content = b"a,b\n1,2\n"
    host.always = Response(headers={"Content-Type": said})
    (found,) = copy()
    assert stored() == {"document": host.content}
    there = s3.head_object(Bucket=bucket, Key="document")["ContentType"]
    assert found.content_type == there == "binary/octet-stream"
