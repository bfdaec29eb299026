"""Check the branch coverage against a goal: ``python -m dev.coverage_of_branches PERCENT``.

Branches alone, because the percentage of ``coverage report --fail-under`` mixes them with lines.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Print what is not covered, and fail below the goal."""
    goal = float(sys.argv[1])
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "report", "--show-missing", "--skip-covered"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        subprocess.run([*coverage, "json", "--quiet", "-o", str(path)], check=True)
        totals = json.loads(path.read_text())["totals"]
    taken, there = totals["covered_branches"], totals["num_branches"]
    percent = 100 * taken / there
    print(f"{taken:,} of {there:,} branches: {percent:.1f}%; lines {totals['percent_statements_covered']:.1f}%")
    if percent < goal:
        raise SystemExit(f"less than {goal:g}% of the branches")


if __name__ == "__main__":
    main()
