"""Prints the lowest allowed version of each requirement in ``pyproject.toml``, for ``make lowest-constraints``."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

_FLOOR = re.compile(r"([\w.\[\]-]+)>=([\d.]+)")


# It needs Airflow 3, and the floors are those for Airflow 2.11.
_LEFT_OUT = {"demo"}


def floors() -> list[tuple[str, str]]:
    """Return each requirement, those of the extras included, as its name and its lowest version."""
    found = []
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    extras = [each for name, each in project["optional-dependencies"].items() if name not in _LEFT_OUT]
    for requirement in chain(project["dependencies"], *extras):
        floor = _FLOOR.match(requirement)
        if floor is None:
            raise SystemExit(f"{requirement!r} must have a lowest version, such as 'requests>=2.32.2'")
        found.append((floor[1], floor[2]))
    return found


def main() -> None:
    """Print ``name==version`` of each requirement."""
    for name, version in floors():
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
