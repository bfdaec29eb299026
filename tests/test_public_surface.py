"""The public interface is the recorded one: a user's DAG depends on each name, parameter, default and type."""

from __future__ import annotations

import difflib
import re

import airflow
import pytest
from packaging.version import Version

from tests.public_surface import API_PAGES, RECORD, describe


# Retry policies are a part of it.
@pytest.mark.skipif(Version(airflow.__version__) < Version("3.3"), reason="It is recorded on Airflow 3.3")
def test_the_public_interface_is_the_recorded_one():
    recorded, found = RECORD.read_text().splitlines(), describe().splitlines()

    changed = list(difflib.unified_diff(recorded, found, "recorded", "found", lineterm="", n=20))
    assert changed == [], "\n".join(
        [
            "If this change is intended, run `python -m tests.public_surface`, and tell it in the changelog.",
            *changed,
        ]
    )


# What docs/authoring.rst explains under "Names and defaults that may surprise".
DIFFERENT_DEFAULTS = {"timeout", "deferrable", "on_cancelled"}


def test_siblings_have_the_same_defaults_or_the_page_says_why():
    page = (API_PAGES.parent / "authoring.rst").read_text()
    section = page[page.index("Names and defaults that may surprise") : page.index("Time windows")]
    found: dict[str, set[str]] = {}
    for block in RECORD.read_text().split("\n\n"):
        head, *lines = block.splitlines()
        if re.search(r"\.(operators|sensors|transfers|task_groups)\.", head):
            for name, default in re.findall(r"^    (\w+): .* = (.*)$", "\n".join(lines), re.MULTILINE):
                found.setdefault(name, set()).add(default)

    different = {name for name, defaults in found.items() if len(defaults) > 1}

    # A key may be required by one operator, and None by default in another, which needs only one of two.
    assert different == DIFFERENT_DEFAULTS
    assert [name for name in different if f"``{name}``" not in section] == []
    assert len(found) > 20
