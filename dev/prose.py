"""Find sentences of the documentation that are too long to read in one go.

Sphinx writes each page as XML, docstrings included, and Markdown is parsed as such. So a sentence is what a reader
sees, whatever the line breaks of its source. Tables and code are no prose.
"""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
MAX_WORDS = 35
# Elements of a page whose text is no prose.
_SKIPPED = {"table", "literal_block", "doctest_block", "comment", "desc_signature", "image", "target", "toctree"}
# A literal is one word, whatever it contains.
_LITERAL = "literal"
_WHOLE = {"paragraph", "title", "term", "caption"}
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|No)\.(?=\s)")
_END = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)\]*]*\s+")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a paragraph."""
    for sentence in _END.split(_ABBREVIATION.sub(r"\1", " ".join(text.split()))):
        if sentence:
            yield sentence


def too_long(text: str) -> list[str]:
    """Return the sentences of a paragraph that have more than :data:`MAX_WORDS` words."""
    # A dash, an operator or a bullet between two words is none.
    return [each for each in sentences(text) if len(re.findall(r"\S*\w\S*", each)) > MAX_WORDS]


def build(folder: Path) -> list[Path]:
    """Let Sphinx write each page of the documentation as XML, and return the files."""
    # In a process of its own: Sphinx changes the logging and the warnings of the one that it runs in.
    options = ["--quiet", "--builder", "xml", "--doctree-dir", str(folder / "doctrees")]
    subprocess.run([sys.executable, "-m", "sphinx", *options, "docs", str(folder)], cwd=ROOT, check=True)
    return sorted(folder.rglob("*.xml"))


def paragraphs_of_page(page: ET.Element) -> Iterator[str]:
    """Yield the paragraphs, list items, terms and titles of a page in Sphinx's XML."""
    for element in page:
        if element.tag in _SKIPPED:
            continue
        if element.tag in _WHOLE:
            yield _text(element)
        else:
            yield from paragraphs_of_page(element)


def _text(element: ET.Element) -> str:
    if element.tag == "literal":
        return _LITERAL
    return (element.text or "") + "".join(_text(child) + (child.tail or "") for child in element)


def paragraphs_of_markdown(text: str) -> Iterator[str]:
    """Yield the paragraphs, list items and headings of a Markdown file."""
    in_table = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("table_open", "table_close"):
            in_table = token.type == "table_open"
        elif token.type == "inline" and not in_table:
            kept = ("text", "softbreak", "hardbreak", "code_inline")
            yield "".join(
                _LITERAL if each.type == "code_inline" else each.content or " "
                for each in token.children or ()
                if each.type in kept
            )
