"""Every public name is documented."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.get_provider_info import get_provider_info
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {page: page.read_text() for page in DOCS.rglob("*.rst") if "_build" not in page.parts}
TEXT = "\n".join(PAGES.values())
# Parts of other classes, and what only operators make.
INNER = {"AmazonBusinessOperator", "QueueingOperator", "ReportWatch", "BatchTrigger", "PermitTrigger"}


def classes():
    info = get_provider_info()
    kinds = [entry for kind in ("hooks", "operators", "sensors", "triggers") for entry in info[kind]]
    modules = [name for entry in kinds for name in entry["python-modules"]]
    for name in modules + [entry["python-module"] for entry in info["transfers"]]:
        for found, value in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if value.__module__ == name and not found.startswith("_") and found not in INNER:
                yield f"{name}.{found}"


@pytest.mark.parametrize("name", sorted(classes()))
def test_a_class_has_a_page(name):
    assert f".. autoclass:: {name}\n" in TEXT


def test_the_hook_shows_all_its_operations():
    page = (DOCS / "api" / "AmazonBusinessHook.rst").read_text()
    members = re.search(r":members: (.*)", page)[1].split(", ")
    inherited = set(dir(AmazonBusinessHook.__base__)) - {"test_connection"}
    public = {name for name, value in inspect.getmembers(AmazonBusinessHook, inspect.isfunction) if name[0] != "_"}
    # For operators that split a call in two; get_conn is Airflow's own name.
    assert public - inherited - {"report_request", "send", "get_conn"} == set(members)


def test_each_error_is_explained():
    names = [
        name
        for name, value in inspect.getmembers(exceptions, inspect.isclass)
        if value.__module__ == exceptions.__name__
    ]
    assert len(names) > 10
    explained = (DOCS / "errors.rst").read_text()
    assert [name for name in names if f"``{name}``" not in explained] == []
