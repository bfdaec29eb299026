"""Days of all that a team runs, while processes die and the API fails: nothing lost, nothing double, no leak.

A short form by ``make e2e``, and AMZBIZ_SOAK_MINUTES of it by ``make soak``, which prints the figures.
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
from datetime import datetime, timedelta, timezone

import psutil
import pytest

from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.throttle import Buckets
from dev.leaks import secrets_of
from e2e.pipelines import connection_of, open_uploads, wait_until

MINUTES = float(os.environ.get("AMZBIZ_SOAK_MINUTES", "3"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(MINUTES * 60 + 1800)]

# Real seconds in which the work of a day is done, and how much faster than the API's the limits are meanwhile. The
# clock is the world's: with one that runs faster, nobody could tell when a lost report was created.
DAY = 90
SCALE = 60
LINES, INVOICE = "SANDBOX_ORDER_LINES", "GET_AB_INVOICE_PDF"
US = "ATVPDKIKX0DER"
MARKETPLACES = [US, "A2EUQ1WTGCTBG2", "A1PA6795UKMFR9", "A1F83G8C2ARO7P"]
LARGE = {"bytes": "30000000"}
INVOICES_A_DAY = 12
# The other triggerer lives through it all, to be looked at for leaks.
KILLED = ["worker-1", "worker-2", "triggerer-2", "scheduler"]
FAULTS = [
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
def sandbox(airflow, trigger_rows, secrets):
    """The API, with limits, tokens and URLs for days of ninety seconds."""
    with Sandbox(region="any", queue_seconds=5, processing_seconds=5, url_seconds=10, token_seconds=30) as running:
        running.accounts[0].buckets = Buckets("2026", Clock(SCALE))
        airflow.put_connection("amazon_business_default", connection_of(running, SCALE))
        yield running
        secrets |= secrets_of(running)


class Day:
    """What is to be done on a day, and what has to come of it."""

    def __init__(self, airflow, number):
        self.airflow = airflow
        start = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number)
        self.name = f"{start:%Y-%m-%d}"
        self.invoices = [f"INV-{number}-{each}" for each in range(INVOICES_A_DAY)]
        # Windows of different hours, so that no two reports have the same content, and a lost one is not taken for
        # another, whose options no listing shows.
        asked = [*((each, None) for each in MARKETPLACES), (US, LARGE)]
        self.reports = [
            self._report(start + timedelta(hours=hour), marketplace, options)
            for hour, (marketplace, options) in enumerate(asked)
        ]
        self.daily = airflow.start("soak_daily", {"reports": self.reports})
        self.folder = f"soak/invoices/{self.name}"
        self.batch = airflow.start("batch", {"folder": self.folder, "invoices": self.invoices})

    def _report(self, start, marketplace, options):
        return {
            "marketplace_ids": [marketplace],
            "data_start_time": start.isoformat(),
            "data_end_time": (start + timedelta(days=1)).isoformat(),
            "report_options": options,
            "s3_key": f"soak/{self.name}/{marketplace}-{'large' if options else 'small'}.tsv",
        }

    def assert_landed(self, sandbox, s3):
        """Everything of the day is in S3, to the byte."""
        for dag_id, run in (("soak_daily", self.daily), ("batch", self.batch)):
            assert self.airflow.wait_for_run(dag_id, run, 900) == "success", self._why(dag_id, run)
        tasks = self.airflow.tasks("soak_daily", self.daily)
        assert len(tasks) == 1 + 3 * len(self.reports)
        for report in self.reports:
            stored = s3.get_object(Bucket="e2e", Key=report["s3_key"])["Body"].read()
            (made, *_) = [each for each in sandbox.reports.values() if self._asked_for(each, report)]
            assert stored == gzip.decompress(sandbox.document(made.report_id)), report
        for invoice in self.invoices:
            stored = s3.get_object(Bucket="e2e", Key=f"{self.folder}/{invoice}.pdf")["Body"].read()
            (made, *_) = [
                each for each in sandbox.reports.values() if each.report_options.get("invoiceId") == invoice
            ]
            with zipfile.ZipFile(io.BytesIO(gzip.decompress(sandbox.document(made.report_id)))) as archive:
                assert stored == archive.read(archive.namelist()[0]), invoice

    def _why(self, dag_id, run):
        failed = [each for each in self.airflow.tasks(dag_id, run) if each["state"] == "failed"]
        ends = [(each["task_id"], each["map_index"], *self.airflow.log_tail(each, 40)) for each in failed]
        return "\n".join([run, *(str(line) for end in ends for line in end)])

    def _asked_for(self, made, report):
        return (
            made.marketplace_ids == report["marketplace_ids"]
            and made.data_start_time == datetime.fromisoformat(report["data_start_time"])
            and made.report_options == (report["report_options"] or {})
        )


class Trouble:
    """Kills and faults at random."""

    def __init__(self, airflow, sandbox, seed):
        self.airflow, self.sandbox = airflow, sandbox
        self.random = random.Random(seed)
        self.kills, self.faults = collections.Counter(), collections.Counter()

    def make(self):
        if self.random.random() < 0.4:
            part = self.random.choice(KILLED)
            self.airflow.kill(part)
            self.kills[part] += 1
        else:
            fault = self.random.choice(FAULTS)
            self.sandbox.inject(Fault(**fault))
            self.faults[f"{fault['operation']} {fault['kind']}"] += 1

    def for_a_day(self):
        end = time.monotonic() + DAY
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self.random.uniform(5, 15)))
            self.make()


def at_rest(airflow, postgres):
    """What the triggerer that is never killed holds, when nothing is deferred but the watch.

    Its USS is what it has for itself alone, in MiB.
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


def announced(airflow):
    """Return the ids that the runs of the watch were given."""
    found = []
    for run in airflow.runs("soak_watch"):
        assert airflow.wait_for_run("soak_watch", run["dag_run_id"], 300) == "success"
        value = airflow.xcom("soak_watch", run["dag_run_id"], "announced")
        found += json.loads(value) if isinstance(value, str) else value
    return found


def test_nothing_is_lost_and_nothing_leaks(airflow, postgres, sandbox, s3):
    began = time.monotonic()
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    trouble = Trouble(airflow, sandbox, seed)
    airflow.unpause("soak_watch")
    wait_until(lambda: sandbox.count("getReports"))
    here = psutil.Process()
    days, samples = [], []

    while not samples or time.monotonic() - began < MINUTES * 60:
        days.append(Day(airflow, len(days)))
        trouble.for_a_day()
        if len(days) % 5 == 1:
            for day in days[-5:]:
                day.assert_landed(sandbox, s3)
            samples.append(at_rest(airflow, postgres))
            print(f"after {len(days)} days: {samples[-1]}", flush=True)

    sandbox.clear_faults()
    for day in days:
        day.assert_landed(sandbox, s3)
    reports = sandbox.reports.values()
    wanted = {each.report_id for each in reports if each.report_type == LINES and each.status == "DONE"}
    wait_until(lambda: wanted <= set(announced(airflow)), 180)
    told = announced(airflow)
    airflow.pause("soak_watch")
    samples.append(at_rest(airflow, postgres))

    asked = collections.Counter(
        (each.report_type, *each.marketplace_ids, each.data_start_time, str(each.report_options))
        if each.report_type == LINES
        else each.report_options["invoiceId"]
        for each in reports
    )
    double = {key: count - 1 for key, count in asked.items() if count > 1}
    figures = {
        "days": len(days),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "reports": len(sandbox.reports),
        "calls": len(sandbox.calls),
        "objects": s3.list_objects_v2(Bucket="e2e", Prefix="soak/")["KeyCount"],
        "kills": dict(trouble.kills),
        "faults": dict(trouble.faults),
        "created twice": {str(key): count for key, count in double.items()},
        "announced": len(set(told)),
        "announced twice": len(told) - len(set(told)),
        "first and last at rest": [samples[0], samples[-1]],
        "memory of the test and the sandbox, MiB": round(here.memory_info().rss / 1024**2),
    }
    print(json.dumps(figures, indent=2), flush=True)

    assert open_uploads(s3) == []
    # What docs/duplicates.rst calls the window that stays open: an invoice whose answer was lost.
    lost = sum(trouble.faults[f"createReport {kind}"] for kind in ("lost", "lost_status"))
    of_workers = trouble.kills["worker-1"] + trouble.kills["worker-2"]
    assert sum(double.values()) <= lost + 4 * of_workers
    assert [key for key in double if isinstance(key, tuple) and key[-1] == "{}"] == []
    assert set(told) == wanted
    assert len(told) - len(wanted) <= len(MARKETPLACES) * trouble.kills["triggerer-2"]
    assert samples[-1]["threads"] <= samples[0]["threads"] + 3
    assert samples[-1]["handles"] <= samples[0]["handles"] + 10
    assert samples[-1]["uss"] <= samples[0]["uss"] * 1.15 + 10
