"""Text in the charsets that documents have been seen in, stored as UTF-8 or refused."""

from __future__ import annotations

import codecs
import gzip
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.charset import Utf8
from airflow_provider_amzbiz.documents.errors import UndecodableDocumentError, UnsupportedDocumentError
from tests.documents.samples import zipped
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
    with pytest.raises(UndecodableDocumentError, match=f"not Cp1252 at byte {at} of its decoded content: 81: "):
        copy(encoding="Cp1252")
    nothing_left()


def test_a_character_cut_off_at_the_end(host, copy, nothing_left):
    host.content = JAPANESE.encode("cp932") + b"\x82"
    with pytest.raises(UndecodableDocumentError, match=f"at byte {len(JAPANESE.encode('cp932'))} "):
        copy(encoding="Windows-31J")
    nothing_left()


def test_half_a_surrogate_pair(host, copy, nothing_left):
    host.content = b"a+2AA-b"
    with pytest.raises(UndecodableDocumentError, match=r"not utf-7 before byte 7 .*U\+D800 is half"):
        copy(encoding="utf-7")
    nothing_left()


def test_nothing_declared(host, copy, nothing_left):
    host.content = b"text"
    host.always = Response(headers={"Content-Type": "text/plain"})
    with pytest.raises(UnsupportedDocumentError, match="declares no charset"):
        copy(encoding="declared")
    nothing_left()


def test_a_nul_far_inside_is_an_error(host, copy, nothing_left):
    """The beginning looked like text; what follows shows that it is none."""
    host.content = b"a;b\n" * 100_000 + b"\0"
    with pytest.raises(UndecodableDocumentError, match="byte 400000 of its decoded content is 00"):
        copy(encoding="Cp1252")
    nothing_left()
    copy()


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
    whole = zipped(*OFFICE[kind].items())
    host.content = gzip.compress(whole) if packed else whole
    host.always = Response(headers={"Content-Type": "text/plain; charset=Cp1252"})
    (result,) = copy(encoding=encoding)
    assert stored() == {"document": whole}
    assert result.content_type == kind


def test_an_office_file_in_an_archive_is_kept(host, copy, stored):
    files = {f"{number}.bin": zipped(*files.items()) for number, files in enumerate(OFFICE.values())}
    host.content = zipped(*files.items())
    copy(encoding="Cp1252")
    assert stored() == {f"files/{name}": content for name, content in files.items()}


def test_a_file_of_another_type_called_mimetype_makes_no_document(host, copy, stored):
    host.content = zipped(*{"mimetype": b"something else", "a.csv": b"a"}.items())
    copy()
    assert stored() == {"files/mimetype": b"something else", "files/a.csv": b"a"}


@bounded()
@given(
    st.binary(max_size=300), st.sampled_from(["cp932", "utf-8", "utf-16-le", "gb18030", "cp1252"]), st.integers()
)
def test_any_bytes_in_any_chunks_are_decoded_as_by_python(content, codec, seed):
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
