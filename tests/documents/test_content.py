"""What a document is: its bytes decide, then its host or its archive."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import subprocess
import sys
import zlib

import pyarrow as pa
import pytest
from pyarrow import orc, parquet

from airflow_provider_amzbiz.documents.content import UNKNOWN, file_type, is_text
from tests.documents.samples import zipped
from tests.documents.scripted_server import Response

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40


WESTERN = "Bestellung\tBetrag\nMüller „Büro“\t1.200 €\n"


PACKED = gzip.compress(WESTERN.encode("cp1252") * 50)


ROWS = pa.table({"number": [f"112-{each}" for each in range(900)], "item": ["paper"] * 900})


def written(write, rows, compression):
    """Return a table in a file format."""
    file = io.BytesIO()
    write(rows, file, compression=compression)
    return file.getvalue()


BINARIES = {
    "gzip": PACKED,
    "zip": zipped(*{"a.txt": b"a" * 100}.items()),
    "pdf": b"%PDF-1.7\n\xff\x81" + b"a" * 5000,
    "pdf with something before": b"\r\n\xef\xbb\xbf%PDF-1.4\n\xff\x81",
    "old office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"a" * 600,
    "png": b"\x89PNG\r\n\x1a\n" + b"a" * 50,
    **{f"zlib, level {level}": zlib.compress(TEXT * 100, level) for level in (0, 1, 5, 6, 9)},
    "zlib, small": zlib.compress(b"abc" * 100),
    "zlib, small and stored": zlib.compress(TEXT, 0),
    "zlib of nothing": zlib.compress(b""),
    "bzip2": bz2.compress(TEXT * 1000),
    "bzip2, small": bz2.compress(b"abc"),
    "bzip2 of nothing": bz2.compress(b""),
    "gif": b"GIF89a" + bytes.fromhex("01000100800100ffffff0000002c000000000100010000020244013b"),
    # Without compression, more of it is text.
    "parquet": written(parquet.write_table, ROWS, "none"),
    "parquet, packed": written(parquet.write_table, ROWS, "zstd"),
    "parquet, small": written(parquet.write_table, ROWS.slice(0, 1), "none"),
    "orc": written(orc.write_table, ROWS, "uncompressed"),
    "orc, packed": written(orc.write_table, ROWS, "zlib"),
    "orc, small": written(orc.write_table, ROWS.slice(0, 1), "uncompressed"),
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


@pytest.mark.parametrize(
    "text",
    [
        "ORCID;Name\r\n0000;Müller\r\n",
        "ORC",
        "PAR1,PAR2\nü,1\n",
        "BZhaus,Straße\n",
        "BZh9,Straße\n",
        "GIF87a;GIF89a\nü;1\n",
        "GIF89a;" * 1000,
        "xœuvre;Betrag\n",
        "xœuvre;Betrag\n" * 1000,
        "xÚ;Betrag\n" * 1000,
        "x^2;Größe\n",
        "x^",
    ],
    ids=lambda text: f"{text[:6].strip()}, {len(text)}",
)
@pytest.mark.parametrize("zipped_as", [None, "a.csv"])
def test_text_that_begins_like_a_binary_is_text(host, copy, stored, text, zipped_as):
    content = text.encode("cp1252")
    host.content = zipped((zipped_as, content)) if zipped_as else content
    host.always = Response(headers={"Content-Type": "text/csv"})

    (kept,) = copy()
    assert (kept.content_type, list(stored().values())) == ("text/csv", [content])

    (result,) = copy(encoding="Cp1252", rows=True)
    assert list(stored().values()) == [text.encode()]
    assert result.content_type == "text/csv; charset=UTF-8"
    assert result.rows is not None


@pytest.mark.parametrize("announced", ["application/vnd.ms-excel", "application/x-download", "text/csv", None])
def test_encoding_makes_text_of_what_looks_like_it_whatever_is_declared(host, copy, stored, announced):
    host.content = WESTERN.encode("cp1252")
    host.always = Response(headers={"Content-Type": announced})

    (result,) = copy(encoding="Cp1252")

    assert stored() == {"document": WESTERN.encode()}
    assert result.content_type == f"{'text/csv' if announced == 'text/csv' else 'text/plain'}; charset=UTF-8"


def test_without_encoding_the_declared_type_stays(host, copy, stored):
    host.content = WESTERN.encode("cp1252")
    host.always = Response(headers={"Content-Type": "application/vnd.ms-excel"})
    (result,) = copy()
    assert stored() == {"document": host.content}
    assert result.content_type == "application/vnd.ms-excel"


@pytest.mark.parametrize("kind", ["old office", "with a NUL"])
def test_what_does_not_look_like_text_keeps_its_declared_type(host, copy, stored, kind):
    host.content = BINARIES[kind]
    host.always = Response(headers={"Content-Type": "application/vnd.ms-excel"})
    (result,) = copy(encoding="Cp1252")
    assert stored() == {"document": host.content}
    assert result.content_type == "application/vnd.ms-excel"


def test_a_charset_is_taken_from_a_type_that_is_not_texts(host, copy, stored):
    host.content = WESTERN.encode("cp1252")
    host.always = Response(headers={"Content-Type": "application/vnd.ms-excel; charset=Cp1252"})
    copy(encoding="declared")
    assert stored() == {"document": WESTERN.encode()}


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("gif", "image/gif"),
        ("parquet", "application/vnd.apache.parquet"),
        ("parquet, small", "application/vnd.apache.parquet"),
        ("bzip2, small", "application/x-bzip2"),
        ("bzip2 of nothing", "application/x-bzip2"),
    ],
)
def test_a_binary_has_the_type_of_its_bytes(host, copy, kind, content_type):
    host.content = BINARIES[kind]
    (result,) = copy()
    assert result.content_type == content_type


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


class TestTypeOfAFile:
    def test_is_the_same_on_each_machine(self, tmp_path):
        types = tmp_path / "mime.types"
        types.write_text("text/plain edi csv log\n")
        code = (
            f"import mimetypes; mimetypes.knownfiles[:] = [{str(types)!r}]; mimetypes.init()\n"
            "from airflow_provider_amzbiz.documents.content import file_type\n"
            "print(*(file_type(b'a,b', name, None) for name in ('a.edi', 'a.csv', 'a.log')))"
        )
        found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert found.stdout.split() == [UNKNOWN, "text/csv", "text/plain"]

    @pytest.mark.parametrize(
        "name",
        [
            *("a.csv", "A.CSV", "d.x/a.tsv", "a.txt", "a.log", "a.json", "a.jsonl", "a.ndjson", "a.xml", "a.md"),
            *("a.html", "a.tar.csv", "a#1.csv", "a?b.csv", "Rechnung:4711#1.csv", "data:x,y.csv"),
        ],
    )
    def test_is_text_by_the_ending_of_its_name(self, name):
        assert is_text(file_type(WESTERN.encode("cp1252"), name, "cp1252"))

    @pytest.mark.parametrize(
        "name",
        ["csv", ".csv", "a", "a.csv.gz", "a.csv.bz2", "a.csv/b", "a.xls", "a.rtf", "a.parquet", "a.svgz"],
    )
    def test_is_not_text_by_another_name(self, name):
        assert not is_text(file_type(WESTERN.encode("cp1252"), name, "cp1252"))

    @pytest.mark.parametrize(("name", "kind"), [("a.xlsx", "spreadsheetml"), ("a.docx", "wordprocessingml")])
    def test_of_an_office_file_is_the_one_of_its_name(self, name, kind):
        assert f"{kind}." in file_type(BINARIES["zip"], name, None)


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
