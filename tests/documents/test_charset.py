"""Text in the charsets that documents have been seen in, stored as UTF-8 or refused."""

from __future__ import annotations

import codecs
import gzip
import io
import random
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.charset import Utf8, codec_of
from airflow_provider_amzbiz.documents.errors import UndecodableDocumentError, UnsupportedDocumentError
from tests.documents.scripted_server import Response
from tests.fuzzing import bounded

JAPANESE = "注文番号\t金額\r\n髙島屋①\t￥1,200\r\n"
MARK = "\ufeff"
WESTERN = "Bestellung\tBetrag\nMüller „Büro“\t1.200 €\n"


@pytest.mark.parametrize(
    ("text", "codec", "encoding", "content_type"),
    [
        (WESTERN, "cp1252", "Cp1252", "text/plain; charset=Cp1252"),
        (WESTERN, "cp1252", "declared", "text/plain; charset=Cp1252"),
        (WESTERN, "cp1252", "declared", 'text/tab-separated-values;charset="windows-1252"'),
        (JAPANESE, "cp932", "Windows-31J", "text/plain"),
        (JAPANESE, "cp932", "declared", "text/plain; charset=Windows-31J"),
        ("Müller", "latin-1", "ISO-8859-1", None),
        (WESTERN, "utf-16", "utf-16", "text/csv"),
        ("", "cp932", "cp932", "text/csv"),
        # What the web means by a name, not what the standard of that name has.
        *(
            (JAPANESE, "cp932", label, "text/plain")
            for label in ("Shift_JIS", "shift-jis", "SJIS", "x-sjis", "MS932")
        ),
        (JAPANESE, "cp932", "declared", "text/plain; charset=Shift_JIS"),
        *((WESTERN, "cp1252", label, "text/plain") for label in ("ISO-8859-1", "latin1", "us-ascii", "x-cp1252")),
        (WESTERN, "cp1252", "declared", "text/plain;charset=iso-8859-1"),
        ("싸이 뷁\n", "cp949", "EUC-KR", "text/plain"),
        ("镕·—\n", "gb18030", "gb2312", "text/plain"),
        ("碁€‧\n", "cp950", "Big5", "text/plain"),
        ("“ก”\n", "cp874", "TIS-620", "text/plain"),
        # The web refuses these, lest a page misuses them; a document in them is read.
        ("한국어,1\n", "iso2022_kr", "ISO-2022-KR", "text/plain"),
        ("己所不欲\n", "hz", "declared", "text/plain; charset=hz-gb-2312"),
        ("€ ğ\n", "cp1254", "ISO-8859-9", "text/plain"),
        *((WESTERN, codec, codec, "text/plain") for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
        (WESTERN, "utf-16-le", "utf-16", "text/plain"),
        (WESTERN, "utf-16-le", "declared", "text/plain; charset=unicode"),
        # A byte order mark counts more than any name.
        *(
            (MARK + WESTERN, codec, "Cp1252", "text/plain")
            for codec in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-be")
        ),
        (MARK + WESTERN, "utf-16-be", "utf-16-le", "text/plain"),
        (MARK + WESTERN, "utf-16-be", "declared", "text/plain"),
        (MARK + WESTERN, "utf-8", "utf-8", None),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_is_stored_as_utf_8(host, copy, stored, text, codec, encoding, content_type, packed):
    body = text.encode(codec)
    host.content = gzip.compress(body) if packed else body
    host.always = Response(headers={"Content-Type": content_type})

    (result,) = copy(encoding=encoding)

    text = text.removeprefix(MARK)
    assert stored() == {"document": text.encode()}
    assert result.bytes == len(text.encode())
    kind = content_type.split(";")[0] if content_type else "text/plain"
    assert result.content_type == f"{kind}; charset=UTF-8"


def test_without_encoding_bytes_stay(host, copy, stored):
    host.content = WESTERN.encode("cp1252")
    host.always = Response(headers={"Content-Type": "text/plain; charset=Cp1252"})
    (result,) = copy()
    assert stored() == {"document": WESTERN.encode("cp1252")}
    assert result.content_type == "text/plain; charset=Cp1252"


@pytest.mark.parametrize("at", [0, 10, 300_000, 262_143])
def test_what_does_not_decode_is_named_by_its_byte(host, copy, nothing_left, at):
    host.content = gzip.compress(b"a" * at + b"\x81" + b"b" * 10)
    with pytest.raises(UndecodableDocumentError, match=f"no Cp1252 at byte {at} of its decoded content: 81: "):
        copy(encoding="Cp1252")
    nothing_left()


def test_a_character_cut_off_at_the_end(host, copy, nothing_left):
    host.content = JAPANESE.encode("cp932") + b"\x82"
    with pytest.raises(UndecodableDocumentError, match=f"at byte {len(JAPANESE.encode('cp932'))} "):
        copy(encoding="Windows-31J")
    nothing_left()


def test_half_a_surrogate_pair(host, copy, nothing_left):
    host.content = b"a+2AA-b"
    with pytest.raises(UndecodableDocumentError, match=r"no utf-7 before byte 7 .*U\+D800 is half"):
        copy(encoding="utf-7")
    nothing_left()


def test_nothing_declared(host, copy, nothing_left):
    host.content = b"text"
    host.always = Response(headers={"Content-Type": "text/plain"})
    with pytest.raises(UnsupportedDocumentError, match="declares no charset"):
        copy(encoding="declared")
    nothing_left()


@pytest.mark.parametrize(
    "name", ["klingon", "hex", "", "unicode_escape", "idna", "punycode", "undefined", "x-user-defined",
     "replacement", "iso-2022-cn"],
)  # fmt: skip
def test_unknown_charsets(host, copy, name):
    with pytest.raises(UnsupportedDocumentError, match="no charset"):
        copy(encoding=name)
    assert host.requests == []


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


PACKED = gzip.compress(WESTERN.encode("cp1252") * 50)
BINARIES = {
    "gzip": PACKED,
    "zip": zipped({"a.txt": b"a" * 100}),
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
def test_what_is_no_text_stays_whatever_is_said_of_it(host, copy, stored, kind, encoding, announced):
    host.content = BINARIES[kind]
    host.always = Response(headers={"Content-Type": announced})

    (result,) = copy(unpack="none", encoding=encoding)

    assert stored() == {"document": host.content}
    assert not result.content_type.startswith(("text/", "application/json"))


@pytest.mark.parametrize("unpack", ["auto", "gzip"])
def test_what_is_no_text_after_it_was_unpacked_stays(host, copy, stored, unpack):
    host.content = gzip.compress(PACKED)
    host.always = Response(headers={"Content-Type": "text/plain; charset=Cp1252"})
    copy(unpack=unpack, encoding="declared")
    assert stored() == {"document": PACKED}


def test_a_nul_far_inside_is_an_error(host, copy, nothing_left):
    """The beginning looked like text; what follows shows that it is none."""
    host.content = b"a;b\n" * 100_000 + b"\0"
    with pytest.raises(UndecodableDocumentError, match="byte 400000 of its decoded content is 00"):
        copy(encoding="Cp1252")
    nothing_left()
    copy()


@pytest.mark.parametrize("encoding", ["Cp1252", None])
def test_of_an_archive_only_text_is_touched(host, copy, stored, encoding):
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
    host.content = zipped({"a.csv": western, **kept})
    results = copy(encoding=encoding)
    text = WESTERN.encode() if encoding else western
    assert stored() == {"files/a.csv": text, **{f"files/{name}": content for name, content in kept.items()}}
    assert [each.uri[-5:] for each in results if each.content_type.startswith("text/")] == ["a.csv"]


OFFICE = {
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": {
        "[Content_Types].xml": b"<Types/>",
        "xl/workbook.xml": b"<workbook/>",
    },
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": {
        "word/document.xml": b"<document/>",
        "[Content_Types].xml": b"<Types/>",
    },
    "application/vnd.oasis.opendocument.text": {
        "mimetype": b"application/vnd.oasis.opendocument.text",
        "content.xml": b"<office/>",
    },
}


@pytest.mark.parametrize("encoding", ["Cp1252", None])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", OFFICE)
def test_an_office_file_is_a_document(host, copy, stored, kind, packed, encoding):
    whole = zipped(OFFICE[kind])
    host.content = gzip.compress(whole) if packed else whole
    host.always = Response(headers={"Content-Type": "text/plain; charset=Cp1252"})
    (result,) = copy(encoding=encoding)
    assert stored() == {"document": whole}
    assert result.content_type == kind


def test_an_office_file_in_an_archive_is_kept(host, copy, stored):
    files = {f"{number}.bin": zipped(files) for number, files in enumerate(OFFICE.values())}
    host.content = zipped(files)
    copy(encoding="Cp1252")
    assert stored() == {f"files/{name}": content for name, content in files.items()}


def test_a_file_of_another_type_called_mimetype_makes_no_document(host, copy, stored):
    host.content = zipped({"mimetype": b"something else", "a.csv": b"a"})
    copy()
    assert stored() == {"files/mimetype": b"something else", "files/a.csv": b"a"}


@bounded()
@given(
    st.binary(max_size=300), st.sampled_from(["cp932", "utf-8", "utf-16-le", "gb18030", "cp1252"]), st.integers()
)
def test_any_bytes_in_any_chunks_are_what_python_says(content, codec, seed):
    randomness = random.Random(seed)
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return
    source = io.BytesIO(content)

    class Chunks:
        def readinto(self, buffer):
            return source.readinto(buffer[: randomness.randint(1, 7)])

    try:
        expected = content.decode(codec).encode()
    except UnicodeDecodeError as error:
        with pytest.raises(UndecodableDocumentError, match=f"at byte {error.start} "):
            Utf8(Chunks(), codec).readall()
    else:
        assert Utf8(Chunks(), codec).readall() == expected


def test_big5_has_the_characters_of_eten(host, copy, stored):
    # As the standard's table has them; Python's cp950 reads other ones from these bytes.
    host.content = bytes.fromhex("c6a1 c6cf c6de c6e7 c7a1 c7f2 a440")
    copy(encoding="Big5")
    assert stored()["document"].decode() == "①廴〃ぁゥヶ一"


def test_names():
    assert codec_of("Windows-31J") == codec_of("cp932") == "cp932"
