"""What an extra of this package requires, and this environment does not have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

_PACKAGE = "airflow-provider-amzbiz"


def missing_requirements(extra: str) -> list[str]:
    """Return the requirements of an extra that are not installed, or have another version."""
    missing: list[str] = []
    for text in requires(_PACKAGE) or ():
        requirement = Requirement(text)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == _PACKAGE:
            missing += [name for each in sorted(requirement.extras) for name in missing_requirements(each)]
        elif not _is_installed(requirement):
            missing.append(f"{requirement.name}{requirement.specifier}")
    return missing


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
