"""Where the package finds Airflow's names."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import airflow
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from airflow_provider_amzbiz import compat
from dev.floors import floors

pytestmark = pytest.mark.main_path

ROOT = Path(__file__).parent.parent
RETRY_POLICY = {"ExceptionRetryPolicy", "RetryRule"}
NAMES = sorted(set(compat.__all__) - (RETRY_POLICY if Version(airflow.__version__) < Version("3.3") else set()))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_compat_provider_each_name_is_the_same(name, monkeypatch):
    with_it = getattr(compat, name)
    monkeypatch.setitem(sys.modules, "airflow.providers.common.compat.sdk", None)

    assert getattr(compat, name) is with_it


def test_a_name_that_this_airflow_does_not_have_is_an_import_error():
    with pytest.raises(ImportError, match="The installed Airflow has no Nothing"):
        compat.find("Nothing", ["airflow", "airflow.nowhere"])


def test_a_name_that_is_not_listed_is_no_attribute():
    assert not hasattr(compat, "DagRun")


def test_the_tests_have_run_with_the_lowest_version_of_each_requirement():
    """The file of the oldest Airflow pins exactly what pyproject.toml promises to work with."""
    pins = (ROOT / "constraints" / "lowest-airflow-2.11.0.txt").read_text().split()
    tested = {name.replace("_", "-"): version for name, _, version in (pin.partition("==") for pin in pins)}

    assert floors()
    for requirement, floor in floors():
        assert Version(tested[Requirement(requirement).name]) == Version(floor), requirement


def test_this_environment_is_within_the_requirements():
    for text in importlib.metadata.requires("airflow-provider-amzbiz"):
        requirement = Requirement(text)
        if requirement.marker is None:
            assert requirement.specifier.contains(importlib.metadata.version(requirement.name)), text
