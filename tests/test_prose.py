"""No sentence of the documentation is longer than a reader can hold in mind."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import airflow
import pytest
from packaging.version import Version

from dev import prose
from dev.pages import markdown_files

LONG = " ".join(["word"] * 36)


# The page of the retry policy imports Airflow 3.3.
@pytest.mark.skipif(Version(airflow.__version__) < Version("3.3"), reason="the pages are built with Airflow 3.3")
@pytest.mark.timeout(300)
def test_no_sentence_of_a_page_is_too_long(tmp_path):
    pages = {str(path.relative_to(tmp_path)): ET.parse(path).getroot() for path in prose.build(tmp_path)}

    paragraphs = {name: list(prose.paragraphs_of_page(page)) for name, page in pages.items()}

    assert len(pages) > 40
    assert all(paragraphs.values())
    assert too_long(paragraphs) == []


def test_no_sentence_of_a_markdown_file_is_too_long():
    paragraphs = {path.name: list(prose.paragraphs_of_markdown(path.read_text())) for path in markdown_files()}

    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md"} <= set(paragraphs)
    assert all(paragraphs.values())
    assert too_long(paragraphs) == []


def too_long(paragraphs):
    return [
        f"{page}: {sentence}"
        for page, texts in paragraphs.items()
        for text in texts
        for sentence in prose.too_long(text)
    ]


@pytest.mark.parametrize(
    "text",
    [
        LONG.removesuffix(" word") + ".",
        f"{LONG[:80]}. {LONG[:80]}! {LONG[:80]}? {LONG[:80]}",
        f'{LONG[:80]} "quoted." {LONG[:80]} {LONG[:40]}',
        LONG.removesuffix(" word") + " - +",
    ],
)
def test_a_sentence_of_35_words_is_not_too_long(text):
    assert prose.too_long(text) == []


@pytest.mark.parametrize(
    "text", [LONG, f"Short. {LONG}. Short.", LONG.replace("word word", "word, e.g. word;", 1)]
)
def test_a_sentence_of_36_words_is_too_long(text):
    assert len(prose.too_long(text)) == 1


def test_only_what_is_read_as_prose_is_counted_on_a_page():
    page = ET.fromstring(
        f"""
        <document><section><title>Title</title>
          <paragraph>A <literal>b c d</literal> and <emphasis>more
            words</emphasis>.</paragraph>
          <bullet_list><list_item><paragraph>Item</paragraph></list_item></bullet_list>
          <table><entry><paragraph>{LONG}</paragraph></entry></table>
          <literal_block>{LONG}</literal_block>
          <note><paragraph>Note</paragraph></note>
        </section></document>
        """
    )

    texts = [" ".join(each.split()) for each in prose.paragraphs_of_page(page)]

    assert texts == ["Title", "A literal and more words.", "Item", "Note"]


def test_only_what_is_read_as_prose_is_counted_in_markdown():
    text = (
        f"# Title\n\nA `b c d` and\n[a *link*](to.md).\n\n- item\n\n| a |\n|---|\n| {LONG} |\n\n```\n{LONG}\n```\n"
    )

    assert list(prose.paragraphs_of_markdown(text)) == ["Title", "A literal and a link.", "item"]
