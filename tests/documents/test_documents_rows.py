"""Lines of text, counted on the way for who asks."""

from __future__ import annotations

import gzip

import pytest

from airflow_provider_amzbiz.documents.upload import PART_SIZE

LINE = b"2026-01-01\tpaper\t3\n"


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"", 0),
        (b"a", 1),
        (b"a\n", 1),
        (b"a\nb", 2),
        (b"\n\n", 2),
        (LINE * 1000, 1000),
        (LINE * (2 * PART_SIZE // len(LINE)), 2 * PART_SIZE // len(LINE)),
        (LINE * (2 * PART_SIZE // len(LINE)) + b"last", 2 * PART_SIZE // len(LINE) + 1),
    ],
    ids=["empty", "no-end", "one", "last-without-end", "blank", "thousand", "parts", "parts-and-last-without-end"],
)
@pytest.mark.parametrize("sha256", [True, False])
def test_lines_are_counted_in_one_part_and_in_many(host, copy, content, rows, sha256):
    host.content = gzip.compress(content, 1)

    (result,) = copy(rows=True, sha256=sha256, content_type="text/plain; charset=UTF-8")

    assert result.rows == rows
    assert "rows" not in result.to_dict()


@pytest.mark.parametrize("kind", ["application/pdf", "application/json", "text/plain; charset=UTF-16LE"])
def test_nothing_is_counted_where_a_byte_tells_no_line(host, copy, kind):
    host.content = LINE

    (result,) = copy(rows=True, content_type=kind)

    assert result.rows is None


def test_nothing_is_counted_unasked(host, copy):
    host.content = LINE

    (result,) = copy(content_type="text/plain")

    assert result.rows is None
