"""Text in the charsets that documents have been seen in, stored as UTF-8 or refused."""

from __future__ import annotations

import gzip
import io
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.charset import Utf8, codec_of
from airflow_provider_amzbiz.documents.errors import UndecodableDocumentError, UnsupportedDocumentError
from tests.documents.scripted_server import Answer
from tests.fuzzing import bounded

JAPANESE = "注文番号\t金額\r\n髙島屋①\t￥1,200\r\n"
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
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_is_stored_as_utf_8(host, copy, stored, text, codec, encoding, content_type, packed):
    body = text.encode(codec)
    host.content = gzip.compress(body) if packed else body
    host.always = Answer(headers={"Content-Type": content_type})

    (result,) = copy(encoding=encoding)

    assert stored() == {"document": text.encode()}
    assert result.bytes == len(text.encode())
    kind = content_type.split(";")[0] if content_type else "text/plain"
    assert result.content_type == f"{kind}; charset=UTF-8"


def test_without_encoding_bytes_stay(host, copy, stored):
    host.content = WESTERN.encode("cp1252")
    host.always = Answer(headers={"Content-Type": "text/plain; charset=Cp1252"})
    (result,) = copy()
    assert stored() == {"document": WESTERN.encode("cp1252")}
    assert result.content_type == "text/plain; charset=Cp1252"


@pytest.mark.parametrize("at", [0, 10, 300_000, 262_143])
def test_what_does_not_decode_is_named_by_its_byte(host, copy, nothing_left, at):
    host.content = gzip.compress(b"a" * at + b"\x81" + b"b" * 10)
    with pytest.raises(UndecodableDocumentError, match=f"no Cp1252 at byte {at} "):
        copy(encoding="Cp1252")
    nothing_left()


def test_a_character_cut_off_at_the_end(host, copy, nothing_left):
    host.content = JAPANESE.encode("cp932") + b"\x82"
    with pytest.raises(UndecodableDocumentError, match=f"at byte {len(JAPANESE.encode('cp932'))} "):
        copy(encoding="Windows-31J")
    nothing_left()


def test_nothing_declared(host, copy, nothing_left):
    host.content = b"text"
    host.always = Answer(headers={"Content-Type": "text/plain"})
    with pytest.raises(UnsupportedDocumentError, match="declares no charset"):
        copy(encoding="declared")
    nothing_left()


@pytest.mark.parametrize("name", ["klingon", "hex", ""])
def test_unknown_charsets(host, copy, name):
    with pytest.raises(UnsupportedDocumentError, match="no charset"):
        copy(encoding=name)
    assert host.requests == []


def test_a_pdf_stays(host, copy, stored):
    host.content = b"%PDF-1.7\n\xff\x81"
    copy(encoding="Cp1252")
    assert stored() == {"document": host.content}


def test_of_an_archive_only_text_is_touched(host, copy, stored):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", WESTERN.encode("cp1252"))
        archive.writestr("b.bin", b"\x81\xff")
        archive.writestr("c.csv", b"%PDF-1.7\x81")
    host.content = file.getvalue()
    copy(encoding="Cp1252")
    assert stored() == {
        "files/a.csv": WESTERN.encode(),
        "files/b.bin": b"\x81\xff",
        "files/c.csv": b"%PDF-1.7\x81",
    }


@bounded()
@given(
    st.binary(max_size=300), st.sampled_from(["cp932", "utf-8", "utf-16-le", "gb18030", "cp1252"]), st.integers()
)
def test_any_bytes_in_any_chunks_are_what_python_says(content, codec, seed):
    randomness = random.Random(seed)
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


def test_names():
    assert codec_of("Windows-31J") == codec_of("cp932") == "cp932"
