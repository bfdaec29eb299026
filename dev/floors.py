"""Prints the lowest allowed version of each requirement in ``pyproject.toml``, for ``make lowest-constraints``."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

_FLOOR = re.compile(r"([\w.\[\]-]+)>=([\d.]+)")


def main() -> None:
    """Print ``name==version`` of each requirement, those of the extras included."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        found = _FLOOR.match(requirement)
        if found is None:
            raise SystemExit(f"{requirement!r} must have a lowest version, such as 'requests>=2.32.2'")
        print(f"{found[1]}=={found[2]}")


if __name__ == "__main__":
    main()
