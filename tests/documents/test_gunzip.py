"""gzip by RFC 1952, with Python's own gzip as the judge: every header, any pieces, any damage."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentError,
    TruncatedDocumentError,
)
from airflow_provider_amzbiz.documents.gunzip import MAX_PADDING, Gunzipped
from airflow_provider_amzbiz.documents.streams import CHUNK
from tests.fuzzing import bounded

FTEXT, FHCRC, FEXTRA, FNAME, FCOMMENT = 1, 2, 4, 8, 16
TEXT = b"order\tline\n" * 500


def member(data, flags=0, *, extra=b"AB\x02\0xy", name=b"report.tsv", comment=b"made by us", level=6):
    """Return a member with all the header fields that the flags announce."""
    head = b"\x1f\x8b\x08" + bytes([flags]) + b"\x01\x02\x03\x04\x00\xff"
    if flags & FEXTRA:
        head += struct.pack("<H", len(extra)) + extra
    if flags & FNAME:
        head += name + b"\0"
    if flags & FCOMMENT:
        head += comment + b"\0"
    if flags & FHCRC:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return head + deflate.compress(data) + deflate.flush() + struct.pack("<II", zlib.crc32(data), len(data))


class Pieces:
    """A stream that gives its bytes in pieces of random sizes."""

    def __init__(self, content, seed, largest):
        self._source = io.BytesIO(content)
        self._random = random.Random(seed)
        self._largest = largest

    def readinto(self, buffer):
        return self._source.readinto(memoryview(buffer)[: self._random.randint(1, self._largest)])


def gunzipped(content, seed=0, largest=2 * CHUNK):
    return Gunzipped(Pieces(content, seed, largest)).readall()


@pytest.mark.parametrize("flags", range(32))
@pytest.mark.parametrize("largest", [1, 2 * CHUNK])
def test_every_header(flags, largest):
    content = member(TEXT, flags) + member(b"", flags) + member(TEXT, flags)
    assert gunzipped(content, largest=largest) == TEXT + TEXT


@pytest.mark.parametrize("flags", [0, FHCRC, FEXTRA | FNAME | FCOMMENT | FHCRC])
@pytest.mark.parametrize("shift", range(0, 60, 3))
def test_a_member_that_begins_where_a_read_ends(host, copy, stored, flags, shift):
    first = random.Random(1).randbytes(CHUNK - shift)
    stored_blocks = member(first, level=0)
    first = first[: len(first) - (len(stored_blocks) - len(first))]
    host.content, host.compression_algorithm = member(first, level=0) + member(TEXT, flags), "GZIP"
    copy()
    assert stored() == {"document": first + TEXT}


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80, 0xE0])
def test_reserved_flags_are_an_error(host, copy, nothing_left, flags):
    host.content, host.compression_algorithm = member(TEXT, flags), "GZIP"
    with pytest.raises(CorruptDocumentError, match="reserved flags"):
        copy()
    nothing_left()


@pytest.mark.parametrize("at", [4, 12, 20, 30])
def test_a_header_with_a_wrong_checksum_is_an_error(host, copy, nothing_left, at):
    damaged = bytearray(member(TEXT, FHCRC | FEXTRA | FNAME | FCOMMENT))
    damaged[at] ^= 1
    host.content, host.compression_algorithm = bytes(damaged), "GZIP"
    with pytest.raises(DocumentError):
        copy()
    nothing_left()


def test_the_checksum_of_a_header_is_verified(host, copy, nothing_left):
    damaged = member(TEXT, FHCRC | FNAME).replace(b"report.tsv", b"report.csv")
    host.content, host.compression_algorithm = damaged, "GZIP"
    with pytest.raises(CorruptDocumentError, match="checksum of a header"):
        copy()
    nothing_left()


@pytest.mark.parametrize("keep", range(2, 40))
def test_cut_within_a_header(host, copy, nothing_left, keep):
    whole = member(TEXT, FHCRC | FEXTRA | FNAME | FCOMMENT)
    host.content, host.compression_algorithm = member(TEXT) + whole[:keep], "GZIP"
    with pytest.raises(TruncatedDocumentError):
        copy()
    nothing_left()


def test_another_method_than_deflate_is_an_error():
    with pytest.raises(CorruptDocumentError, match="1f8b09"):
        gunzipped(b"\x1f\x8b\x09" + member(TEXT)[3:])


def test_a_name_without_end_is_an_error():
    endless = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (2 * 1024**2)
    with pytest.raises(CorruptDocumentError, match="a header has more than"):
        gunzipped(endless)


def test_padding_has_a_bound():
    assert gunzipped(member(TEXT) + bytes(MAX_PADDING)) == TEXT
    with pytest.raises(CorruptDocumentError, match="zeros"):
        gunzipped(member(TEXT) + bytes(MAX_PADDING // 2) + member(b"") + bytes(MAX_PADDING // 2 + 1))


MEMBERS = st.lists(
    st.tuples(
        st.one_of(
            st.just(b""), st.binary(max_size=200), st.binary(min_size=1, max_size=20).map(lambda d: d * 500)
        ),
        st.integers(0, 31),
        st.binary(max_size=300),
        st.binary(max_size=600).map(lambda name: name.replace(b"\0", b"n")),
        st.sampled_from([0, 1, 6, 9]),
        st.sampled_from([0, 0, 0, 1, 700]),
    ),
    min_size=1,
    max_size=5,
)


@bounded(300)
@given(members=MEMBERS, seed=st.integers(), largest=st.sampled_from([1, 2, 7, 100, 5000, 2 * CHUNK]))
def test_any_members_in_any_pieces_are_decoded_as_by_python(members, seed, largest):
    content = b"".join(
        member(data, flags, extra=field, name=name, comment=name[::-1], level=level) + bytes(padding)
        for data, flags, field, name, level, padding in members
    )
    assert gunzipped(content, seed, largest) == gzip.decompress(content)


@bounded(300)
@given(members=MEMBERS, seed=st.integers(), at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_any_damage_is_an_error_or_decoded_as_by_python(members, seed, at, value):
    whole = bytearray(b"".join(member(data, flags, level=level) for data, flags, _, _, level, _ in members))
    whole[at % len(whole)] = value
    try:
        content = gunzipped(bytes(whole), seed)
    except DocumentError:
        return
    assert content == gzip.decompress(bytes(whole))
