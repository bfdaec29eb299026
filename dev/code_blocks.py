"""Find the code blocks of the documentation, for the tests that run them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from dev.pages import DOCS, ROOT, pages

_RST = re.compile(r"^( *)\.\. code-block:: (\w+)\n(?:\1 +:.*\n)*\n((?:\1 +.*\n|\n)+)", re.MULTILINE)
_MARKDOWN = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A paragraph that ends with two colons makes a block without a language.
_UNNAMED = re.compile(r"^(?! *\.\. ).*::$", re.MULTILINE)


@dataclass(frozen=True)
class CodeBlock:
    """A block as a reader copies it."""

    #: The page, such as ``tables/load`` or ``README.md``.
    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0][:40]}"


def code_blocks() -> list[CodeBlock]:
    """Return the blocks that stand in the pages themselves; those of included files are not among them."""
    return [*_ofpages(), *_of_markdown()]


def unnamed_blocks() -> list[str]:
    """Return the lines that begin a block without a language."""
    return [line for page in pages() for line in _UNNAMED.findall(page.read_text())]


def _ofpages() -> Iterator[CodeBlock]:
    for page in pages():
        for _, language, text in _RST.findall(page.read_text()):
            name = str(page.relative_to(DOCS).with_suffix(""))
            yield CodeBlock(name, language, textwrap.dedent(text).strip() + "\n")


def _of_markdown() -> Iterator[CodeBlock]:
    for page in sorted(ROOT.glob("*.md")):
        for language, text in _MARKDOWN.findall(page.read_text()):
            yield CodeBlock(page.name, language, text)


def commands(block: CodeBlock) -> list[str]:
    """Return the commands of a block for a shell, without prompts; continued lines and quotes are joined."""
    lines = re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found: list[str] = []
    for line in lines:
        if found and found[-1].count("'") % 2:
            found[-1] += "\n" + line
        elif line.strip():
            found.append(line)
    return found
