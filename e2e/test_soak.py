"""Days of everything that a team runs, with kills and API faults: nothing lost, nothing twice, no leak.

``make e2e`` runs a short form; ``make soak`` runs AMZBIZ_SOAK_MINUTES of it and prints the figures.
"""

from __future__ import annotations

import collections
import gzip
import io
import json
import os
import random
import time
import zipfile
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.throttle import Buckets
from airflow_provider_amzbiz.triggers.base import MAX_THREADS
from dev.airflow_cluster import AirflowCluster
from dev.leaks import TriggerRows, secrets_of
from dev.postgres import PostgresServer
from e2e.pipelines import connection_of, open_uploads, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_amzbiz.sandbox.state import SandboxReport

MINUTES = float(os.environ.get("AMZBIZ_SOAK_MINUTES", "3"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(MINUTES * 60 + 1800)]

# Real seconds for the work of a day, and how much faster than the API's the limits are. The clock itself runs at
# normal speed: with a faster one, nobody could work out when a lost report was created.
DAY = 90
SCALE = 60
LINES, INVOICE = "SANDBOX_ORDER_LINES", "GET_AB_INVOICE_PDF"
US = "ATVPDKIKX0DER"
MARKETPLACES = [US, "A2EUQ1WTGCTBG2", "A1PA6795UKMFR9", "A1F83G8C2ARO7P"]
LARGE = {"bytes": "30000000"}
INVOICES_A_DAY = 12
# The other triggerer is never killed, so that its memory shows leaks.
KILLED = ["worker-1", "worker-2", "triggerer-2", "scheduler"]
FAULTS: list[dict[str, Any]] = [
    {"operation": "createReport", "kind": "lost"},
    {"operation": "createReport", "kind": "lost_status", "body": "html"},
    {"operation": "createReport", "kind": "status", "status": 429},
    {"operation": "getReport", "kind": "status", "body": "html", "times": 2},
    {"operation": "getReports", "kind": "drop"},
    {"operation": "getReportDocument", "kind": "status", "status": 500},
    {"operation": "token", "kind": "status"},
    {"operation": "*", "kind": "delay", "seconds": 2.0},
    {"operation": "document", "kind": "cut", "bytes": 1000},
    {"operation": "document", "kind": "expire_url"},
    {"operation": "document", "kind": "stall", "bytes": 100, "seconds": 1.0},
    {"operation": "getReport", "kind": "expire_token"},
]


@pytest.fixture
def sandbox(airflow: AirflowCluster, trigger_rows: TriggerRows, secrets: set[str]) -> Iterator[Sandbox]:
    """The API, with limits, tokens and URLs for days of ninety seconds."""
    with Sandbox(region="any", queue_seconds=5, processing_seconds=5, url_seconds=10, token_seconds=30) as running:
        running.accounts[0].buckets = Buckets("2026", Clock(SCALE))
        airflow.put_connection("amazon_business_default", connection_of(running, SCALE))
        yield running
        secrets |= secrets_of(running)


class Day:
    """The work of a day, and its expected results."""

    def __init__(self, airflow: AirflowCluster, number: int) -> None:
        self.airflow = airflow
        start = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number)
        self.name = f"{start:%Y-%m-%d}"
        self.invoices = [f"INV-{number}-{each}" for each in range(INVOICES_A_DAY)]
        # Different hours, so that no two reports have the same content, and a lost one cannot be confused with one
        # whose options no listing shows.
        requested: list[tuple[str, dict[str, str] | None]] = [
            *((each, None) for each in MARKETPLACES),
            (US, LARGE),
        ]
        self.reports = [
            self._report(start + timedelta(hours=hour), marketplace, options)
            for hour, (marketplace, options) in enumerate(requested)
        ]
        self.daily = airflow.start("soak_daily", {"reports": self.reports})
        self.folder = f"soak/invoices/{self.name}"
        self.batch = airflow.start("batch", {"folder": self.folder, "invoices": self.invoices})

    def _report(self, start: datetime, marketplace: str, options: dict[str, str] | None) -> dict[str, Any]:
        return {
            "marketplace_ids": [marketplace],
            "data_start_time": start.isoformat(),
            "data_end_time": (start + timedelta(days=1)).isoformat(),
            "report_options": options,
            "s3_key": f"soak/{self.name}/{marketplace}-{'large' if options else 'small'}.tsv",
        }

    def assert_stored(self, sandbox: Sandbox, s3: S3Client) -> None:
        """Assert that everything of the day is in S3, to the byte."""
        for dag_id, run in (("soak_daily", self.daily), ("batch", self.batch)):
            assert self.airflow.wait_for_run(dag_id, run, 900) == "success", self._why(dag_id, run)
        tasks = self.airflow.tasks("soak_daily", self.daily)
        assert len(tasks) == 1 + 3 * len(self.reports)
        for report in self.reports:
            stored = s3.get_object(Bucket="e2e", Key=report["s3_key"])["Body"].read()
            (created, *_) = [each for each in sandbox.reports.values() if self._matches(each, report)]
            assert stored == gzip.decompress(sandbox.document(created.report_id)), report
        for invoice in self.invoices:
            stored = s3.get_object(Bucket="e2e", Key=f"{self.folder}/{invoice}.pdf")["Body"].read()
            (created, *_) = [
                each for each in sandbox.reports.values() if each.report_options.get("invoiceId") == invoice
            ]
            with zipfile.ZipFile(io.BytesIO(gzip.decompress(sandbox.document(created.report_id)))) as archive:
                assert stored == archive.read(archive.namelist()[0]), invoice

    def _why(self, dag_id: str, run: str) -> str:
        failed = [each for each in self.airflow.tasks(dag_id, run) if each["state"] == "failed"]
        ends = [(each["task_id"], each["map_index"], *self.airflow.log_tail(each, 40)) for each in failed]
        return "\n".join([run, *(str(line) for end in ends for line in end)])

    def _matches(self, created: SandboxReport, report: dict[str, Any]) -> bool:
        return (
            created.marketplace_ids == report["marketplace_ids"]
            and created.data_start_time == datetime.fromisoformat(report["data_start_time"])
            and created.report_options == (report["report_options"] or {})
        )


class Trouble:
    """Kills and faults at random."""

    def __init__(self, airflow: AirflowCluster, sandbox: Sandbox, seed: int) -> None:
        self.airflow, self.sandbox = airflow, sandbox
        self.random = random.Random(seed)
        self.kills: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()

    def make(self) -> None:
        if self.random.random() < 0.4:
            part = self.random.choice(KILLED)
            self.airflow.kill(part)
            self.kills[part] += 1
        else:
            fault = self.random.choice(FAULTS)
            self.sandbox.inject(Fault(**fault))
            self.faults[f"{fault['operation']} {fault['kind']}"] += 1

    def for_a_day(self) -> None:
        end = time.monotonic() + DAY
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self.random.uniform(5, 15)))
            self.make()


def at_rest(airflow: AirflowCluster, postgres: PostgresServer) -> dict[str, int]:
    """Return what the triggerer that is never killed holds while nothing is deferred but the watch.

    ``uss`` is its unique set size in MiB.
    """
    deferred = "SELECT classpath FROM trigger WHERE classpath NOT LIKE '%ReportsDoneTrigger'"
    wait_until(lambda: postgres.query(deferred) == [] and postgres.query("SELECT count(*) FROM trigger"), 60)
    time.sleep(5)
    processes = airflow.processes("triggerer-1")
    return {
        "uss": round(sum(each.memory_full_info().uss for each in processes) / 1024**2),
        "handles": sum(each.num_fds() for each in processes),
        "threads": sum(each.num_threads() for each in processes),
    }


def announced(airflow: AirflowCluster) -> list[str]:
    """Return the report ids of the events that triggered the runs of the watch."""
    found: list[str] = []
    for run in airflow.runs("soak_watch"):
        assert airflow.wait_for_run("soak_watch", run["dag_run_id"], 300) == "success"
        value = airflow.xcom("soak_watch", run["dag_run_id"], "announced")
        found += json.loads(value) if isinstance(value, str) else value
    return found


def run_days(
    airflow: AirflowCluster, postgres: PostgresServer, sandbox: Sandbox, s3: S3Client, trouble: Trouble
) -> tuple[list[Day], list[dict[str, int]]]:
    """Run days full of trouble; return them, and samples of the triggerer at rest."""
    began = time.monotonic()
    days: list[Day] = []
    samples: list[dict[str, int]] = []
    while not samples or time.monotonic() - began < MINUTES * 60:
        days.append(Day(airflow, len(days)))
        trouble.for_a_day()
        if len(days) % 5 == 1:
            for day in days[-5:]:
                day.assert_stored(sandbox, s3)
            samples.append(at_rest(airflow, postgres))
            print(f"after {len(days)} days: {samples[-1]}", flush=True)
    return days, samples


def created_twice(reports: Collection[SandboxReport]) -> dict[Any, int]:
    """Return the requests for which there is more than one report, and how many too many."""
    requests = collections.Counter[Any](
        (each.report_type, *each.marketplace_ids, each.data_start_time, str(each.report_options))
        if each.report_type == LINES
        else each.report_options["invoiceId"]
        for each in reports
    )
    return {key: count - 1 for key, count in requests.items() if count > 1}


# Threads of a triggerer besides those of the pool.
_OWN_THREADS = 10


def assert_no_leak(samples: Sequence[dict[str, int]]) -> None:
    first, last = samples[0], samples[-1]
    # The pool of the triggers makes its threads one by one, as calls come at the same time, and keeps them.
    assert last["threads"] <= max(first["threads"], _OWN_THREADS + MAX_THREADS) + 3
    assert last["handles"] <= first["handles"] + 10
    assert last["uss"] <= first["uss"] * 1.15 + 10


def test_nothing_is_lost_and_nothing_leaks(
    airflow: AirflowCluster, postgres: PostgresServer, sandbox: Sandbox, s3: S3Client
) -> None:
    began = time.monotonic()
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    trouble = Trouble(airflow, sandbox, seed)
    airflow.unpause("soak_watch")
    wait_until(lambda: sandbox.count("getReports"))

    days, samples = run_days(airflow, postgres, sandbox, s3, trouble)

    sandbox.clear_faults()
    for day in days:
        day.assert_stored(sandbox, s3)
    reports = sandbox.reports.values()
    wanted = {each.report_id for each in reports if each.report_type == LINES and each.status == "DONE"}
    wait_until(lambda: wanted <= set(announced(airflow)), 180)
    ids = announced(airflow)
    airflow.pause("soak_watch")
    samples.append(at_rest(airflow, postgres))

    double = created_twice(reports)
    figures = {
        "days": len(days),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "reports": len(sandbox.reports),
        "calls": len(sandbox.calls),
        "objects": s3.list_objects_v2(Bucket="e2e", Prefix="soak/")["KeyCount"],
        "kills": dict(trouble.kills),
        "faults": dict(trouble.faults),
        "created twice": {str(key): count for key, count in double.items()},
        "announced": len(set(ids)),
        "announced twice": len(ids) - len(set(ids)),
        "first and last at rest": [samples[0], samples[-1]],
        "memory of the test and the sandbox, MiB": round(psutil.Process().memory_info().rss / 1024**2),
    }
    print(json.dumps(figures, indent=2), flush=True)

    assert open_uploads(s3) == []
    # What docs/duplicates.rst calls the window that stays open: an invoice whose response was lost.
    lost = sum(trouble.faults[f"createReport {kind}"] for kind in ("lost", "lost_status"))
    of_workers = trouble.kills["worker-1"] + trouble.kills["worker-2"]
    assert sum(double.values()) <= lost + 4 * of_workers
    assert [key for key in double if isinstance(key, tuple) and key[-1] == "{}"] == []
    assert set(ids) == wanted
    assert len(ids) - len(wanted) <= len(MARKETPLACES) * trouble.kills["triggerer-2"]
    assert_no_leak(samples)
