"""Check what ``make dist`` built, as a user gets it: ``python -m dev.check_dist CONSTRAINTS AIRFLOW_VERSION``.

The wheel contains the package, and what its demo shows; the sdist contains all that is needed to work on it. In an
empty environment, the wheel without extras imports every class that the provider's metadata names. Then the demo
runs from the wheel: a user's settings do not reach it, and it leaves nothing behind.
"""

from __future__ import annotations

import json
import os
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
DEMO = ("-m", f"{PACKAGE}.demo")
# What the wheel has beside the demo; a checkout has it elsewhere.
SHOWN = ("example_dags/", "docs/sql/load_feed_duckdb.sql")
# Each would break the demo if it took it over.
OF_THE_USER = {
    "AIRFLOW__CORE__EXECUTOR": "NoSuchExecutor",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://no-such-host.invalid/airflow",
    "AWS_PROFILE": "no-such-profile",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}

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
        pinned = (f"apache-airflow=={airflow}", "--constraint", str(Path(constraints).resolve()))
        _run(*pip, str(wheel), *pinned)
        _run(python, "-c", IMPORT_EVERYTHING, folder=folder)
        _check_refusal(python, folder)
        _check_recipe(python, wheel, airflow, constraints)
        _run(*pip, f"{wheel}[demo]", *pinned)
        _run_demo(python)
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
    shown = {name for name in committed if name.startswith(SHOWN)}
    expected = package | {f"{PACKAGE}/demo/{name}" for name in shown}
    if in_wheel != expected:
        raise SystemExit(f"the wheel differs from the package: {sorted(in_wheel ^ expected)}")
    if missing := committed - in_sdist:
        raise SystemExit(f"the sdist lacks {sorted(missing)}")


def _check_refusal(python: str, folder: str) -> None:
    """Check that the demo says what it needs."""
    refused = subprocess.run([python, *DEMO], cwd=folder, capture_output=True, text=True, check=False)
    if refused.returncode != 1 or "pip install 'airflow-provider-amzbiz[demo]'" not in refused.stderr:
        raise SystemExit(f"without its extra, the demo ended with {refused.returncode}: {refused.stderr}")


def _run_demo(python: str) -> None:
    """Run the demo as a user with an Airflow of their own, and check that it has touched nothing of theirs."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place, name) for name in ("HOME", "AIRFLOW_HOME", "TMPDIR", "cwd")}
        for each in folders.values():
            each.mkdir()
        environment = {**os.environ, **OF_THE_USER, **{name: str(each) for name, each in folders.items()}}
        subprocess.run([python, *DEMO], cwd=folders["cwd"], env=environment, check=True)
        if left := [str(each) for folder in folders.values() for each in folder.rglob("*")]:
            raise SystemExit(f"the demo has left {left}")


def _run(*command: str, folder: str | None = None) -> None:
    # In another folder, the installed package is imported, not the checkout.
    subprocess.run(command, cwd=folder or ROOT, check=True)


if __name__ == "__main__":
    main()
