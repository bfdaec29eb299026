"""The package as Airflow and pip see it before anything runs."""

from __future__ import annotations

import importlib.metadata
import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import airflow
import jsonschema
import pytest
from packaging.version import Version

from airflow_provider_amzbiz.client.config import REGION_ENDPOINTS
from airflow_provider_amzbiz.get_provider_info import get_provider_info

pytestmark = pytest.mark.main_path

PACKAGE = "airflow_provider_amzbiz"
# The examples need a newer common-compat provider than the package: the first with all their names.
EXAMPLES_RUN = Version(importlib.metadata.version("apache-airflow-providers-common-compat")) >= Version("1.10.0")


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


AIRFLOW_3 = airflow.__version__.startswith("3")
HEAVY = {"boto3", "botocore", "smart_open", "requests", "openlineage", "isal", "pyarrow", "fastapi", "uvicorn"}
EXAMPLES = Path(__file__).parent.parent / "example_dags"
# These need an extra, and no DAG file imports them.
EXTRA = (f"{PACKAGE}.demo", f"{PACKAGE}.sandbox")
# Retry policies are new in Airflow 3.3.
ABSENT = [] if Version(airflow.__version__) >= Version("3.3") else [f"{PACKAGE}.retry_policy"]
MODULES = [
    each.name
    for each in pkgutil.walk_packages([str(Path(__file__).parent.parent / PACKAGE)], f"{PACKAGE}.")
    if not each.ispkg and not each.name.startswith(EXTRA) and each.name not in ABSENT
]


def test_importing_a_module_loads_nothing_heavy():
    # Airflow 2 itself loads some of these, so only what we add counts.
    base = "airflow.sdk" if AIRFLOW_3 else "airflow.models.baseoperator, airflow.sensors.base"
    # No DAG file imports the modules of documents that load isal or requests; all others come first.
    ordered = sorted(MODULES, key=lambda name: f"{PACKAGE}.documents" in name)
    found = python(f"""
import importlib, sys, {base}, airflow.triggers.base
before, found = set(sys.modules), {{}}
for name in {ordered}:
    importlib.import_module(name)
    new = set(sys.modules) - before
    added = new & {HEAVY} | {{each for each in new if each.startswith({EXTRA})}}
    if added - ({{"isal", "requests"}} if ".documents" in name else set()):
        found[name] = added
    before |= added
print(found)
""")
    assert found == "{}"


DEPRECATIONS = """
import importlib, importlib.util, sys, warnings
# There since Airflow 3.2.
if importlib.util.find_spec("airflow.dag_processing.dagbag"):
    from airflow.dag_processing.dagbag import DagBag
else:
    from airflow.models.dagbag import DagBag

ours = (sys.argv[1], sys.argv[2])
found = []

def keep(message, category, filename, lineno, file=None, line=None):
    if filename.startswith(ours) and issubclass(category, (DeprecationWarning, FutureWarning)):
        found.append(f"{filename}:{lineno}: {message}")

warnings.showwarning = keep
warnings.simplefilter("always")
for name in sys.argv[4:]:
    importlib.import_module(name)
bag = DagBag(sys.argv[2])
if sys.argv[3] == "True":
    assert not bag.import_errors, bag.import_errors
    assert bag.dags
print(found)
"""


def test_neither_modules_nor_examples_use_deprecated_names(airflow_db):
    package = str(Path(__file__).parent.parent / PACKAGE)
    done = subprocess.run(
        [sys.executable, "-c", DEPRECATIONS, package, str(EXAMPLES), str(EXAMPLES_RUN), *MODULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_the_bare_package_loads_no_airflow():
    assert python(f"import sys, {PACKAGE}; print('airflow' in sys.modules)") == "False"


@pytest.mark.parametrize(
    "module", ["batch.ledger", "batch.table", "client.reports", "documents.to_s3", "sandbox.server"]
)
def test_batch_client_documents_and_sandbox_import_no_airflow(module):
    assert python(f"import sys, {PACKAGE}.{module}; print('airflow' in sys.modules)") == "False"


def test_the_pytest_plugin_loads_no_web_server():
    code = f"import sys, {PACKAGE}.sandbox.pytest_plugin; print('uvicorn' in sys.modules)"
    assert python(code) == "False"


def test_provider_info_matches_airflows_schema_and_names_existing_modules():
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    info = get_provider_info()

    jsonschema.validate(info, schema)
    assert info["package-name"] == importlib.metadata.distribution("airflow-provider-amzbiz").name
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    for transfer in info["transfers"]:
        importlib.import_module(transfer["python-module"])
    (connection,) = info["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook.conn_type == connection["connection-type"] == "amazon_business"
    assert hook.hook_name == connection["hook-name"]


def test_airflow_finds_the_provider():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "airflow-provider-amzbiz" in manager.providers
    assert "amazon_business" in manager.hooks


def test_the_form_hides_and_relabels_the_same_before_airflow_3_2():
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook

    behaviour = AmazonBusinessHook.get_ui_field_behaviour()
    schema = json.loads((Path(airflow.__path__[0]) / "customized_form_field_behaviours.schema.json").read_text())
    jsonschema.validate(behaviour, schema)
    assert behaviour["hidden_fields"] == ["schema"]
    assert behaviour["relabeling"] == {"login": "Client ID", "password": "Client secret", "host": "Endpoint"}


def test_the_form_has_every_field_of_a_connection():
    (connection,) = get_provider_info()["connection-types"]
    fields = connection["conn-fields"]

    schema_file = Path(airflow.__path__[0]) / "provider.yaml.schema.json"
    if schema_file.exists():  # since Airflow 3.2
        schema = json.loads(schema_file.read_text())
        whole = {**schema["properties"]["connection-types"], "definitions": schema.get("definitions", {})}
        jsonschema.validate([connection], whole)
    assert set(fields) == {
        "refresh_token",
        "region",
        "marketplace_ids",
        "token_url",
        "client_secret_created_on",
        "application_name",
        "rate_limits",
        "rate_limit_store",
    }
    assert all(field["label"] and field["description"] for field in fields.values())
    assert fields["refresh_token"]["schema"]["format"] == "password"
    assert fields["region"]["schema"]["enum"] == sorted(REGION_ENDPOINTS, key=["na", "eu", "fe"].index)


@pytest.mark.skipif(AIRFLOW_3, reason="Airflow 2 builds its form from the hook's widgets")
def test_the_form_that_airflow_2_shows():
    from airflow.providers_manager import ProvidersManager

    shown = ProvidersManager().connection_form_widgets
    mine = {name: widget for name, widget in shown.items() if name.startswith("extra__amazon_business__")}

    assert len(mine) == 8
    assert [name for name, widget in mine.items() if widget.is_sensitive] == [
        "extra__amazon_business__refresh_token"
    ]
    assert ProvidersManager().field_behaviours["amazon_business"]["relabeling"]["host"] == "Endpoint"


@pytest.mark.skipif(not AIRFLOW_3, reason="HookMetaService is new in Airflow 3")
@pytest.mark.skipif(
    Version(airflow.__version__) <= Version("3.1.0") and find_spec("flask_appbuilder") is None,
    reason="Up to Airflow 3.1.0, the fields of extras need the FAB provider",
)
def test_the_form_that_airflow_3_shows():
    # In a separate process, like the API server, because Airflow 3.1 caches the first widgets.
    shown = json.loads(
        python("""
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(mine,) = [each for each in HookMetaService.hook_meta_data() if each.connection_type == "amazon_business"]
print(mine.model_dump_json())
""")
    )

    fields = shown["extra_fields"]
    assert len(fields) == 8
    hidden = [name for name, each in fields.items() if each["schema"].get("format") == "password"]
    assert hidden == ["refresh_token"]
    assert shown["standard_fields"]["host"]["title"] == "Endpoint"


def test_the_wheel_is_typed():
    assert (Path(__file__).parent.parent / PACKAGE / "py.typed").exists()
