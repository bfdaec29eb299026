"""A ZIP is whole, or it is an error: nothing hidden, nothing lost, whatever byte is wrong."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.archive import Archive, distinct
from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentError,
    DocumentTooLargeError,
    UnsupportedDocumentError,
)
from tests.fuzzing import bounded

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 4
CSV = b"a,b\n1,2\n" * 40
MIB = 1024 * 1024
FLAG_DESCRIPTOR = 8
# In an end record that leaves its figures to the larger one.
PLACEHOLDERS = {"entries": 0xFFFF, "size": 2**32 - 1, "start": 2**32 - 1}


def entry(name, content, *, flags=0, method=8, descriptor=None, extra=b"", attributes=0, **local):
    """Describe an entry; ``local`` are values in which the record before the file differs from the list."""
    return {
        "name": name if isinstance(name, bytes) else name.encode(),
        "content": content,
        "flags": flags,
        "method": method,
        "descriptor": descriptor,
        "extra": extra,
        "attributes": attributes,
        "local": local,
    }


def local_record(name, flags, method, crc, compressed, size, extra=b""):
    head = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 20, flags, method, 0, 33, crc, compressed, size, len(name), len(extra)
    )
    return head + name + extra


def listed_record(name, flags, method, crc, compressed, size, start, extra=b"", attributes=0):
    fields = (
        20,
        20,
        flags,
        method,
        0,
        33,
        crc,
        compressed,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        attributes,
        start,
    )
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name + extra


def end_record(entries, size, start, comment=b""):
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries, entries, size, start, len(comment)) + comment


def large_end(entries, size, start, at, wrong):
    values = {"entries": entries, "size": size, "start": start, "at": at, "length": 44, **wrong}
    record = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\6\6",
        values["length"], 45, 45, 0, 0, values["entries"], values["entries"], values["size"], values["start"],
    )  # fmt: skip
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, values["at"], 1)


def built(*entries, before=b"", between=b"", after=b"", comment=b"", zip64=None, **end):
    """Build a ZIP by hand, right but for what is asked for."""
    body, listed = before, b""
    for each in entries:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        content = each["content"]
        packed = deflate.compress(content) + deflate.flush() if each["method"] == 8 else content
        known = {"crc": zlib.crc32(content), "compressed": len(packed), "size": len(content)}
        told = {**known, "name": each["name"], "method": each["method"], **each["local"]}
        start = len(body)
        body += local_record(
            told["name"],
            each["flags"],
            told["method"],
            told["crc"],
            told["compressed"],
            told["size"],
            each["extra"],
        )
        body += packed + (each["descriptor"](known) if each["descriptor"] else b"") + between
        sizes = known.values()
        record = (each["name"], each["flags"], each["method"], *sizes, start, each["extra"], each["attributes"])
        listed += listed_record(*record)
    values = {"entries": len(entries), "size": len(listed), "start": len(body), **end}
    large = (
        large_end(len(entries), len(listed), len(body), len(body) + len(listed), zip64)
        if zip64 is not None
        else b""
    )
    return body + listed + large + end_record(**values, comment=comment) + after


def signed(known):
    return b"PK\7\x08" + struct.pack("<3L", *known.values())


def unsigned(known):
    return struct.pack("<3L", *known.values())


def large(known):
    return b"PK\7\x08" + struct.pack("<LQQ", *known.values())


def files(archive):
    contents = Archive(io.BytesIO(archive), 2**40, len(archive)).files()
    return {name: content.readall() for name, content in contents}  # type: ignore[attr-defined]


class TestWhole:
    @pytest.mark.parametrize(
        "archive",
        [
            built(entry("a.pdf", PDF), entry("b.csv", CSV)),
            built(entry("a.pdf", PDF, method=0), entry("b.csv", CSV), comment=b"made by us"),
            built(entry("a.pdf", PDF), entry("b.csv", CSV), zip64={}),
            built(entry("a.pdf", PDF), entry("b.csv", CSV), zip64={}, **PLACEHOLDERS),
            built(entry("a.pdf", PDF), entry("b.csv", CSV), between=bytes(4)),
            *(
                built(*(
                    entry(name, content, flags=FLAG_DESCRIPTOR, descriptor=form, crc=0, compressed=0, size=0)
                    for name, content in (("a.pdf", PDF), ("b.csv", CSV))
                ))
                for form in (signed, unsigned, large)
            ),
        ],
        ids=["plain", "stored", "large end", "only large end", "padded", "described", "without magic", "large"],
    )  # fmt: skip
    def test_is_unpacked(self, host, copy, stored, archive):
        host.content = gzip.compress(archive)
        copy()
        assert stored() == {"files/a.pdf": PDF, "files/b.csv": CSV}

    @pytest.mark.parametrize(
        "archive",
        [
            built(entry("a", PDF), entry("b", CSV), entries=1),
            built(entry("a", PDF), entry("b", CSV), entries=3),
            built(entry("a", PDF), entry("b", CSV), size=47),
            built(entry("a", PDF), start=0),
            built(entry("a", PDF), after=b"x"),
            built(entry("a", PDF), after=bytes(30)),
            built(entry("a", PDF), before=local_record(b"hidden", 0, 0, 0, 0, 0)),
            built(entry("a", PDF), entry("b", CSV), between=local_record(b"hidden", 0, 0, 0, 0, 0)),
            built(entry("a", PDF), between=b"hidden"),
            built(entry("a", PDF) | {"local": {"name": b"b"}}),
            built(entry("a", PDF) | {"local": {"method": 0}}),
            built(entry("a", PDF, crc=1)),
            built(entry("a", PDF, compressed=1)),
            built(entry("a", PDF, size=1)),
            built(entry("a", PDF, flags=FLAG_DESCRIPTOR)),
            built(entry("a", PDF, flags=FLAG_DESCRIPTOR, descriptor=lambda _: b"PK\7\x08" + bytes(12))),
            built(entry("a", PDF), zip64={"entries": 2}),
            built(entry("a", PDF), zip64={"size": 1}),
            built(entry("a", PDF), zip64={"start": 1}),
            built(entry("a", PDF), zip64={"at": 1}),
            built(entry("a", PDF), zip64={"at": 2**64 - 1}),
            built(entry("a", PDF), zip64={"length": 45}),
            built(entry("a", PDF), comment=end_record(0, 0, 0)),
            built(entry("a", PDF), comment=built(entry("b", CSV))),
            built(entry("a/", PDF, attributes=0o100600 << 16)),
        ],
        ids=lambda _: "",
    )
    def test_is_not(self, host, copy, nothing_left, archive):
        host.content = archive
        with pytest.raises(CorruptDocumentError):
            copy()
        nothing_left()

    def test_overlapping_files_are_not(self, host, copy, nothing_left):
        """As in the bomb of Fifield's: one compressed file, listed a thousand times."""
        body = local_record(b"a", 0, 0, zlib.crc32(CSV), len(CSV), len(CSV)) + CSV
        listed = listed_record(b"a", 0, 0, zlib.crc32(CSV), len(CSV), len(CSV), 0) * 2
        host.content = body + listed + end_record(2, len(listed), len(body))
        with pytest.raises(CorruptDocumentError, match="overlap"):
            copy()
        nothing_left()

    def test_a_file_that_the_list_has_lost_is_missed(self, host, copy, nothing_left):
        one, both = built(entry("a", PDF)), built(entry("a", PDF), entry("b", CSV))
        listed = both[both.index(b"PK\1\2") :][:47]
        body = both[: both.index(b"PK\1\2")]
        assert body.startswith(one[: one.index(b"PK\1\2")])
        host.content = body + listed + end_record(1, len(listed), len(body))
        with pytest.raises(CorruptDocumentError, match="belong to none"):
            copy()
        nothing_left()


SMALL = {"1.pdf": b"%PDF-1 one", "2.csv": b"a,b\n1,2\n" * 5}


def small(stream):
    file = io.BytesIO()
    target = io.BufferedRandom(file) if not stream else OneWay(file)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in SMALL.items():
            archive.writestr(name, content)
    target.flush()
    return file.getvalue()


class OneWay(io.RawIOBase):
    """A file that cannot seek, for which zipfile writes data descriptors."""

    def __init__(self, file):
        super().__init__()
        self._file = file

    def writable(self):
        return True

    def write(self, data):
        return self._file.write(data)


@pytest.mark.parametrize("stream", [False, True])
def test_every_value_of_every_byte_is_exact_or_an_error(stream):
    whole = small(stream)
    assert files(whole) == SMALL
    wrong = []
    for at in range(len(whole)):
        for value in range(256):
            changed = whole[:at] + bytes([value]) + whole[at + 1 :]
            try:
                found = files(changed)
            except DocumentError:
                continue
            if found != SMALL:
                wrong.append((at, value, found))
    assert wrong == []


class TestNames:
    @pytest.mark.parametrize(
        ("names", "keys"),
        [
            (["a.pdf", "a.pdf", "a.pdf"], ["a.pdf", "a-2.pdf", "a-3.pdf"]),
            (["a.pdf", "a.pdf", "a-2.pdf"], ["a.pdf", "a-3.pdf", "a-2.pdf"]),
            (["d/a.pdf", "../d/a.pdf", "a.pdf"], ["d/a.pdf", "d/a-2.pdf", "a.pdf"]),
            (["", ""], ["unnamed", "unnamed-2"]),
            (["..", "/"], ["unnamed", "unnamed-2"]),
            (["folder/", "b.csv"], ["folder", "b.csv"]),
            (["Rechnung_Müller.pdf"], ["Rechnung_Müller.pdf"]),
            (["請求書.pdf"], ["請求書.pdf"]),
            ([b"\x81.txt"], ["ü.txt"]),
            (["a\u202egpj.exe", "b\x85c"], ["agpj.exe", "bc"]),
        ],
    )
    def test_become_keys(self, host, copy, stored, names, keys):
        contents = [b"content %d" % number for number, _ in enumerate(names)]
        host.content = built(*map(entry, names, contents))
        copy()
        assert stored() == dict(zip((f"files/{key}" for key in keys), contents, strict=True))

    @pytest.mark.timeout(30)
    def test_thousands_of_equal_ones_take_no_time(self):
        names = ["a.pdf"] * 30_000 + ["a-2.pdf"] * 30_000
        found = distinct(names)
        assert len(set(found)) == len(names)
        assert found[:3] == ["a.pdf", "a-3.pdf", "a-4.pdf"]
        assert found[30_000:30_003] == ["a-2.pdf", "a-2-2.pdf", "a-2-3.pdf"]

    @bounded(300)
    @given(st.lists(st.sampled_from(["a", "a-2", "a-3", "a.pdf", "a-2.pdf", "d/a.pdf"]), max_size=20))
    def test_get_the_first_number_that_is_free(self, names):
        expected: list[str] = []
        for name in names:
            stem, dot, suffix = name.partition(".")
            numbered = (f"{stem}-{number}{dot}{suffix}" for number in range(2, 100))
            free = (each for each in numbered if each not in {*names, *expected})
            expected.append(name if name not in expected else next(free))
        assert distinct(names) == expected

    def test_in_an_extra_field_count(self, host, copy, stored):
        field = b"\x01" + struct.pack("<L", zlib.crc32(b"a.txt")) + "ä.txt".encode()
        host.content = built(entry("a.txt", CSV, extra=struct.pack("<2H", 0x7075, len(field)) + field))
        copy()
        assert stored() == {"files/ä.txt": CSV}


class TestBounds:
    def test_size_and_growth_are_those_of_all_files_together(self, host, copy, nothing_left):
        host.content = gzip.compress(built(*(entry(f"{n}", bytes(20 * MIB)) for n in range(4))), 9)
        with pytest.raises(DocumentTooLargeError, match="bomb"):
            copy()
        nothing_left()

    def test_size_is_checked_before_a_byte_is_decoded(self, host, copy, nothing_left):
        """The sizes in the list must be true, so checking them is enough."""
        host.content = built(entry("a", CSV), entry("b", CSV))
        with pytest.raises(DocumentTooLargeError, match="max_bytes"):
            copy(max_bytes=2 * len(CSV) - 1)
        nothing_left()

    def test_number_of_files(self, host, copy, nothing_left):
        host.content = gzip.compress(built(entry("a", b""), zip64={"entries": 70_000}, entries=0xFFFF))
        with pytest.raises(DocumentTooLargeError, match="70000 entries"):
            copy()
        nothing_left()

    def test_encrypted_and_patched_files_are_not_supported(self, host, copy, nothing_left):
        for flag in (1, 0x20, 0x40, 0x2000):
            host.content = built(entry("a", PDF, flags=flag))
            with pytest.raises(UnsupportedDocumentError):
                copy()
        nothing_left()
