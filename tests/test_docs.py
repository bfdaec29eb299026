"""Every public name is documented, and every link, name and message in the documentation exists."""

from __future__ import annotations

import importlib
import inspect
import operator
import re
import tomllib
from urllib.parse import unquote

import airflow
import pytest
from packaging.version import Version

from airflow_provider_amzbiz import exceptions, sandbox
from airflow_provider_amzbiz.get_provider_info import get_provider_info
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.task_groups import report_to_s3
from dev.check_links import broken_links
from dev.pages import DOCS, ROOT, markdown_files, pages
from dev.parameter_tables import Parameter, parameters

PAGES = {page: page.read_text() for page in pages()}
TEXT = "\n".join(PAGES.values())
README = (DOCS.parent / "README.md").read_text()
# Parts of other classes, triggers that only operators create, and functions that Airflow finds in the metadata.
INNER = {"AmazonBusinessOperator", "QueueingOperator", "ReportWatch", "BatchTrigger", "PermitTrigger"}
INNER |= {
    "BatchReady",
    "RunningReport",
    "console_url",
    "dataset_name",
    "sanitize_uri",
    "convert_asset_to_openlineage",
}


def classes():
    info = get_provider_info()
    kinds = [entry for kind in ("hooks", "operators", "sensors", "triggers") for entry in info[kind]]
    modules = [name for entry in kinds for name in entry["python-modules"]]
    for name in modules + [entry["python-module"] for entry in info["transfers"]]:
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", ())
        for found, value in inspect.getmembers(module, inspect.isclass):
            if (
                (value.__module__ == name or found in exported)
                and not found.startswith("_")
                and found not in INNER
            ):
                yield f"{name}.{found}"


@pytest.mark.parametrize("name", sorted(classes()))
def test_a_class_has_a_page(name):
    assert f".. autoclass:: {name}\n" in TEXT


def with_parameters():
    """Return what a task of a DAG is made of, by dotted name."""
    return sorted(name for name in classes() if re.search(r"_amzbiz\.(operators|sensors|transfers)\.", name))


def test_operators_and_sensors_have_parameters():
    assert len(with_parameters()) >= 9


@pytest.mark.parametrize("name", [*with_parameters(), "airflow_provider_amzbiz.task_groups.report_to_s3"])
def test_what_becomes_a_task_has_a_table_of_its_parameters_which_its_docstring_explains(name):
    assert TEXT.count(f".. parameters:: {name}\n") == 1
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)

    table = list(parameters(name))

    docstring = getattr(found, "function", found).__doc__
    explained = re.findall(r"^ *:param (\w+):(.*?)(?=^ *:|\Z)", docstring, re.MULTILINE | re.DOTALL)
    assert {each.name for each in table} == {each for each, _ in explained} - {"kwargs"}
    said = {each for each, text in explained if "(templated)" in " ".join(text.split())}
    assert {each.name for each in table if each.templated} == said


def test_a_table_has_the_facts_of_the_class():
    create = {
        each.name: each for each in parameters("airflow_provider_amzbiz.operators.reports.CreateReportOperator")
    }

    assert create["report_type"] == Parameter("report_type", "str", None, True, True)
    assert create["report_options"].type == "dict | str | None"
    assert create["timeout"] == Parameter("timeout", "timedelta | float", "7 days", False, True)
    assert create["on_cancelled"].default == '"fail"'
    assert create["deferrable"].default == "[operators] default_deferrable"


def test_a_group_is_mapped_over_templated_parameters_only():
    group = list(parameters("airflow_provider_amzbiz.task_groups.report_to_s3"))

    assert [each.name for each in group if not each.mappable] == ["on_cancelled", "timeout", "deferrable"]


@pytest.mark.parametrize(
    "module", ["client.models", "links", "assets.reports", "windows", "retry_policy", "task_groups"]
)
def test_a_public_name_of_another_module_is_on_a_page(module):
    name = f"airflow_provider_amzbiz.{module}"
    if module == "retry_policy" and Version(airflow.__version__) < Version("3.3"):
        pytest.skip("retry policies are new in Airflow 3.3")
    found = importlib.import_module(name)
    public = [
        each
        for each, value in vars(found).items()
        if each[0] != "_" and defined_in(value) == name and each not in INNER
    ]
    assert public
    for each in public:
        directive = rf"\.\. (autoclass|autofunction|py:function):: {re.escape(name)}\.{each}\b"
        member = rf"\.\. automodule:: {re.escape(name)}\n   :members:.*\b{each}\b"
        assert re.search(directive, TEXT) or re.search(member, TEXT), f"{name}.{each}"


def defined_in(value):
    # A task group is an object that wraps its function.
    return getattr(getattr(value, "function", value), "__module__", None)


def test_every_public_name_of_the_sandbox_is_on_its_page():
    page = (DOCS / "api" / "sandbox.rst").read_text()
    assert sandbox.__all__
    assert [name for name in sandbox.__all__ if not re.search(rf"autoclass:: \S+\.{name}\n", page)] == []


def test_the_signature_of_the_task_group_is_its_own():
    page = (DOCS / "api" / "authoring.rst").read_text()
    [signature] = re.findall(r"task_groups\.report_to_s3\((.*?)\)\n\n", page, re.DOTALL)
    documented = [each.strip() for each in signature.replace("\\\n", "").split(",")]
    own = inspect.signature(report_to_s3.function).parameters.values()
    assert [each.partition("=")[0] for each in documented] == [each.name for each in own]
    defaults = {"datetime.timedelta(days=1)": "timedelta(days=1)"}
    assert [each.partition("=")[2].replace('"', "'") for each in documented] == [
        "" if each.default is each.empty else defaults.get(repr(each.default), repr(each.default)) for each in own
    ]


def test_the_errors_are_on_their_page():
    assert "automodule:: airflow_provider_amzbiz.exceptions\n   :members:\n" in TEXT


def test_the_hook_shows_all_its_operations():
    page = (DOCS / "api" / "AmazonBusinessHook.rst").read_text()
    [members] = re.findall(r":members: (.*)", page)
    inherited = set(dir(AmazonBusinessHook.__base__)) - {"test_connection"}
    public = {name for name, value in inspect.getmembers(AmazonBusinessHook, inspect.isfunction) if name[0] != "_"}
    # Steps of an operation, which operators and triggers take one by one.
    steps = {"report_request", "send", "get_reports_page", "is_of_another_request"}
    assert public - inherited - steps == set(members.split(", "))


def test_each_error_is_explained():
    names = [
        name
        for name, value in inspect.getmembers(exceptions, inspect.isclass)
        if value.__module__ == exceptions.__name__
    ]
    assert len(names) > 10
    explained = (DOCS / "errors.rst").read_text()
    assert [name for name in names if f"``{name}``" not in explained] == []


def test_the_badges_are_true():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=")
    [airflow_floor] = re.findall(r"apache-airflow>=(\d+\.\d+)", " ".join(project["dependencies"]))
    badges = re.findall(r"^!\[(.*?)\]\(https://img\.shields\.io/badge/(.*?)-\w+\)$", README, re.MULTILINE)

    shown = [(text, re.sub("(?<!-)-(?!-)", " ", unquote(path)).replace("--", "-")) for text, path in badges]
    assert shown == [
        (f"Python {python} and newer", f"python {python}+"),
        (f"Airflow {airflow_floor} and newer", f"airflow {airflow_floor}+"),
        (f"Licence: {project['license']}", f"licence {project['license']}"),
    ]


def test_the_index_leads_to_every_page():
    index = PAGES[DOCS / "index.rst"] + PAGES[DOCS / "tables" / "index.rst"]
    named = {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES}
    listed = set(re.findall(r"^   ([\w/]+)$", index, re.MULTILINE))
    assert {each for each in named if each.split("/")[-1] != "index"} <= listed | {
        f"tables/{each}" for each in listed
    }


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: path.name)
def test_the_links_of_a_markdown_file_lead_somewhere(path):
    assert list(broken_links(path)) == []


def test_a_broken_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("dev.check_links.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# One thing\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#one-thing) [b](other.md#another) [`c`](missing.md) [d](https://a.test) `[e](e)`\n"
    )
    assert list(broken_links(page)) == [
        "other.md#another: there is no such heading",
        "missing.md: there is no such file",
    ]


PLACES = re.findall(
    r"^\| .*\? \| \[.*?\]\((\S+)\) \| `(\S+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_each_place_that_contributing_names_exists(path, name):
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = operator.attrgetter(name)(importlib.import_module(module))
    assert inspect.getmodule(inspect.unwrap(found)).__name__ == module


def test_contributing_names_places():
    assert len(PLACES) >= 8
