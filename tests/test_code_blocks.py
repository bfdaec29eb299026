"""The code blocks of the documentation run as written.

Each block is claimed by a test, or listed in :data:`NOT_RUN` with its reason. Most files that the pages include
are tested elsewhere: example DAGs, SQL and the project of the page about testing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import airflow
import duckdb
import pytest
import yaml
from airflow.models.connection import Connection
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.sdk import DAG, Asset, get_current_context, task, task_group
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.serialization import serialized_objects
from packaging.version import Version

from airflow_provider_amzbiz import ledger, windows
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.demo import __main__ as demo
from airflow_provider_amzbiz.demo.s3_server import download_under
from airflow_provider_amzbiz.exceptions import InvalidInputError, ReportFatalError, ThrottledError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from airflow_provider_amzbiz.task_groups import report_to_s3
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from dev.code_blocks import CodeBlock, code_blocks, commands, unnamed_blocks
from dev.pages import DOCS, ROOT, pages
from tests.airflow_names import DagBag
from tests.deferring import context
from tests.feed.warehouse import write_files

# Airflow's commands, and the creation of its database, take minutes on a busy machine.
pytestmark = pytest.mark.timeout(500)

BLOCKS = code_blocks()
VERSION = Version(airflow.__version__)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
START_OF_TEST = START + timedelta(days=7)
# By page and the beginning of the block.
NOT_RUN = {
    ("tables/load", "load = BigQueryInsertJobOperator("): "needs Airflow's provider for Google, and BigQuery",
    ("warehouse", "CREATE STAGE"): "needs Snowflake",
}
# Programs that are not installed with this project, and the first of their arguments.
NOT_OURS = {
    ("aws", "s3"),
    ("aws", "s3api"),
    ("aws", "secretsmanager"),
    ("cd", "wheels"),
    ("cp", "dist/*.whl"),
    ("docker", "build"),
    ("gcloud", "composer"),
    ("gcloud", "secrets"),
    ("kubectl", "create"),
    ("pip", "download"),
    ("pip", "install"),
    ("prometheus", "--config.file=prometheus.yml"),
    ("statsd_exporter", "--statsd.mapping-config=statsd_mapping.yml"),
    ("vault", "kv"),
    # The lines of the demo itself are checked below.
    ("python3", "-m"),
}
# Languages that are no code.
NO_CODE = {"text", "mermaid"}


def of(page: str, language: str, beginning: str = "") -> CodeBlock:
    """Return the one block of a page that begins so."""
    found = [each for each in BLOCKS if (each.page, each.language) == (page, language)]
    [block] = [each for each in found if each.text.startswith(beginning)]
    return block


def pick(language: str) -> list[Any]:
    return [pytest.param(each, id=str(each)) for each in BLOCKS if each.language == language and not not_run(each)]


def not_run(block: CodeBlock) -> bool:
    return any(block.page == page and block.text.startswith(text) for page, text in NOT_RUN)


def test_each_block_has_a_language_whose_blocks_are_run():
    assert unnamed_blocks() == []
    assert {each.language for each in BLOCKS} <= {"python", "bash", "console", "json", "sql", *NO_CODE}
    # Those in SQL are run with the included files, except for the one below.
    assert [each for each in BLOCKS if each.language == "sql" and not not_run(each)] == []


def test_what_is_not_run_is_there():
    assert [block for page, text in NOT_RUN for block in BLOCKS if block.page == page and text in block.text]
    assert sum(not_run(each) for each in BLOCKS) == len(NOT_RUN)


@task
def requests() -> list[Any]:
    """Stand for a user's own task."""
    return []


# What a reader has imported, or made in an earlier block.
NAMES: dict[str, Any] = {
    "DAG": DAG,
    "Asset": Asset,
    "get_current_context": get_current_context,
    "task": task,
    "task_group": task_group,
    "SQLExecuteQueryOperator": SQLExecuteQueryOperator,
    "S3Hook": S3Hook,
    "AmazonBusinessHook": AmazonBusinessHook,
    "CreateReportOperator": CreateReportOperator,
    "ReportStatusSensor": ReportStatusSensor,
    "ReportDocumentToS3Operator": ReportDocumentToS3Operator,
    "ReportsToS3Operator": ReportsToS3Operator,
    "InvoicesToS3Operator": InvoicesToS3Operator,
    "closing": closing,
    "timedelta": timedelta,
    "Path": Path,
    "report_to_s3": report_to_s3,
    "requests": requests,
    "duckdb": duckdb,
    "report_windows": windows.report_windows,
    "data_interval_of": windows.data_interval_of,
}


def run_in_dag(block: CodeBlock, **names: Any) -> tuple[DAG, dict[str, Any]]:
    """Run a block as part of a DAG file, and return the DAG and the block's names."""
    namespace = {**NAMES, **names}
    with DAG("page", schedule="@daily", start_date=START, template_searchpath=str(DOCS / "sql")) as dag:
        namespace["all_invoices"] = InvoicesToS3Operator(
            task_id="all_invoices", s3_bucket="b", s3_key="{document_number}/{name}", ledger="s3://b/ledger/"
        )
        exec(compile(block.text, str(block), "exec"), namespace)
    return dag, namespace


def serialize(dag: DAG) -> None:
    """Check a DAG as Airflow's DAG processor does."""
    # DagSerialization since Airflow 3.2, SerializedDAG before.
    new = hasattr(serialized_objects, "DagSerialization")
    getattr(serialized_objects, "DagSerialization" if new else "SerializedDAG").to_dict(dag)


PYTHON = [each for each in BLOCKS if each.language == "python" and not not_run(each)]
OF_TESTS = [each for each in PYTHON if "def test_" in each.text]
DUCKDB = of("tables/load", "python", "script = ")


@pytest.mark.parametrize(
    "block", [pytest.param(each, id=str(each)) for each in PYTHON if each not in OF_TESTS and each != DUCKDB]
)
def test_a_block_in_python_is_part_of_a_dag(block):
    if "retry_policy" in block.text and Version("3.3") > VERSION:
        pytest.skip("retry policies are new in Airflow 3.3")
    text = block.text
    if Version("3") > VERSION:
        # As the comment beside the line says.
        text = text.replace("from airflow.sdk import DAG", "from airflow import DAG")

    dag, _ = run_in_dag(CodeBlock(block.page, block.language, text), load_feed=None)

    serialize(dag)


@pytest.mark.parametrize("page", sorted({each.page for each in OF_TESTS}))
def test_the_tests_on_a_page_pass(page, tmp_path):
    blocks = [each.text for each in OF_TESTS if each.page == page]
    (tmp_path / "test_page.py").write_text("\n\n".join(blocks))

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    written = "".join(blocks).count("def test_")
    assert re.search(rf"^{written} passed", run.stdout, re.MULTILINE), run.stdout + run.stderr


def test_the_task_with_a_hook_counts_reports(sandbox):
    sandbox.add_report("GET_AB_INVOICE_PDF", status="IN_QUEUE")
    _, names = run_in_dag(of("connection", "python"))

    assert names["waiting"].function() == 1


def test_the_callback_reads_the_error_of_a_report(sandbox, capsys):
    _, names = run_in_dag(of("errors", "python"))
    sandbox.script(outcome="FATAL")
    report_id = CreateReportOperator(task_id="create", report_type="SANDBOX_ORDER_LINES").execute({})
    with pytest.raises(ReportFatalError) as fatal:
        ReportStatusSensor(task_id="wait", report_id=report_id).execute({})

    names["on_failure"]({"exception": fatal.value})
    names["on_failure"]({"exception": InvalidInputError("a is 1")})

    of_report, of_input = capsys.readouterr().out.splitlines()[-2:]
    assert of_report.startswith(f"Report {report_id} of type SANDBOX_ORDER_LINES is FATAL: ")
    assert of_input == "a is 1 (request id None)"


def test_duckdb_loads_the_tables(s3, tmp_path, monkeypatch):
    write_files(s3, "code-block")
    download_under(s3, "tests", "code-block/", tmp_path / "tables")
    for script in (DOCS / "sql").glob("*.sql"):
        (tmp_path / script.name).write_text(script.read_text())
    monkeypatch.chdir(tmp_path)

    exec(DUCKDB.text.replace("s3://my-bucket/tables", str(tmp_path / "tables")), NAMES.copy())

    with duckdb.connect("feed.duckdb") as warehouse:
        [(count,)] = warehouse.execute("SELECT count(*) FROM documents").fetchall()
        assert count > 10


def test_the_report_on_the_page_has_the_fields_of_a_report():
    shown = json.loads(of("reports", "json").text)

    assert (
        Report.from_api(
            {
                "reportId": shown["report_id"],
                "reportType": shown["report_type"],
                "processingStatus": shown["processing_status"],
                "createdTime": shown["created_time"],
                "marketplaceIds": shown["marketplace_ids"],
                "dataStartTime": shown["data_start_time"],
                "dataEndTime": shown["data_end_time"],
                "processingStartTime": shown["processing_start_time"],
                "processingEndTime": shown["processing_end_time"],
                "reportDocumentId": shown["report_document_id"],
            }
        ).to_dict()
        == shown
    )


@pytest.mark.parametrize("block", pick("json"))
def test_a_block_in_json_is_valid(block):
    assert json.loads(block.text)


DEMO = "python -m airflow_provider_amzbiz.demo"
SHELL = [each for each in BLOCKS if each.language in ("bash", "console")]
COMMANDS = [(each, command) for each in SHELL for command in commands(each)]
QUICKSTART = [
    each for each in SHELL if each.page == "quickstart" and "airflow" in each.text and DEMO not in each.text
]


def words(command: str) -> list[str]:
    """Return the words of a command, without the variables that it sets for itself."""
    found = shlex.split(command, comments=True)
    return found[1:] if re.match(r"AIRFLOW__\w+=", found[0]) else found


def is_connection(command: str) -> bool:
    return re.match(r"(export )?AIRFLOW_CONN_\w+=", command) is not None


def of_monitoring(*programs: str) -> list[str]:
    return [text for each, text in COMMANDS if each.page == "operations/monitoring" and words(text)[0] in programs]


def test_prometheus_on_this_machine_reads_the_exporter_on_this_machine(tmp_path):
    shutil.copy(DOCS / "monitoring" / "prometheus.yml", tmp_path)
    [command] = of_monitoring("sed")

    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)

    [job] = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9102"]}]


def test_the_sandbox_can_be_told_to_throttle(sandbox):
    [command] = of_monitoring("curl")

    subprocess.run(["bash", "-c", command.replace("SANDBOX", sandbox.url)], check=True)

    with pytest.raises(ThrottledError):
        AmazonBusinessHook(retry_for=0, max_throttle_wait=0).create_report("SANDBOX_ORDER_LINES")


def test_each_command_is_run_or_not_ours():
    claimed = {"airflow", "make", "python"}
    left = [
        (str(block), command)
        for block, command in COMMANDS
        if block not in QUICKSTART
        and not is_connection(command)
        and words(command)[0] not in claimed
        and tuple(words(command)[:2]) not in NOT_OURS
        and command not in of_monitoring("sed", "curl")
    ]
    assert left == []


def test_each_target_of_make_exists():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    files = [*pages(), *ROOT.glob("*.md")]
    named = {each for page in files for each in re.findall(r"`make (\w[\w-]*)", page.read_text())}
    assert {"demo", "docs", "ui"} <= named
    assert named <= set(targets)


def test_each_extra_that_is_installed_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [*pages(), *ROOT.glob("*.md")]
    lists = [each for page in files for each in re.findall(r"amzbiz\[([\w,]+)\]", page.read_text())]
    assert lists
    assert {name for each in lists for name in each.split(",")} <= set(extras)


def with_connections() -> list[Any]:
    return [
        pytest.param(command, id=f"{block.page}-{words(command)[-1][:60]}")
        for block, command in COMMANDS
        if is_connection(command)
    ]


@pytest.mark.parametrize("command", with_connections())
def test_a_connection_in_the_environment_can_be_used(command, monkeypatch):
    shell = f"set -a; {command}\nenv -0"
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, env={})
    variables = dict(each.split("=", 1) for each in run.stdout.split("\0") if each.startswith("AIRFLOW_CONN_"))
    assert variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
        check_connection(name.removeprefix("AIRFLOW_CONN_").lower())


def check_connection(conn_id: str) -> None:
    connection = AmazonBusinessHook.get_connection(conn_id)
    assert connection.conn_type in ("amazon_business", "aws", "generic", "redis")
    if connection.conn_type == "amazon_business":
        assert AmazonBusinessHook(conn_id).config.refresh_token.startswith("Atzr|")
    if connection.conn_type == "generic":
        # The module of the page about alerts joins the two.
        assert (connection.host, connection.password) == ("https://hooks.slack.com/services", "T000/B000/...")


def added() -> list[Any]:
    return [
        pytest.param(command, id=words(command)[4])
        for block, command in COMMANDS
        if words(command)[:3] == ["airflow", "connections", "add"]
    ]


def test_there_are_three_ways_to_add_a_connection():
    assert len(added()) == 3


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("command", added())
def test_a_connection_can_be_added_on_the_command_line(command):
    from airflow.cli.cli_parser import get_parser
    from airflow.utils.session import create_session

    arguments = get_parser().parse_args(words(command)[1:])
    try:
        arguments.func(arguments)
        with create_session() as session:
            stored = session.query(Connection).filter(Connection.conn_id == "amazon_business_default").one()
            assert (stored.conn_type, list(stored.extra_dejson)) == ("amazon_business", ["refresh_token"])
            assert stored.extra_dejson["refresh_token"].startswith("Atzr|")
    finally:
        with create_session() as session:
            session.query(Connection).filter(Connection.conn_id == "amazon_business_default").delete()


def of_the_ledger() -> list[list[str]]:
    prefix = ["python", "-m", "airflow_provider_amzbiz.ledger"]
    return [words(command)[3:] for _, command in COMMANDS if words(command)[:3] == prefix]


@pytest.fixture(scope="module")
def my_bucket(s3_server):
    """The bucket of the pages."""
    s3_server.make_bucket("my-bucket")


@pytest.mark.usefixtures("my_bucket")
def test_the_commands_of_the_ledger(sandbox, s3_server, s3, monkeypatch, capsys):
    for name, value in {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": s3_server.region,
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
    }.items():
        monkeypatch.setenv(name, value)
    options = {"invoiceId": "1111-2222-3333", "documentType": "Invoice"}
    dag, _ = run_in_dag(of("ledger", "python"))
    batch: Any = dag.get_task("invoices")
    batch.requests = [{"report_type": "GET_AB_INVOICE_PDF", "report_options": options}]
    batch.poke_interval = 0.1
    batch.execute(context())
    [account] = {
        each["Key"].split("/")[1] for each in s3.list_objects_v2(Bucket="my-bucket", Prefix="ledger/")["Contents"]
    }
    said = []

    for arguments in of_the_ledger():
        filled = [{"FORMER": account, "NEW": "0" * len(account)}.get(each, each) for each in arguments]
        assert ledger.main(filled) == 0, arguments
        said.append((arguments[0], capsys.readouterr()))

    assert {name for name, _ in said} == {"show", "forget", "rebuild", "copy"}
    assert "1111-2222-3333" in next(each.out for name, each in said if name == "show")
    copied = s3.list_objects_v2(Bucket="my-bucket", Prefix=f"ledger/{'0' * len(account)}/deliveries/")
    assert copied["KeyCount"] == 1


def test_the_sandbox_is_started_with_the_command_of_the_pages():
    command = "python -m airflow_provider_amzbiz.sandbox"
    named = [text for _, text in COMMANDS if command in text]
    assert named
    run = subprocess.run(
        [sys.executable, *command.split()[1:], "--help"], capture_output=True, text=True, check=True
    )
    assert "--port" in run.stdout


def test_the_demo_takes_the_arguments_of_the_pages(tmp_path, monkeypatch):
    (tmp_path / "my_dags").mkdir()
    monkeypatch.chdir(tmp_path)
    named = [words(text)[3:] for _, text in COMMANDS if text.startswith(DEMO)]

    assert {" ".join(each) for each in named} == {"", "--ui", "--dags my_dags", "--ui --statsd 127.0.0.1:9125"}
    for each in named:
        assert demo.arguments().parse_args(each)


def test_the_demo_is_installed_with_the_airflow_that_is_tested():
    makefile = (ROOT / "Makefile").read_text()
    [newest] = re.findall(r"^RELEASE_3.3 := (.*)$", makefile, re.MULTILINE)
    [install] = [text for _, text in COMMANDS if "airflow-provider-amzbiz[demo]" in text]

    assert f"apache-airflow=={newest}" in install
    assert f"/constraints-{newest}/constraints-3.11.txt" in install


@pytest.fixture
def dags_of_pages(airflow_db, monkeypatch):
    """The DAG files that pages include whole."""
    # dag.test() runs DAGs of this folder only.
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(DOCS / "dags"))
    bag = DagBag(str(DOCS / "dags"))
    assert bag.import_errors == {}
    return bag.dags


def keys(s3: Any, prefix: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket="my-bucket", Prefix=prefix).get("Contents", ())]


@pytest.mark.usefixtures("my_bucket")
def test_mapped_groups(sandbox, s3, dags_of_pages):
    run = dags_of_pages["mapped_groups"].test()

    assert run.state == "success"
    assert {"invoices/1111-2222-3333.pdf", "invoices/4444-5555-6666.pdf"} <= set(keys(s3, "invoices/"))
    days = sorted(
        each.data_start_time for each in sandbox.reports.values() if each.data_start_time < START_OF_TEST
    )
    assert [f"{each:%Y-%m-%d}" for each in days] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert len(keys(s3, "days/")) == 3


@pytest.mark.skipif(Version("3") > VERSION, reason="dag.test() of Airflow 2 cannot map over mapped tasks' results")
@pytest.mark.usefixtures("my_bucket")
def test_mapped_operators(sandbox, s3, dags_of_pages):
    run = dags_of_pages["mapped_operators"].test()

    assert run.state == "success"
    assert keys(s3, "marketplaces/") == ["marketplaces/A2EUQ1WTGCTBG2.tsv", "marketplaces/ATVPDKIKX0DER.tsv"]


def test_each_dag_of_a_page_is_included_and_run(dags_of_pages):
    included = {name for page in pages() for name in re.findall(r":: dags/(\w+)\.py", page.read_text())}
    assert set(dags_of_pages) == included == {"mapped_groups", "mapped_operators"}


# It starts a server, the sandbox and six commands of Airflow, one after the other.
@pytest.mark.slow
@pytest.mark.skipif(Version("3.3") > VERSION, reason="once is enough for commands that all versions have")
def test_the_quickstart_with_pip(tmp_path):
    script = "\n".join(each.text for each in QUICKSTART if "pip install" not in each.text.splitlines()[0])
    # What it installs is here, and another test may use the port.
    script, count = re.subn(r"^(python3 -m venv|pip install) (.*\\\n)*.*$", "", script, flags=re.MULTILINE)
    assert count == 2
    script = re.sub(r"\b5555\b", str(free_port()), script)
    example = ROOT / "example_dags" / "example_report_to_s3.py"
    save = f"cp {shlex.quote(str(example))} airflow/dags/\nairflow dags test"
    script = script.replace("airflow dags test", save, 1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    run = subprocess.run(
        ["bash", "-e"],
        input=script,
        cwd=tmp_path,
        env={**kept, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^\['reports/SANDBOX_ORDER_LINES/[\d-]+\.tsv'\]$", run.stdout, re.MULTILINE), run.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
