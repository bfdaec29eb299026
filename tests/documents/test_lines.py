"""Lines of text, counted on the way for who asks."""

from __future__ import annotations

import codecs
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.documents.lines import LineCounter
from airflow_provider_amzbiz.documents.upload import PART_SIZE
from tests.fuzzing import bounded

LINE = b"2026-01-01\tpaper\t3\n"


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"", 0),
        (b"a", 1),
        (b"a\n", 1),
        (b"a\nb", 2),
        (b"\n\n", 2),
        (b"a\rb\rc", 3),
        (b"a\rb\r", 2),
        (b"a\r\nb\r\n", 2),
        (b"a\n\rb\r\r\n", 4),
        (codecs.BOM_UTF8, 0),
        (codecs.BOM_UTF16_LE, 0),
        *(
            (("\ufeff" + text).encode(codec), rows)
            for codec in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
            for text, rows in (("a\nb", 2), ("a\r\nb\r\n", 2), ("\u0a0a\r\u0d0d", 2))
        ),
        (LINE * 1000, 1000),
        (LINE * (2 * PART_SIZE // len(LINE)), 2 * PART_SIZE // len(LINE)),
        (LINE * (2 * PART_SIZE // len(LINE)) + b"last", 2 * PART_SIZE // len(LINE) + 1),
    ],
    ids=lambda _: "",
)
@pytest.mark.parametrize("sha256", [True, False])
def test_lines_are_counted_in_one_part_and_in_many(host, copy, content, rows, sha256):
    host.content = gzip.compress(content, 1)

    (result,) = copy(rows=True, sha256=sha256, content_type="text/plain; charset=UTF-8")

    assert result.rows == rows
    assert "rows" not in result.to_dict()


@pytest.mark.parametrize("kind", ["application/pdf", "application/json", "text/plain; charset=UTF-16LE"])
def test_nothing_is_counted_in_what_has_no_lines(host, copy, kind):
    host.content = LINE

    (result,) = copy(rows=True, content_type=kind)

    assert result.rows is None


def test_nothing_is_counted_unasked(host, copy):
    host.content = LINE

    (result,) = copy(content_type="text/plain")

    assert result.rows is None


@bounded(300)
@given(
    pieces=st.lists(st.text("a\r\n\u0a0d\u0d0a", max_size=5), max_size=8),
    codec=st.sampled_from(["cp1252", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]),
)
def test_any_ends_in_any_blocks_are_counted_as_python_does(pieces, codec):
    mark = "" if codec in ("cp1252", "utf-8") else "\ufeff"
    pieces = [
        piece.replace("\u0a0d", "").replace("\u0d0a", "") if codec == "cp1252" else piece for piece in pieces
    ]
    counter = LineCounter()
    # The mark comes with the first piece, as parts of S3 are longer than that.
    for piece in [mark + "".join(pieces[:1]), *pieces[1:]]:
        counter.update(bytearray(piece.encode(codec)))
    assert counter.count == len(list(io.StringIO("".join(pieces), newline=None)))
