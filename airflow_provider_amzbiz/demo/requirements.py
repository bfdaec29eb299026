"""What an extra of this package requires, and this environment does not have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

_PACKAGE = "airflow-provider-amzbiz"


def missing_requirements(extra: str) -> list[str]:
    """Return the requirements of an extra that are not installed, or have another version."""
    of_extra = [
        each
        for each in map(Requirement, requires(_PACKAGE) or ())
        if each.marker is not None and each.marker.evaluate({"extra": extra})
    ]
    return [f"{each.name}{each.specifier}" for each in of_extra if not _is_installed(each)]


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
