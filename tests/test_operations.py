"""The files of the operations guide agree with the package, with Airflow, and with each other."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import tomllib
from urllib.parse import parse_qsl

import airflow
import pytest
import yaml
from packaging.version import Version
from sqlalchemy import text

from airflow_provider_amzbiz import __version__, metrics
from dev.pages import DOCS, ROOT
from tests.test_troubleshooting import missing

OPERATIONS = DOCS / "operations"
INSTALL = OPERATIONS / "install"
MONITORING = DOCS / "monitoring"
RULES = yaml.safe_load((MONITORING / "alert_rules.yml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
MAPPINGS = yaml.safe_load((MONITORING / "statsd_mapping.yml").read_text())["mappings"]
SERIES = re.compile(r"\bamazon_business_\w+")


def names_of_the_package():
    """Return the names that the code passes to Airflow, with an asterisk for what is not constant."""
    tree = ast.parse((ROOT / "airflow_provider_amzbiz" / "metrics.py").read_text())
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.args[0] if node.args else None
        if node.func.attr in ("incr", "timing") and isinstance(name, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in name.values]
            # The first one is the prefix.
            found["".join([metrics._PREFIX, *parts[1:]])] = node.func.attr
    return found


def test_the_mapping_has_every_metric_of_the_package():
    kinds = {"counter": "incr", "observer": "timing"}

    mapped = {each["match"].removeprefix("airflow."): kinds[each["match_metric_type"]] for each in MAPPINGS}

    assert mapped == names_of_the_package()
    assert len(mapped) == 6


def test_the_page_has_every_metric_of_the_package():
    page = (DOCS / "metrics.rst").read_text()
    listed = {re.sub(r"<\w+>", "*", name) for name in re.findall(r"``(amazon_business\.[\w.<>]+)``", page)}

    assert {re.sub(r"reports\.\w+", "reports.*", name) for name in listed} - {
        "amazon_business.calls.createReport"
    } == set(names_of_the_package())


def series():
    """Return the series that the mapping makes, those of a histogram included."""
    for each in MAPPINGS:
        ends = [""] if each["match_metric_type"] == "counter" else ["_bucket", "_count", "_sum"]
        yield from (each["name"] + end for end in ends)


def test_rules_and_dashboard_use_the_names_of_the_mapping():
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

    for expressions in (rules, queries):
        used = {name for each in expressions for name in SERIES.findall(each)}
        assert used <= set(series())
        # Each metric is in both.
        assert {each["name"] for each in MAPPINGS} == {re.sub("_(bucket|count|sum)$", "", name) for name in used}


def test_the_labels_of_rules_and_dashboard_are_those_of_the_mapping():
    labels = {label for each in MAPPINGS for label in each.get("labels", ())} | {"le"}
    texts = (MONITORING / "alert_rules.yml").read_text() + json.dumps(DASHBOARD)

    grouped = {name.strip() for names in re.findall(r"by \(([\w, ]+)\)", texts) for name in names.split(",")}
    shown = set(re.findall(r"\{\{ ?\$labels\.(\w+) ?\}\}", texts)) | set(
        re.findall(r'"\{\{(\w+)\}\}', json.dumps(DASHBOARD))
    )

    assert grouped | shown <= labels


def test_each_panel_of_the_dashboard_is_whole():
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}

    assert variables == {"datasource", "operation"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) == 10
    cells = set()
    for panel in DASHBOARD["panels"]:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not own & cells, "panels overlap"
        cells |= own


def test_the_link_to_prometheus_shows_panels_of_the_dashboard():
    panels = {
        target["expr"].replace("$operation", ".*") for each in DASHBOARD["panels"] for target in each["targets"]
    }
    [link] = re.findall(r"http://127\.0\.0\.1:9090/graph\?(\S+)", (OPERATIONS / "monitoring.rst").read_text())

    shown = [value for name, value in parse_qsl(link, strict_parsing=True) if name.endswith(".expr")]

    assert len(shown) == len(set(shown)) == 4
    assert set(shown) <= panels


def test_the_runbook_says_what_to_do_for_each_alert():
    page = (OPERATIONS / "runbook.rst").read_text()

    named = set(re.findall(r"``(AmazonBusiness\w+)``", page))

    assert named == {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}


def quotes_of_the_runbook():
    """Return the log lines and errors that the page quotes: literals of several words, except commands."""
    page = (OPERATIONS / "runbook.rst").read_text()
    literals = [re.sub(r"\s+", " ", each) for each in re.findall(r"``(.+?)``", page, re.DOTALL)]
    return [each for each in dict.fromkeys(literals) if " " in each and not each.startswith(("airflow ", "["))]


@pytest.mark.parametrize("quote", quotes_of_the_runbook())
def test_a_log_line_in_the_runbook_is_one_of_the_package(quote):
    assert missing(quote) == []


def test_the_runbook_quotes_log_lines():
    assert len(quotes_of_the_runbook()) > 10


@pytest.mark.parametrize(
    "path", sorted([*INSTALL.glob("*.yaml"), *MONITORING.glob("*.yml")]), ids=lambda path: path.name
)
def test_a_file_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_compose_sets_options_that_airflow_has_and_mounts_files_that_are_there():
    from airflow.configuration import conf

    compose = yaml.safe_load((INSTALL / "compose.override.yaml").read_text())
    services = compose["services"]
    environment = compose["x-settings"]["environment"]
    of_page = dict(each.split("=") for each in (MONITORING / "airflow.env").read_text().splitlines())
    options = [name.removeprefix("AIRFLOW__").split("__") for name in environment if name.startswith("AIRFLOW__")]

    assert len(options) == 3
    assert set(of_page) <= set(environment)
    assert all(conf.has_option(section.lower(), option.lower()) for section, option in options)
    assert environment["AIRFLOW__METRICS__STATSD_HOST"] in services
    mounts = [each.split(":")[0] for service in services.values() for each in service.get("volumes", ())]
    assert len(mounts) == 3
    assert all((DOCS / mount).is_file() for mount in mounts)
    targets = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert [each.split(":")[0] for each in targets[0]["targets"]] == ["statsd-exporter"]


def test_the_recipes_install_this_version_with_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [path.read_text() for path in [*INSTALL.iterdir(), OPERATIONS / "install.rst"]]

    for each in texts:
        assert set(re.findall(r"airflow_provider_amzbiz-([\d.]+)-py3", each)) <= {__version__}
        assert set(re.findall(r"amzbiz\[[\w,]+\]==([\d.]+)", each)) <= {__version__}
        named = {name for found in re.findall(r"amzbiz\[([\w,]+)\]", each) for name in found.split(",")}
        assert named <= set(project["optional-dependencies"])
    [release] = re.findall(r"^RELEASE_3.3 := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"ARG AIRFLOW_VERSION={release}\n" in (INSTALL / "Dockerfile").read_text()


def test_the_wheels_for_mwaa_are_what_an_airflow_image_lacks():
    page = (OPERATIONS / "install.rst").read_text()
    [downloaded] = re.findall(r"pip download ([\w -]+?) --no-deps", page)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[\[<>=]", each)[0] for each in project["dependencies"]}
    # Airflow requires these itself, or its Amazon provider does.
    there = {
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "asgiref",
        "boto3",
        "requests",
        "tenacity",
    }

    assert set(downloaded.split()) == required - there | {"wrapt"}
    assert importlib.metadata.requires("smart-open")[0].startswith("wrapt")


@pytest.mark.usefixtures("airflow_db")
def test_the_query_for_deferred_tasks_runs():
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.execute(text((OPERATIONS / "deployments" / "deferred.sql").read_text())).fetchall()
    # Tests that share this database may have left deferred tasks.
    assert all(len(row) == 3 for row in found)


@pytest.mark.skipif(Version(airflow.__version__) < Version("3.3"), reason="the registry is new in Airflow 3.3")
def test_the_metrics_of_airflow_on_the_page_exist():
    from airflow._shared.observability.metrics.metrics_registry import MetricsRegistry

    page = (OPERATIONS / "monitoring.rst").read_text()
    names = re.findall(r"``([\w.]+)``", page[page.index("Airflow's own metrics") :])

    assert len(names) == 3
    assert [name for name in names if not MetricsRegistry().get(name=name)] == []
