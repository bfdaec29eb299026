"""What a batch costs as it grows: bytes, calls to S3, CPU, memory and trigger rows of 100 to 50,000 requests.

``python -m bench.batch_scale [COUNT ...]``. The engine itself builds each record, round by round, against an API
and a bucket in memory, which counts what it is asked; so the bytes and calls are those of all stints. At the
start, in the middle, at the end, and with all reports running, the record is put into a real S3 server, and the
operator does one stint in a process of its own (:mod:`bench.batch_stint`). It fails where a limit does not hold.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.batch.attempt import Attempt, begin, resume
from airflow_provider_amzbiz.batch.head import Head, Target
from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed, StoredBytes
from airflow_provider_amzbiz.batch.plan import Place, plan_items
from airflow_provider_amzbiz.batch.record import Record, Stint
from airflow_provider_amzbiz.batch.round import Round
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.demo.airflow_server import airflow_settings
from airflow_provider_amzbiz.demo.s3_server import S3Server
from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.triggers.batch import BatchReady
from bench.batch_stint import BUCKET, KEY, MANIFEST_KEY, OWNER, requests_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COUNTS = (100, 1_000, 10_000, 50_000)
# Calls that one stint may make, as the limits give them.
HANDFUL = 10
# Stints that a report takes: half an hour, where a stint comes every 100 seconds.
RUNNING_STINTS = 18
PERMITS = {"createReport": HANDFUL, "getReportDocument": HANDFUL}
# Stints at the end of a record with all reports running that are a handful each.
_EXACT = 20
_NOW = datetime.now(timezone.utc)
# What must hold at so many requests.
LIMITED = 10_000
LIMITS = {
    "bytes written a request": 2048,
    # Without the wait in the triggerer, which is at least as long as Airflow needs to defer in good order.
    "seconds to the first create": 10.0,
    "seconds of CPU a stint": 0.5,
    "bytes of a trigger row": 60_000,
}


class MemoryBucket:
    """A bucket in memory with conditional writes, which counts."""

    def __init__(self) -> None:
        self.objects: dict[str, StoredBytes] = {}
        self.calls = self.written = 0

    def uri(self, key: str) -> str:
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> StoredBytes | None:
        self.calls += 1
        return self.objects.get(key)

    def put(self, key: str, body: bytes, *, content_type: str, **condition: str) -> str:
        self.calls += 1
        self.written += len(body)
        there = self.objects.get(key)
        if "IfNoneMatch" in condition and there is not None:
            raise PreconditionFailed
        if "IfMatch" in condition and (there is None or there.etag != condition["IfMatch"]):
            raise PreconditionFailed
        etag = f'"{self.calls}"'
        self.objects[key] = StoredBytes(body, etag, _NOW)
        return etag

    def copy_to(self, s3: S3Client) -> None:
        """Put everything into a real bucket, which is empty of records then."""
        with ThreadPoolExecutor(8) as pool:
            for put in [
                pool.submit(s3.put_object, Bucket=BUCKET, Key=key, Body=stored.body)
                for key, stored in self.objects.items()
            ]:
                put.result()


class Api:
    """The actions of a round, without a network: every report succeeds, and every document is stored."""

    def find_lost(self, item: Item) -> str | None:
        raise AssertionError("no process is lost here")

    def create(self, item: Item) -> tuple[str, bool]:
        # As long as those that Amazon gives, and not easier to compress.
        return str(50_000_000_000 + secrets.randbelow(10**9)), False

    def document_of(self, item: Item, report: Report) -> str | None:
        return report.report_document_id

    def store(self, item: Item, claim: Callable[[str], None]) -> list[dict[str, Any]]:
        key = KEY.format(invoiceId=item.request.options["invoiceId"])
        claim(key)
        return [
            {
                "uri": f"s3://{BUCKET}/{key}",
                "bytes": 50_000 + secrets.randbelow(10_000),
                "sha256": secrets.token_hex(32),
                "crc32": secrets.token_urlsafe(6),
                "content_type": "application/pdf",
            }
        ]

    def find_delivered(self, item: Item) -> list[dict[str, Any]] | None:
        return None

    def record_delivery(self, item: Item, objects: list[dict[str, Any]]) -> None:
        """There is no ledger."""


class Keys:
    """The rules of keys, which are tested elsewhere."""

    @staticmethod
    def check(parameter: str, key: str, known: Any) -> None:
        pass

    @staticmethod
    def check_values(where: str, key: str, values: Any) -> None:
        pass

    @staticmethod
    def render(key: str, values: Any) -> str:
        return key.format(**values)


@dataclass
class Batch:
    """A batch that is built.

    :param stints: that a report takes; 0 where none ends.
    """

    count: int
    stints: int
    bucket: MemoryBucket = field(default_factory=MemoryBucket)

    def __post_init__(self) -> None:
        place = Place(BUCKET, KEY, MANIFEST_KEY)
        planned = plan_items(
            requests_of(self.count),
            place,
            parse=lambda _, given: ReportRequest.of(
                given["report_type"], given["marketplace_ids"], report_options=given["report_options"]
            ),
            keys=Keys,
        )
        settings = {"s3_key": KEY, "content_type": None, "audit_key": None, "ledger": None}
        self._place = place
        self._running: deque[list[str]] = deque()
        self._ended: list[str] = []
        target = Target("0" * 32, "0" * 32, BUCKET)
        self.stint = begin(
            self._record,
            Attempt(planned, target, place, Keys, deadline=time.time() + 29 * 86_400, settings=settings),
        )

    @property
    def _record(self) -> Record:
        return Record(self.bucket, MANIFEST_KEY, OWNER)

    @property
    def head(self) -> Head:
        return self.stint.head

    def ended(self) -> list[str]:
        """Return the reports that the next stint hears of."""
        return self._ended[:HANDFUL]

    def go_on(self, creates: int = HANDFUL) -> Stint:
        """Do a stint, as a process of its own would."""
        record = self._record
        self.stint = resume(record, self.head.attempt, self.head.stint)
        before = set(self.stint.state.live)
        reports = [
            report_of(each, f"amzn1.tortuga.3.{uuid.uuid4()}.{secrets.token_hex(7)}") for each in self.ended()
        ]
        del self._ended[: len(reports)]
        Round(record, self.stint, self._place, Api()).run({**PERMITS, "createReport": creates}, reports, {})
        if self.stints:
            new = [item.report_id or "" for index, item in self.stint.state.live.items() if index not in before]
            self._running.append(new)
            while len(self._running) > (self.stints if self.stint.state.pending().creates else 0):
                self._ended += self._running.popleft()
        return self.stint

    def event(self, document_ids: Iterator[str]) -> dict[str, Any]:
        """Return what a trigger would report now."""
        reports = self.ended() or [item.report_id or "" for item in self.stint.state.pending().running[:HANDFUL]]
        record = {
            "bucket": BUCKET,
            "key": MANIFEST_KEY,
            "attempt": self.head.attempt,
            "stint": self.head.stint,
            "rotation": -1,
            "amazon_business_conn_id": "amazon_business_default",
            "aws_conn_id": "aws_default",
        }
        ready = BatchReady(record, PERMITS, [report_of(each, next(document_ids)) for each in reports], {})
        return ready.to_dict()


def report_of(report_id: str, document_id: str) -> Report:
    """Return a report that is DONE."""
    return Report(report_id, "GET_AB_INVOICE_PDF", "DONE", _NOW, report_document_id=document_id)


class Bench:
    """The servers, and what a stint is given."""

    def __init__(self, sandbox: Sandbox, s3: S3Server, home: str) -> None:
        limits = {name: [500, 500] for name in ("createReport", "getReports", "getReport", "getReportDocument")}
        connection = sandbox.connection
        connection["extra"] = {**connection["extra"], "rate_limits": json.dumps(limits)}
        self._client = s3.client()
        self._home = Path(home)
        self._environment = {
            **os.environ,
            **airflow_settings(self._home, self._home),
            "AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(s3.airflow_connection),
        }
        planted = [
            sandbox.add_report("GET_AB_INVOICE_PDF", report_options={"invoiceId": str(n)}) for n in range(10)
        ]
        self._documents = [sandbox.reports[each].document_id for each in planted]

    def measure(self, batch: Batch | None, count: int) -> dict[str, Any]:
        """Do one stint in a process of its own: that which begins the batch, or one that continues it."""
        self._empty()
        event = self._home / "event.json"
        event.unlink(missing_ok=True)
        if batch is not None:
            batch.bucket.copy_to(self._client)
            event.write_text(json.dumps(batch.event(iter(self._documents))))
        done = subprocess.run(
            [sys.executable, "-m", "bench.batch_stint", str(count), str(event)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return measured

    def _empty(self) -> None:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys: list[Any] = [{"Key": each["Key"]} for page in pages for each in page.get("Contents", [])]
        for start in range(0, len(keys), 1000):
            self._client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys[start : start + 1000]})


def measure(bench: Bench, count: int) -> dict[str, dict[str, Any]]:
    """Return the figures of a batch: in all, and of single stints."""
    found = {"execute": bench.measure(None, count)}
    batch = Batch(count, RUNNING_STINTS)
    while batch.stint.state.cursor < count // 2:
        batch.go_on()
    found["middle"] = bench.measure(batch, count)
    while batch.stint.state.unfinished > HANDFUL:
        batch.go_on()
    found["end"] = bench.measure(batch, count)
    while not batch.stint.state.is_finished:
        batch.go_on()
    batch.stint.complete()
    found["in all"] = {"written": batch.bucket.written, "calls": batch.bucket.calls}
    batch = Batch(count, 0)
    # Each stint reads all that runs: a handful at a time would take hours. The end of the record is exact.
    while (left := batch.stint.state.pending().creates) > HANDFUL:
        batch.go_on(max(HANDFUL, min(count // 100, left - _EXACT * HANDFUL)))
    found["all running"] = bench.measure(batch, count)
    return found


def show(count: int, found: dict[str, dict[str, Any]]) -> None:
    """Print the figures of a batch."""
    whole = found["in all"]
    written, calls = whole["written"] / count, whole["calls"] / count
    print(f"{count} requests: {written:.0f} B and {calls:.2f} calls to S3 a request")
    for name, each in found.items():
        if name != "in all":
            print(
                f"  {name:12}CPU {each['cpu']:.2f} s (rendering {each['rendering']:.3f}; start of the process "
                f"{each['start']:.2f} more), wall {each['wall']:.2f} s, "
                f"S3 {each['calls']} calls, {each['written'] / 1000:.1f} KB written, {each['read'] / 1000:.1f} KB "
                f"read, trigger row {each['row'] / 1000:.1f} KB, peak {each['peak']} MiB"
                + (f", first create after {each['first_create']:.2f} s" if each["first_create"] else ""),
                flush=True,
            )


def broken_limits(count: int, found: dict[str, dict[str, Any]]) -> list[str]:
    """Return which limits do not hold."""
    figures = {
        "bytes written a request": found["in all"]["written"] / count,
        "seconds to the first create": found["execute"]["first_create"],
        "seconds of CPU a stint": max(found[name]["cpu"] for name in ("middle", "all running")),
        "bytes of a trigger row": max(each["row"] for each in found.values() if "row" in each),
    }
    return [
        f"{name}: {figures[name]:.2f} is above {limit}" for name, limit in LIMITS.items() if figures[name] > limit
    ]


def main() -> None:
    """Measure, print, and check."""
    counts = [int(each) for each in sys.argv[1:]] or COUNTS
    broken = []
    with Sandbox(throttle=False) as sandbox, S3Server() as s3, tempfile.TemporaryDirectory() as home:
        s3.make_bucket(BUCKET)
        bench = Bench(sandbox, s3, home)
        for count in counts:
            found = measure(bench, count)
            show(count, found)
            broken += broken_limits(count, found) if count == LIMITED else []
    if broken:
        raise SystemExit("\n".join(["Limits that do not hold:", *broken]))


if __name__ == "__main__":
    main()
