"""The results of gzip, ZIP and neither, whole and damaged."""

from __future__ import annotations

import gzip
import logging
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.errors import (
    CorruptDocumentError,
    DocumentError,
    TruncatedDocumentError,
    UnsupportedDocumentError,
)
from tests.documents.samples import zipped
from tests.documents.scripted_server import Response
from tests.fuzzing import bounded

TEXT = b"order\tamount\n" + b"112-1\t19.99\n" * 20
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40
GZIP = gzip.compress(TEXT, mtime=0)
MIB = 1024 * 1024


def patched(archive, offset, value):
    """Set a header field of the only entry, in its local header and in the central directory."""
    data = bytearray(archive)
    central = data.index(b"PK\x01\x02")
    for at in (offset, central + offset + 2):
        data[at : at + 2] = value.to_bytes(2, "little")
    return bytes(data)


class TestGzip:
    @pytest.mark.parametrize("announced", ["GZIP", None])
    @pytest.mark.parametrize("unpack", ["auto", "gzip"])
    def test_is_undone(self, host, copy, stored, unpack, announced):
        host.content, host.compression_algorithm = GZIP, announced
        copy(unpack=unpack)
        assert stored() == {"document": TEXT}

    def test_is_kept(self, host, copy, stored):
        host.content, host.compression_algorithm = GZIP, "GZIP"
        copy(unpack="none")
        assert stored() == {"document": GZIP}

    def test_has_many_members(self, host, copy, stored):
        host.content, host.compression_algorithm = GZIP * 3 + gzip.compress(b"") + GZIP, "GZIP"
        copy()
        assert stored() == {"document": TEXT * 4}

    def test_may_be_padded_with_many_zeros_between_members_too(self, host, copy, stored):
        host.content = GZIP + bytes(MIB) + GZIP + bytes(MIB)
        copy()
        assert stored() == {"document": TEXT + TEXT}

    def test_may_be_padded_with_zeros(self, host, copy, stored):
        host.content, host.compression_algorithm = GZIP + bytes(1000), "GZIP"
        copy()
        assert stored() == {"document": TEXT}

    @pytest.mark.parametrize("rest", [b"x", b"garbage", b"more than a header of garbage", bytes(5) + b"x"])
    def test_followed_by_something_else(self, host, copy, nothing_left, rest):
        host.content, host.compression_algorithm = GZIP + rest, "GZIP"
        with pytest.raises(CorruptDocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("cut", [1, 8, 9, 30, len(GZIP) - 5])
    def test_cut_short(self, host, copy, nothing_left, cut):
        host.content, host.compression_algorithm = GZIP[:-cut], "GZIP"
        with pytest.raises(TruncatedDocumentError):
            copy()
        nothing_left()

    def test_cut_short_in_a_later_member(self, host, copy, nothing_left):
        host.content, host.compression_algorithm = GZIP + GZIP[:-1], "GZIP"
        with pytest.raises(TruncatedDocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("at", [-1, -5, 3 - len(GZIP), 25 - len(GZIP)])
    def test_damaged(self, host, copy, nothing_left, at):
        damaged = bytearray(GZIP)
        damaged[at] ^= 0x55
        host.content, host.compression_algorithm = bytes(damaged), "GZIP"
        with pytest.raises(DocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("at", [-1, -5])
    def test_with_a_wrong_checksum_or_length(self, host, copy, nothing_left, at):
        damaged = bytearray(GZIP)
        damaged[at] ^= 0x55
        host.content = bytes(damaged)
        with pytest.raises(CorruptDocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("content", [b"", b"\x1f"])
    def test_announced_but_hardly_a_byte(self, host, copy, nothing_left, content):
        host.content, host.compression_algorithm = content, "GZIP"
        with pytest.raises(TruncatedDocumentError):
            copy()
        nothing_left()

    def test_announced_but_plain(self, host, copy, stored, caplog):
        caplog.set_level(logging.WARNING)
        host.content, host.compression_algorithm = TEXT, "GZIP"
        copy()
        assert stored() == {"document": TEXT}
        assert "GZIP" in caplog.text

    def test_of_nothing(self, host, copy, stored):
        host.content, host.compression_algorithm = gzip.compress(b""), "GZIP"
        (result,) = copy()
        assert stored() == {"document": b""}
        assert result.bytes == 0


class TestPlain:
    @pytest.mark.parametrize("unpack", ["auto", "gzip", "none"])
    @pytest.mark.parametrize("content", [b"", b"x", TEXT])
    def test_is_kept(self, host, copy, stored, unpack, content):
        host.content = content
        (result,) = copy(unpack=unpack)
        assert stored() == {"document": content}
        assert result.bytes == len(content)


class TestZip:
    def test_in_gzip(self, host, copy, stored):
        host.content, host.compression_algorithm = gzip.compress(zipped(("invoice.pdf", PDF))), "GZIP"
        (result,) = copy()
        assert stored() == {"files/invoice.pdf": PDF}
        assert result.content_type == "application/pdf"

    @pytest.mark.parametrize("unpack", ["gzip", "none"])
    def test_is_kept(self, host, copy, stored, unpack):
        host.content = zipped(("invoice.pdf", PDF))
        copy(unpack=unpack)
        assert stored() == {"document": host.content}

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_of_several_files(self, host, copy, stored, method):
        files = {"one.pdf": PDF, "deep/er/two.pdf": PDF * 2, "lines.csv": TEXT, "empty": b""}
        host.content = zipped(("deep/", b""), *files.items(), method=method)
        results = copy()
        assert stored() == {f"files/{name}": content for name, content in files.items()}
        assert [each.uri.rpartition("files/")[2] for each in results] == list(files)
        assert [each.content_type for each in results][1:3] == ["application/pdf", "text/csv"]

    def test_in_zip_is_kept(self, host, copy, stored):
        inner = zipped(("a", b"a"))
        host.content = zipped(("inner.zip", inner))
        copy()
        assert stored() == {"files/inner.zip": inner}

    @pytest.mark.parametrize(
        "name",
        ["../../evil", "/etc/evil", "..\\..\\evil", "C:\\evil", "C:/evil", "a/../../evil", "./evil", "e\nvil"],
    )
    def test_hostile_names_stay_below(self, host, copy, stored, name):
        host.content = zipped((name, b"x"))
        copy()
        ((key, content),) = stored().items()
        assert content == b"x"
        assert key.startswith("files/")
        assert key.endswith("evil")
        assert not {"..", ".", "", "C:"} & set(key.split("/"))
        assert key.isprintable()
        assert "\\" not in key

    @pytest.mark.parametrize("names", [("a.pdf", "a.pdf"), ("a.pdf", "../a.pdf"), ("..", "...")])
    def test_equal_names_lose_nothing(self, host, copy, stored, nothing_left, names):
        host.content = zipped(*[(name, name.encode() + bytes([n])) for n, name in enumerate(names)])
        try:
            copy()
        except UnsupportedDocumentError:
            nothing_left()
        else:
            assert len(set(stored().values())) == 2

    def test_with_one_key_for_several_files(self, host, copy, nothing_left):
        host.content = zipped(("a.pdf", PDF), ("b.pdf", PDF))
        with pytest.raises(UnsupportedDocumentError, match=r"\{name\}"):
            copy(key=lambda _: "invoice.pdf")
        nothing_left()

    @pytest.mark.parametrize("name", ["{}.pdf", "long" * 500 + "/{}.pdf"], ids=["short", "long"])
    def test_with_one_key_for_many_files_is_a_short_error(self, host, copy, nothing_left, name):
        names = [name.format(number) for number in range(1000)]
        host.content = zipped(*((each, b"x") for each in names))
        with pytest.raises(UnsupportedDocumentError) as caught:
            copy(key=lambda name: "other.pdf" if name == names[0] else "invoice.pdf")
        message = str(caught.value)
        assert message.startswith(f"The document is a ZIP of 1000 files, such as ['{names[0][:100]}")
        assert "several would have the key 'invoice.pdf'; put {name} into the key" in message
        assert len(message) < 600
        nothing_left()

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (zipped(), "(?i)file"),
            (zipped(("folder/", b"")), "(?i)file"),
            (patched(zipped(("a", TEXT)), 6, 1), "(?i)encrypt|password"),
            (patched(zipped(("a", TEXT)), 8, 99), "(?i)compress"),
        ],
        ids=["empty", "folders only", "encrypted", "unknown compression"],
    )
    def test_not_supported(self, host, copy, nothing_left, content, says):
        host.content = content
        with pytest.raises(UnsupportedDocumentError, match=says) as caught:
            copy()
        assert caught.value.permanent
        nothing_left()

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("at", [40, 45, 60, 100, 150])
    def test_damaged_in_the_last_file_stores_none(self, host, copy, nothing_left, method, at):
        good = zipped(("a.pdf", PDF), method=method)
        last = bytearray(zipped(("a.pdf", PDF), ("b.pdf", PDF[::-1]), method=method))
        last[good.index(b"PK\x01\x02") + at] ^= 0xFF
        host.content = bytes(last)
        with pytest.raises(CorruptDocumentError):
            copy()
        nothing_left()

    @pytest.mark.parametrize("keep", [4, 20, 60, -1, -10])
    def test_cut_short(self, host, copy, nothing_left, keep):
        host.content = zipped(("a.pdf", PDF))[:keep]
        with pytest.raises((CorruptDocumentError, TruncatedDocumentError)):
            copy()
        nothing_left()


class TestProperties:
    @bounded(40)
    @given(
        members=st.lists(st.binary(max_size=2000), min_size=1, max_size=5),
        cuts=st.lists(st.integers(0, 3000), max_size=4),
        padding=st.integers(0, 20),
    )
    def test_any_members_over_any_connections(self, host, copy, s3, bucket, members, cuts, padding):
        host.content = b"".join(gzip.compress(each) for each in members) + bytes(padding)
        host.compression_algorithm = "GZIP"
        host.responses.clear()
        host.responses.extend(Response(cut=cut) for cut in cuts)
        (result,) = copy(unpack="gzip")
        whole = b"".join(members)
        assert s3.get_object(Bucket=bucket, Key="document")["Body"].read() == whole
        assert result.bytes == len(whole)

    @bounded(40)
    @given(content=st.binary(max_size=3000), data=st.data())
    def test_any_damage_is_an_error_or_harmless(self, host, copy, s3, bucket, content, data):
        whole = gzip.compress(content, mtime=0)
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = bytearray(whole)
        damaged[at] ^= data.draw(st.integers(1, 255))
        host.content, host.compression_algorithm = bytes(damaged), "GZIP"
        try:
            copy(unpack="gzip")
        except DocumentError:
            return
        kept = s3.get_object(Bucket=bucket, Key="document")["Body"].read()
        # Without its magic number it is plain bytes, which are kept; some bytes of its header mean nothing.
        assert kept == (bytes(damaged) if at < 2 else content)
