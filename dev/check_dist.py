"""Check what ``make dist`` built, as a user gets it: ``python -m dev.check_dist CONSTRAINTS AIRFLOW_VERSION``.

The wheel contains the package and nothing else; the sdist contains all that is needed to work on it. The wheel
without extras runs in an empty environment, which imports every class that the provider's metadata names.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_provider_amzbiz"

# Runs in the empty environment.
IMPORT_EVERYTHING = """
import importlib, inspect, sys
from airflow_provider_amzbiz.get_provider_info import get_provider_info

info = get_provider_info()
modules = [name for kind in ("hooks", "operators", "sensors", "triggers") for entry in info.get(kind, [])
           for name in entry["python-modules"]]
modules += [entry["python-module"] for entry in info["transfers"]]
listed = [entry["hook-class-name"] for entry in info["connection-types"]] + info.get("extra-links", [])
classes = set()
for name in modules:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", ())
    own = {each for each, kind in inspect.getmembers(module, inspect.isclass)
           if kind.__module__ == name or each in exported}
    assert own, f"{name} has no class"
    classes |= {f"{name}.{each}" for each in own}
for path in listed:
    module, _, name = path.rpartition(".")
    getattr(importlib.import_module(module), name)
    classes.add(path)
print(f"imported {len(classes)} classes of {len(modules)} modules")

# Airflow 3 depends on uvicorn, Airflow 2 does not.
sys.modules["uvicorn"] = None
try:
    from airflow_provider_amzbiz.sandbox import Sandbox
except ImportError as error:
    assert "airflow-provider-amzbiz[sandbox]" in str(error), error
else:
    raise AssertionError("the sandbox has run without its extra")

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator

move = ReportDocumentToS3Operator(task_id="move", report_id="1", s3_uri="s3://bucket/key")
try:
    move.s3_client()
except InvalidInputError as error:
    assert "airflow-provider-amzbiz[amazon]" in str(error), error
else:
    raise AssertionError("aws_conn_id has worked without the extra 'amazon'")
"""


def main() -> None:
    """Check both files in ``dist``, and run the wheel."""
    constraints, airflow = sys.argv[1:]
    (wheel,) = (ROOT / "dist").glob("*.whl")
    (sdist,) = (ROOT / "dist").glob("*.tar.gz")
    _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    _check_names(wheel, sdist)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, str(wheel), f"apache-airflow=={airflow}", "--constraint", str(Path(constraints).resolve()))
        _run(python, "-c", IMPORT_EVERYTHING, folder=folder)
        _check_recipe(python, wheel, airflow, constraints)
    print(f"{wheel.name} and {sdist.name} are ready for release")


def _check_recipe(python: str, wheel: Path, airflow: str, constraints: str) -> None:
    """Check that the pip line of the documented image resolves, and changes nothing that Airflow has installed."""
    recipe = (ROOT / "docs" / "operations" / "install" / "Dockerfile").read_text().replace("\\\n", "")
    [line] = re.findall(r"^RUN pip install --no-cache-dir (.*)$", recipe, re.MULTILINE)
    line = line.replace("${AIRFLOW_VERSION}", airflow).replace(f"file:///tmp/{wheel.name}", wheel.as_uri())
    if wheel.as_uri() not in line:
        raise SystemExit(f"the Dockerfile of the documentation does not install {wheel.name}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run")
        limits = ("--constraint", str(Path(constraints).resolve()), "--report", str(report))
        _run(*pip, *shlex.split(line), *limits)
        new = {each["metadata"]["name"].lower() for each in json.loads(report.read_text())["install"]}
    freeze = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    changed = new & {each["name"].lower() for each in json.loads(freeze.stdout)} - {
        wheel.name.split("-")[0].replace("_", "-")
    }
    if changed:
        raise SystemExit(f"the Dockerfile of the documentation changes {sorted(changed)}")
    print(f"the image adds {len(new)} packages, and changes none")


def _check_names(wheel: Path, sdist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    # The folders may contain uncommitted files.
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    committed = {name for name in listed.stdout.splitlines() if not name.startswith(".")}
    package = {name for name in committed if name.startswith(f"{PACKAGE}/")}
    if in_wheel != package:
        raise SystemExit(f"the wheel differs from the package: {sorted(in_wheel ^ package)}")
    if missing := committed - in_sdist:
        raise SystemExit(f"the sdist lacks {sorted(missing)}")


def _run(*command: str, folder: str | None = None) -> None:
    # In another folder, the installed package is imported, not the checkout.
    subprocess.run(command, cwd=folder or ROOT, check=True)


if __name__ == "__main__":
    main()
