"""The public interface is the recorded one: a user's DAG depends on each name, parameter, default and type."""

from __future__ import annotations

import difflib

import airflow
import pytest
from packaging.version import Version

from tests.public_surface import RECORD, describe


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
