"""The names of charsets, with their meaning on the web."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.documents.charset import codec_of
from airflow_provider_amzbiz.documents.errors import UnsupportedDocumentError


@pytest.mark.parametrize(
    "name", ["klingon", "hex", "", "unicode_escape", "idna", "punycode", "undefined", "x-user-defined",
     "replacement", "iso-2022-cn"],
)  # fmt: skip
def test_unknown_charsets(host, copy, name):
    with pytest.raises(UnsupportedDocumentError, match="not a known charset"):
        copy(encoding=name)
    assert host.requests == []


def test_names():
    assert codec_of("Windows-31J") == codec_of("cp932") == "cp932"
