"""The project on the documentation's page about testing runs as copied from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "testing.rst"
BLOCK = re.compile(r"^\.\. literalinclude:: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)


@pytest.fixture
def project(tmp_path):
    """The files of the page, under the names in their captions."""
    for source, options in BLOCK.findall(PAGE.read_text()):
        assert set(re.findall(r":(\S+):", options)) == {"language", "caption"}, f"{source} is not shown as a whole"
        [name] = re.findall(r":caption: (\S+)", options)
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text((PAGE.parent / source).read_text())
    return tmp_path


# Airflow creates its database, and dag.test() waits for deferrals of ten seconds.
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_project_of_the_page_passes_its_tests(project):
    ours = ("AIRFLOW", "AWS_", "PYTEST_", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    written = sum(file.read_text().count("def test_") for file in project.glob("tests/test_*.py"))

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert written >= 4
    assert re.search(rf"^{written} passed", run.stdout, re.MULTILINE), run.stdout + run.stderr
