"""A batch of hundreds, while its workers and triggerers die; and the next one, which is told most of the same."""

from __future__ import annotations

import collections
import gzip
import io
import os
import random
import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.state import SandboxReport
from airflow_provider_amzbiz.sandbox.throttle import Buckets
from dev.leaks import secrets_of
from e2e.pipelines import connection_of, manifest_items, open_uploads, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

DAG = "batch_once"
SEED = 20261129
# Fewer on a machine that is busy otherwise: each ten take a worker and a triggerer of their own.
COUNT = int(os.environ.get("AMZBIZ_BATCH_COUNT", "300"))
SHARED, MORE = COUNT // 3, COUNT // 6
# How much faster the limits are than the API's. The clock is the world's, so that what a killed worker has sent
# can be found by its time.
SCALE = 60
KILLED = ("worker-1", "worker-2", "triggerer-1", "triggerer-2")
KILLS = COUNT // 25
# Calls that one process of the batch has under way at once. Of these, a kill loses the ids.
AT_ONCE = 4


@pytest.fixture
def sandbox(airflow: Any, trigger_rows: Any, secrets: set[str]) -> Iterator[Sandbox]:
    """The API, with limits by a fast clock."""
    with Sandbox(queue_seconds=2, processing_seconds=2) as running:
        running.accounts[0].buckets = Buckets("2026", Clock(SCALE))
        airflow.put_connection("amazon_business_default", connection_of(running, SCALE))
        yield running
        secrets |= secrets_of(running)


def made(sandbox: Sandbox) -> dict[str, list[SandboxReport]]:
    """Return the reports of each invoice, in the order of their creation."""
    found: dict[str, list[SandboxReport]] = collections.defaultdict(list)
    for report in sandbox.reports.values():
        found[report.report_options["invoiceId"]].append(report)
    return found


def stored(s3: Any, folder: str) -> dict[str, bytes]:
    """Return the documents in a folder by their names, without what the batch writes beside them."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="e2e", Prefix=f"{folder}/")
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {
        key.split("/")[-1]: s3.get_object(Bucket="e2e", Key=key)["Body"].read()
        for key in keys
        if key.endswith(".pdf")
    }


def pdf_of(sandbox: Sandbox, report_id: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(gzip.decompress(sandbox.document(report_id)))) as archive:
        return archive.read(archive.namelist()[0])


def kill_at_random(airflow: Any, run: str) -> collections.Counter[str]:
    """Kill workers and triggerers while the batch runs; return how many of each."""
    chosen = random.Random(SEED)
    kills: collections.Counter[str] = collections.Counter()
    for number in range(KILLS):
        time.sleep(chosen.uniform(3, 12))
        (task,) = [each for each in airflow.tasks(DAG, run) if each["task_id"] == "batch"]
        if task["state"] in ("success", "failed"):
            break
        # One of each kind first, however few there are.
        part = chosen.choice(KILLED[2 * number : 2 * number + 2] or KILLED)
        airflow.kill(part)
        kills[part.split("-")[0]] += 1
    return kills


def assert_exact(
    sandbox: Sandbox, s3: Any, result: dict[str, Any], folder: str, names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """The manifest and the bucket have each document, and it is that of the report that the manifest names."""
    items = {each["report_options"]["invoiceId"]: each for each in manifest_items(s3, result)}
    landed = {name: each for name, each in items.items() if not each.get("already_delivered")}
    assert set(landed) == set(names)
    assert {name: pdf_of(sandbox, each["report_id"]) for name, each in landed.items()} == {
        name.removesuffix(".pdf"): content for name, content in stored(s3, folder).items()
    }
    assert sum(each["bytes"] for each in landed.values()) == result["bytes"]
    return items


def test_a_batch_is_exact_through_kills_and_the_next_one_creates_only_what_is_new(
    airflow: Any, sandbox: Sandbox, s3: Any
) -> None:
    print(f"seed {SEED}")
    run = airflow.start(DAG, {"first": 0, "count": COUNT, "folder": "first"})
    wait_until(lambda: len(sandbox.reports) >= 10, 180)

    kills = kill_at_random(airflow, run)

    assert airflow.wait_for_run(DAG, run, 1200) == "success"
    (task,) = [each for each in airflow.tasks(DAG, run) if each["task_id"] == "batch"]
    result = airflow.xcom(DAG, run, "batch")
    invoices = [f"INV-{number}" for number in range(COUNT)]
    reports = made(sandbox)
    twice = sum(len(each) - 1 for each in reports.values())
    print(f"kills {dict(kills)}, attempts {task['try_number']}, created twice {twice}")
    assert kills["worker"]
    assert kills["triggerer"]
    assert (result["requested"], result["landed"], result["failed"]) == (COUNT, COUNT, 0)
    assert set(reports) == set(invoices)
    # What the docs say can happen: the ids of calls that were under way when their worker was killed.
    assert twice <= AT_ONCE * (task["try_number"] - 1)
    assert_exact(sandbox, s3, result, "first", invoices)
    before = len(sandbox.reports)

    run = airflow.start(DAG, {"first": COUNT - SHARED, "count": SHARED + MORE, "folder": "second"})

    assert airflow.wait_for_run(DAG, run, 600) == "success"
    second = airflow.xcom(DAG, run, "batch")
    new = [f"INV-{number}" for number in range(COUNT, COUNT + MORE)]
    assert (second["requested"], second["landed"], second["already_delivered"]) == (SHARED + MORE, MORE, SHARED)
    assert len(sandbox.reports) == before + MORE
    assert {name: len(each) for name, each in made(sandbox).items() if name in new} == dict.fromkeys(new, 1)
    items = assert_exact(sandbox, s3, second, "second", new)
    first = {each["report_options"]["invoiceId"]: each for each in manifest_items(s3, result)}
    for number in range(COUNT - SHARED, COUNT):
        item, delivered = items[f"INV-{number}"], first[f"INV-{number}"]
        assert (item["uri"], item["bytes"], item["sha256"]) == tuple(
            delivered[name] for name in ("uri", "bytes", "sha256")
        )
    assert open_uploads(s3) == []
