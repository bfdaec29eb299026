"""The example DAGs load without any connection and run to their end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import subprocess
import sys
import uuid
import zlib
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import airflow
import duckdb
import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger
from tests.airflow_names import DAG, DagBag
from tests.conftest import connect

# Airflow 3.1 takes seconds for each task of dag.test().
pytestmark = pytest.mark.timeout(400)

AIRFLOW_3 = airflow.__version__.startswith("3")
EXAMPLES = Path(__file__).parent.parent / "example_dags"
SQL = EXAMPLES.parent / "docs" / "sql"
AIRFLOW = str(Path(sys.executable).parent / "airflow")


@pytest.fixture
def _bucket(s3):
    if "amazon-business" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="amazon-business")


@pytest.fixture
def dags(airflow_db):
    """The example DAGs."""
    return DagBag(str(EXAMPLES)).dags


@pytest.fixture
def run_dag(dags):
    """Run an example to its end, including its triggers, without a scheduler."""

    def run(dag_id, at=None, **conf):
        # The default is now; an earlier time is run again.
        when = {"logical_date" if AIRFLOW_3 else "execution_date": at} if at else {}
        for task in dags[dag_id].tasks:
            if isinstance(task, ReportsToS3Operator):
                # The sandbox needs no time.
                task.poke_interval = 0.5
        return dags[dag_id].test(run_conf=conf, **when)

    return run


def test_there_are_no_import_errors_without_connections(airflow_db):
    command = [AIRFLOW, "dags", "list-import-errors", "--output", "json"]
    local = ["--local"] if AIRFLOW_3 else []
    listed = subprocess.run(command + local, capture_output=True, text=True, check=False)
    assert json.loads(listed.stdout.splitlines()[-1]) == []


def test_each_example_explains_itself(dags):
    assert len(dags) >= (9 if AIRFLOW_3 else 8)
    for dag_id, dag in dags.items():
        # Airflow 2.11 has a list.
        assert set(dag.tags) == {"amazon-business"}, dag_id
        assert "Needs" in dag.doc_md, dag_id
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.schema["title"], (dag_id, name)
            assert param.description, (dag_id, name)


def test_each_example_that_stores_something_has_an_outlet(dags):
    """Except the one that must stay short, and the one that deletes."""
    stores = {name for name, dag in dags.items() if any(task.outlets for task in dag.tasks)}

    assert set(dags) - stores == {"example_all_invoices", "example_cancel"}


@pytest.mark.usefixtures("_bucket")
def test_a_report(sandbox, s3, run_dag):
    # Longer than the sensor's first poll, so that it defers.
    sandbox.script(outcome="DONE", processing_seconds=3)

    run = run_dag("example_report_to_s3")

    assert run.state == "success"
    (report,) = sandbox.reports.values()
    assert (report.data_end_time - report.data_start_time).total_seconds() == 86400
    (stored,) = s3.list_objects_v2(Bucket="amazon-business", Prefix="reports/")["Contents"]
    assert stored["Key"] == f"reports/SANDBOX_ORDER_LINES/{report.data_start_time:%Y-%m-%d}.tsv"


@pytest.mark.usefixtures("_bucket")
def test_invoices(sandbox, s3, run_dag):
    run = run_dag("example_invoices_to_s3", invoice_ids=["1", "2", "3", "4"])

    assert run.state == "success"
    created = {report.report_options["invoiceId"]: key for key, report in sandbox.reports.items()}
    assert sorted(created) == ["1", "2", "3", "4"]
    stored = s3.list_objects_v2(Bucket="amazon-business", Prefix="invoices/")["Contents"]
    assert {each["Key"] for each in stored} == {
        f"invoices/{key}/{invoice}.pdf" for invoice, key in created.items()
    }


@pytest.mark.usefixtures("_bucket")
def test_an_invoice_without_data_fails_alone(sandbox, s3, run_dag):
    run = run_dag("example_invoices_to_s3", invoice_ids=["8", "NO-DATA-9"])

    assert run.state == "failed"
    states = {(task.task_id, task.map_index): task.state for task in run.get_task_instances()}
    assert states["invoice_to_s3.move", 0] == "success"
    assert states["invoice_to_s3.wait", 1] == "failed"
    assert states["invoice_to_s3.move", 1] == "upstream_failed"


async def announcements(trigger, sandbox, invoice_ids):
    """Add invoices one by one, and return the payload of each one's event."""
    events, payloads = trigger.run(), []
    for invoice_id in invoice_ids:
        sandbox.add_report("GET_AB_INVOICE_PDF", report_options={"invoiceId": invoice_id})
        payloads.append((await anext(events)).payload)
    await events.aclose()
    return payloads


@contextmanager
def triggered_by(asset_name, payloads):
    """Give the next DAG run asset events with these payloads, as the triggerer and the scheduler do."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.models.dagrun import DagRun

    def consume(session, *_):
        for run in [each for each in session.new if isinstance(each, DagRun)]:
            with session.no_autoflush:
                asset_id = session.scalar(select(AssetModel.id).where(AssetModel.name == asset_name))
            extras = [{"from_trigger": True, "payload": payload} for payload in payloads]
            run.consumed_asset_events.extend(AssetEvent(asset_id=asset_id, extra=extra) for extra in extras)

    event.listen(Session, "before_flush", consume)
    yield
    event.remove(Session, "before_flush", consume)


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
def test_invoices_that_arrive(sandbox, s3, bucket, dags, run_dag):
    [asset] = dags["example_invoice_arrives"].timetable.asset_condition.objects
    path, arguments = asset.watchers[0].trigger.serialize()
    assert path == f"{ReportsDoneTrigger.__module__}.ReportsDoneTrigger"
    since = (sandbox.clock.now() - timedelta(hours=1)).isoformat()
    trigger = ReportsDoneTrigger(**{**arguments, "since": since, "poll_interval": 0.05})
    first, second = asyncio.run(announcements(trigger, sandbox, ["1", "2"]))

    # The triggerer may announce a report twice.
    with triggered_by(asset.name, [first, second, first]):
        run = run_dag("example_invoice_arrives", bucket=bucket)

    assert run.state == "success"
    assert sorted(states(run)) == [("move", 0), ("move", 1), ("report_ids", -1)]
    assert keys(s3, bucket) == sorted(
        [f"invoices/{first['report_id']}/1.pdf", f"invoices/{second['report_id']}/2.pdf"]
    )


@pytest.fixture
def bucket(s3_server):
    """A bucket of this test alone."""
    return s3_server.make_bucket(f"examples-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def query(tmp_path):
    """Run a query in the warehouse."""

    def query(statement):
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as warehouse:
            return warehouse.execute(statement).fetchall()

    return query


def keys(s3, bucket, prefix=""):
    return sorted(each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()))


def body(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def states(run):
    return {(task.task_id, task.map_index): task.state for task in run.get_task_instances()}


# A load that treats quotes or backslashes as special loses or misreads these.
ODD_LINES = (
    '2026-03-01|112-1|1|B0|24" monitor \\ "black"|Office|2|10.00|USD|PO-1||Größe GmbH|0.0825|1.65|20.00|Shipped',
    "2026-03-01|112-2|1|B1|'pens, 50|Office|1|3.50|USD|PO-2|CC-1|東京|0|0.00|3.50|Shipped",
)
NO_DATE = ODD_LINES[0].replace("2026-03-01", "no date")


COLUMNS = [
    "order_date", "order_id", "line", "asin", "title", "category", "quantity", "unit_price", "currency",
    "purchase_order", "cost_center", "seller", "tax_rate", "tax", "total", "status",
]  # fmt: skip


def order_lines(*lines):
    return "".join(line.replace("|", "\t") + "\n" for line in ("|".join(COLUMNS), *lines)).encode()


class TestReportToWarehouse:
    DAY = datetime(2026, 3, 2, tzinfo=timezone.utc)

    @pytest.fixture
    def run_day(self, s3, run_dag, bucket, tmp_path):
        def run_day(at=self.DAY):
            conf = {"bucket": bucket, "database": str(tmp_path / "warehouse.duckdb")}
            return run_dag("example_report_to_warehouse", at=at, **conf)

        return run_day

    def test_the_table_has_the_lines_of_the_document(self, sandbox, s3, run_day, bucket, query):
        run = run_day()

        assert run.state == "success"
        document = body(s3, bucket, "warehouse/SANDBOX_ORDER_LINES/2026-03-01.tsv").decode()
        lines = [line.split("\t") for line in document.splitlines()[1:]]
        assert len(lines) == 400
        assert [[str(value) for value in row[1:]] for row in query("FROM order_lines")] == [
            # DuckDB prints tax rates with six decimals.
            [*line[:12], f"{float(line[12]):.6f}", *line[13:]]
            for line in lines
        ]
        assert query("SELECT DISTINCT report_day::VARCHAR FROM order_lines") == [("2026-03-01",)]
        assert query("SELECT name FROM (SHOW TABLES)") == [("order_lines",)]

    def test_a_day_that_is_run_again_leaves_the_table_the_same(self, sandbox, run_day, query):
        run_day()
        run_day(self.DAY + timedelta(days=1))
        before = query("FROM order_lines ORDER BY ALL")

        run = run_day()

        assert run.state == "success"
        assert len(sandbox.reports) == 3
        assert query("SELECT count(*) FROM order_lines GROUP BY report_day") == [(400,), (400,)]
        assert query("FROM order_lines ORDER BY ALL") == before

    def test_late_lines_replace_the_day(self, sandbox, run_day, query):
        run_day()
        sandbox.script(document=order_lines(*ODD_LINES))

        run = run_day()

        assert run.state == "success"
        assert query("SELECT title, cost_center, seller, total::VARCHAR FROM order_lines") == [
            ('24" monitor \\ "black"', None, "Größe GmbH", "20.00"),
            ("'pens, 50", "CC-1", "東京", "3.50"),
        ]

    def test_lines_that_do_not_fit_leave_the_table_the_same(self, sandbox, run_day, query):
        run_day()
        before = query("FROM order_lines ORDER BY ALL")
        sandbox.script(document=order_lines(*ODD_LINES, NO_DATE))

        run = run_day()

        assert run.state == "failed"
        assert query("FROM order_lines ORDER BY ALL") == before

    def test_a_day_without_orders_is_skipped(self, sandbox, run_day, query):
        run_day()
        sandbox.script(outcome="CANCELLED")

        run = run_day(self.DAY + timedelta(days=1))

        assert states(run) == {
            ("create", -1): "success",
            ("wait", -1): "skipped",
            ("move", -1): "skipped",
            ("load", -1): "skipped",
        }
        assert query("SELECT count(*) FROM order_lines") == [(400,)]


class TestWarehouseSql:
    """The documentation's SQL for warehouses that do not run here, as far as it can be checked."""

    @pytest.fixture
    def statements(self):
        def statements(warehouse):
            with DAG("load", start_date=TestReportToWarehouse.DAY, schedule=None, template_searchpath=str(SQL)):
                load = SQLExecuteQueryOperator(task_id="load", sql=f"load_{warehouse}.sql", split_statements=True)
            load.resolve_template_files()
            stored = [{"uri": "s3://my-bucket/warehouse/day.tsv"}]
            ti = SimpleNamespace(xcom_pull=lambda task_ids: {"move": stored}[task_ids])
            load.render_template_fields({"ti": ti, "data_interval_start": TestReportToWarehouse.DAY})
            return DbApiHook.split_sql_string(str(load.sql))

        return statements

    @pytest.mark.parametrize(
        ("warehouse", "verbs", "source"),
        [
            (
                "redshift",
                ["CREATE", "COPY", "UPDATE", "DELETE", "INSERT"],
                "FROM 's3://my-bucket/warehouse/day.tsv'",
            ),
            ("snowflake", ["DELETE", "COPY"], "FILES = ('warehouse/day.tsv')"),
        ],
    )
    def test_the_statements(self, statements, warehouse, verbs, source):
        rendered = statements(warehouse)

        assert [statement.split()[0] for statement in rendered] == verbs
        (copy,) = [statement for statement in rendered if statement.startswith("COPY")]
        assert source in copy
        columns = re.findall(r"\((.*?)\)", copy, re.DOTALL)[0].replace("\n", " ").replace(" ", "").split(",")
        assert [each for each in columns if each != "report_day"] == COLUMNS
        assert any("report_day = '2026-03-02'" in statement for statement in rendered)


class TestInvoiceBatch:
    @pytest.fixture
    def run_batch(self, s3, run_dag, bucket, tmp_path):
        def run_batch(*invoice_ids):
            conf = {"bucket": bucket, "database": str(tmp_path / "warehouse.duckdb")}
            return run_dag("example_invoice_batch", invoice_ids=list(invoice_ids), **conf)

        return run_batch

    def test_each_invoice_has_its_row(self, sandbox, s3, run_batch, bucket, query):
        run = run_batch("1", "MULTI-2", "NO-DATA-3")

        assert run.state == "success"
        columns = "report_options->>'invoiceId', status, error, key, bytes, sha256, crc32, report_id"
        rows = query(f"SELECT {columns} FROM invoice_audit")
        stored = {row[3]: row for row in rows if row[3]}
        assert sorted(stored) == keys(s3, bucket, "archive/1/") + keys(s3, bucket, "archive/MULTI-2/")
        assert len(stored) == 4
        for key, (_, status, error, _, size, sha256, crc32, report_id) in stored.items():
            content = body(s3, bucket, key)
            assert (status, error) == ("landed", None)
            assert (size, sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert base64.b64decode(crc32) == zlib.crc32(content).to_bytes(4, "big")
            assert sandbox.reports[report_id].report_options["invoiceId"] in key
        assert [row[:4] for row in rows if not row[3]] == [("NO-DATA-3", "skipped", None, None)]

    def test_a_failed_invoice_is_in_the_table_with_its_reason(self, sandbox, run_batch, query):
        run = run_batch("FATAL-1", *map(str, range(10)))

        assert run.state == "success"
        ((request, status, processing_status, error),) = query(
            "SELECT request, status, processing_status, error FROM invoice_audit WHERE error IS NOT NULL"
        )
        assert request == "invoiceId=FATAL-1, documentType=Invoice"
        assert (status, processing_status) == ("failed", "FATAL")
        assert "FATAL" in error
        assert query("SELECT count(*) FROM invoice_audit WHERE uri IS NOT NULL") == [(10,)]

    def test_what_a_failed_run_has_delivered_has_its_row_afterwards(self, sandbox, run_batch, query):
        sandbox.script("CANCELLED")
        run_batch("1")
        assert query("SELECT status, uri FROM invoice_audit") == [("skipped", None)]
        failed = run_batch("1", "FATAL-1", "FATAL-2")
        assert failed.state == "failed"

        run_batch("1")

        assert query("SELECT status, uri IS NULL FROM invoice_audit") == [("already_delivered", False)]

    def test_an_empty_list_is_skipped(self, sandbox, run_batch):
        run = run_batch()

        assert states(run) == {("requests", -1): "success", ("batch", -1): "skipped", ("audit", -1): "skipped"}
        assert sandbox.calls == []

    def test_the_same_invoices_again_leave_the_table_the_same(self, sandbox, run_batch, query):
        run_batch("1", "MULTI-2", "NO-DATA-4")
        run_batch("3")
        before = query("FROM invoice_audit WHERE uri IS NOT NULL ORDER BY ALL")

        run = run_batch("1", "MULTI-2", "NO-DATA-4")

        assert run.state == "success"
        assert query("FROM invoice_audit WHERE uri IS NOT NULL ORDER BY ALL") == before
        assert len(before) == 5
        # Asked for again: perhaps Amazon has it by now.
        assert query("SELECT status, count(*) FROM invoice_audit WHERE uri IS NULL GROUP BY ALL") == [
            ("skipped", 1)
        ]
        asked = sorted(report.report_options["invoiceId"] for report in sandbox.reports.values())
        assert asked == ["1", "3", "MULTI-2", "NO-DATA-4", "NO-DATA-4"]


class TestAccounts:
    @pytest.fixture
    def accounts(self, monkeypatch):
        """The API of North America and that of Europe."""
        quick = partial(Sandbox, throttle=False, queue_seconds=0, processing_seconds=0)
        with quick() as na, quick(region="eu") as eu:
            connect(monkeypatch, na, "amazon_business_na")
            connect(monkeypatch, eu, "amazon_business_eu")
            yield na, eu

    @pytest.fixture
    def run_day(self, accounts, s3, run_dag, bucket):
        return partial(run_dag, "example_accounts", at=datetime(2026, 3, 2, tzinfo=timezone.utc), bucket=bucket)

    def test_each_account_gets_its_own_marketplaces(self, accounts, s3, run_day, bucket):
        run = run_day()

        assert run.state == "success"
        created = [sorted(each.marketplace_ids for each in account.reports.values()) for account in accounts]
        assert created == [[["A2EUQ1WTGCTBG2"], ["ATVPDKIKX0DER"]], [["A1PA6795UKMFR9"]]]
        assert keys(s3, bucket) == [
            "accounts/amazon_business_eu/A1PA6795UKMFR9/2026-03-01.tsv",
            "accounts/amazon_business_na/A2EUQ1WTGCTBG2/2026-03-01.tsv",
            "accounts/amazon_business_na/ATVPDKIKX0DER/2026-03-01.tsv",
        ]

    def test_an_account_that_fails_does_not_stop_the_others(self, accounts, s3, run_day, bucket):
        _, eu = accounts
        eu.revoke()

        run = run_day()

        assert run.state == "failed"
        assert len(keys(s3, bucket, "accounts/amazon_business_na/")) == 2
        assert keys(s3, bucket, "accounts/amazon_business_eu/") == []


class TestCancel:
    def test_only_queued_reports_are_cancelled(self, sandbox, run_dag):
        now = datetime.now(timezone.utc)
        add = partial(sandbox.add_report, "GET_AB_INVOICE_PDF")
        queued = [add(status="IN_QUEUE") for _ in range(3)]
        others = {
            add(status="IN_PROGRESS"): "IN_PROGRESS",
            add(status="DONE"): "DONE",
            add(status="IN_QUEUE", created=now - timedelta(days=2)): "IN_QUEUE",
            sandbox.add_report("SANDBOX_ORDER_LINES", status="IN_QUEUE"): "IN_QUEUE",
        }

        run = run_dag("example_cancel")

        assert run.state == "success"
        hook = AmazonBusinessHook()
        assert {hook.get_report(each).processing_status for each in queued} == {"CANCELLED"}
        assert {each: hook.get_report(each).processing_status for each in others} == others
        assert states(run)["clean_up", -1] == "skipped"

    def test_a_batch_leaves_nothing_behind(self, sandbox, s3, run_dag, bucket, tmp_path):
        s3.put_object(Bucket=bucket, Key="archive/of-somebody-else.pdf", Body=b"%PDF")
        conf = {"bucket": bucket, "database": str(tmp_path / "warehouse.duckdb")}
        batch = run_dag("example_invoice_batch", invoice_ids=["1", "MULTI-2", "NO-DATA-3"], **conf)
        manifest = f"archive/_manifests/example_invoice_batch/{batch.run_id}/batch.json"
        # 1, three files of MULTI-2, and somebody else's.
        assert len([each for each in keys(s3, bucket, "archive/") if each.endswith(".pdf")]) == 5

        run = run_dag("example_cancel", manifest=f"s3://{bucket}/{manifest}")

        assert run.state == "success"
        assert states(run)["cancel", -1] == "skipped"
        assert keys(s3, bucket, "archive/") == ["archive/of-somebody-else.pdf"]

    def test_what_another_batch_has_delivered_stays(self, sandbox, s3, run_dag, bucket, tmp_path):
        conf = {"bucket": bucket, "database": str(tmp_path / "warehouse.duckdb")}
        run_dag("example_invoice_batch", invoice_ids=["1"], **conf)
        first = keys(s3, bucket, "archive/1/")
        batch = run_dag("example_invoice_batch", invoice_ids=["1", "2"], **conf)
        manifest = f"archive/_manifests/example_invoice_batch/{batch.run_id}/batch.json"

        run_dag("example_cancel", manifest=f"s3://{bucket}/{manifest}")

        assert keys(s3, bucket, "archive/1/") == first
        assert keys(s3, bucket, "archive/2/") == []


@pytest.mark.usefixtures("_bucket")
def test_a_backfill_creates_a_report_for_each_day(sandbox, s3, run_dag):
    run = run_dag("example_backfill", start="2026-03-28T00:00:00+01:00", end="2026-03-31T00:00:00+02:00")

    assert run.state == "success"
    windows = sorted((report.data_start_time, report.data_end_time) for report in sandbox.reports.values())
    # The clocks change on the second day.
    assert [(end - start).total_seconds() / 3600 for start, end in windows] == [24, 23, 24]
    stored = s3.list_objects_v2(Bucket="amazon-business", Prefix="backfill/SANDBOX_ORDER_LINES/")["Contents"]
    assert [each["Key"][-14:] for each in stored] == [f"2026-03-{day}.tsv" for day in (28, 29, 30)]
