"""Check the relative links and anchors of the Markdown files: ``python -m dev.check_links``.

Sphinx checks those of the documentation.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Code may contain what looks like a link or a heading.
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(markdown: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a text."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> Iterator[str]:
    """Yield the relative links of a Markdown file that lead nowhere."""
    for link in _LINK.findall(_CODE.sub("", path.read_text())):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.is_relative_to(ROOT) or not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            yield f"{link}: there is no such heading"


def main() -> int:
    """Print the broken links; return 1 if there are any."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True
    )
    files = [ROOT / name for name in listed.stdout.decode().splitlines()]
    found = [f"{path.relative_to(ROOT)}: {each}" for path in files for each in broken_links(path)]
    print("\n".join(found) or f"The links of {len(files)} Markdown files lead somewhere")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
