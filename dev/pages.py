"""The pages that users and contributors read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def pages() -> list[Path]:
    """Return the sources of the documentation's pages."""
    return sorted(page for page in DOCS.rglob("*.rst") if "_build" not in page.parts)


def markdown_files() -> list[Path]:
    """Return the Markdown files, those for the forge included."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")])
