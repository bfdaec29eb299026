"""A world for the engine of the batch: a bucket with conditional writes, an API and documents, all in memory."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from airflow_provider_amzbiz.batch.attempt import Attempt, begin, resume
from airflow_provider_amzbiz.batch.errors import ItemError, ThrottledCall
from airflow_provider_amzbiz.batch.head import Target
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed
from airflow_provider_amzbiz.batch.plan import Place, names, plan_items
from airflow_provider_amzbiz.batch.record import Record
from airflow_provider_amzbiz.batch.round import Round
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.transfers.batch_place import KeyRules
from airflow_provider_amzbiz.transfers.keys import render_key

OWNER = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1}
MANIFEST = "m/batch.json"


def request_of(given):
    return ReportRequest.of("T", ["A"], report_options=given["report_options"])


class Lost(BaseException):
    """Stands for a SIGKILL: nothing after it runs."""


@dataclass
class Stored:
    body: bytes
    etag: str


class Bucket:
    """Objects by key.

    :ivar before: called with the key before each write, and ``after`` after it; they may raise.
    """

    def __init__(self):
        self.objects = {}
        self.writes = 0
        self.bytes = 0
        self.reads = 0
        self.before = self.after = lambda key: None

    def uri(self, key):
        return f"s3://bucket/{key}"

    def get(self, key):
        self.reads += 1
        return self.objects.get(key)

    def put(self, key, body, *, content_type, **condition):
        self.before(key)
        there = self.objects.get(key)
        if "IfNoneMatch" in condition and there is not None:
            raise PreconditionFailed
        if "IfMatch" in condition and (there is None or there.etag != condition["IfMatch"]):
            raise PreconditionFailed
        self.writes += 1
        self.bytes += len(body)
        self.objects[key] = Stored(body, str(self.writes))
        self.after(key)
        return str(self.writes)

    def mentions(self, text):
        """Whether any object of the record has a text."""
        found = text.encode()
        return any(
            found in (gzip.decompress(each.body) if key.endswith(".gz") else each.body)
            for key, each in self.objects.items()
        )


@dataclass
class Made:
    """A report of the API.

    :ivar document: ``good``, ``damaged`` or ``gone``.
    """

    report_id: str
    request: str
    target: str
    key: str
    status: str = "IN_PROGRESS"
    document: str = "good"
    is_stray: bool = False

    @property
    def is_useful(self):
        return self.status in ("IN_PROGRESS", "DONE") and self.document == "good" and not self.is_stray


@dataclass
class World:
    """Everything outside of the engine.

    :ivar windows: calls that were under way when a process was lost or replaced, at most.
    :ivar duplicates: reports that were created although there was one that nobody knew of.
    :ivar late_calls: calls that are still sent by a process that was replaced.
    :ivar violations: of what is promised. Not raised: the end of the round would hide them.
    :ivar ledger: what other runs have delivered: objects by the identity of the request.
    :ivar asked: labels of the requests that the ledger was asked for.
    :ivar searched: identities of the requests that this process has searched the listing for.
    :ivar on_search: called before a search; it may raise.
    :ivar on_create: called before a report is created, and ``created`` after it; they may raise.
    """

    bucket: Bucket = field(default_factory=Bucket)
    made: list[Made] = field(default_factory=list)
    documents: dict[str, Made] = field(default_factory=dict)
    wanted: list = field(default_factory=list)
    key: str = "d/{n}.pdf"
    throttled: int = 0
    windows: int = 0
    duplicates: int = 0
    late_calls: int = 0
    late: bool = False
    violations: list[str] = field(default_factory=list)
    ledger: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    searched: set[str] = field(default_factory=set)
    on_search: Any = lambda item: None
    on_create: Any = lambda item: None
    created: Any = lambda item: None
    on_store: Any = lambda item: None

    def requests(self):
        return [{"report_type": "T", "report_options": {"n": str(each)}} for each in self.wanted]

    def by_id(self, report_id):
        return next(each for each in self.made if each.report_id == report_id)

    # What a round does outside.

    def find_lost(self, item):
        self.on_search(item)
        self.searched.add(item.identity)

    def create(self, item):
        self.on_create(item)
        if self.throttled:
            self.throttled -= 1
            raise ThrottledCall("createReport", nothing_sent=True)
        target = render_key(item.key, {**names(item), "index": "i", "name": "x"})
        useful = [
            each for each in self.made if (each.request, each.target) == (item.identity, target) and each.is_useful
        ]
        self.late = False
        if useful:
            self._created_twice(item, useful)
        made = Made(f"r-{len(self.made):04d}", item.identity, target, item.key)
        made.is_stray = self.late
        self.made.append(made)
        self.created(item)
        return made.report_id, False

    def _created_twice(self, item, useful):
        if self.late_calls:
            # It was under way when its process was replaced, so that nobody will know of it.
            self.late_calls -= 1
            self.late = True
        elif any(self.bucket.mentions(each.report_id) for each in useful):
            self.violations.append(f"{item.label} is created twice, although its report is on record")
        elif item.identity not in self.searched:
            self.violations.append(f"{item.label} is created twice, and nobody has searched for the first report")
        else:
            # The id was lost with a process: the window that the docs name.
            self.duplicates += 1
            for each in useful:
                each.is_stray = True
            if self.duplicates > self.windows:
                self.violations.append("more ids are lost than calls were under way")

    def document_of(self, item, report):
        made = self.by_id(report.report_id)
        if made.status != "DONE":
            raise ItemError(f"{report.report_id} ended {made.status}", permanent=True)
        return f"doc-{made.report_id}"

    def store(self, item, claim):
        self.on_store(item)
        made = self.by_id(item.report_document_id.removeprefix("doc-"))
        if made.document == "gone":
            raise ItemError("404", permanent=True, gone=True)
        if made.document == "damaged":
            raise ItemError("damaged", damaged=True)
        number = int(item.request.options["n"])
        key = render_key(item.key, {**names(item), "name": f"name-{number // 2}.pdf"})
        claim(key)
        there = self.documents.get(key)
        if there is not None and there.request != made.request:
            active = {
                ReportRequest.of("T", ["A"], report_options={"n": str(each)}).fingerprint for each in self.wanted
            }
            # Under another template, it is no document of this list.
            if there.request in active and there.key == item.key:
                self.violations.append(f"{key} of another request is overwritten")
        self.documents[key] = made
        return [
            {"uri": f"s3://bucket/{key}", "bytes": 7, "sha256": made.report_id, "crc32": "", "content_type": ""}
        ]

    def find_delivered(self, item):
        self.asked.append(item.label)
        return self.ledger.get(item.identity)

    def load_delivered(self, items):
        """What the ledger has when an attempt begins."""
        found = {item.identity: self.find_delivered(item) for item in items}
        return {identity: objects for identity, objects in found.items() if objects is not None}

    def deliver_elsewhere(self, number, key):
        """Another run delivers a request, whose document it has stored under a key."""
        identity = request_of({"report_options": {"n": str(number)}}).fingerprint
        self.documents[key] = Made("of-another-run", identity, "", self.key, "DONE")
        self.ledger[identity] = [
            {"uri": f"s3://bucket/{key}", "bytes": 7, "sha256": "of-another-run", "crc32": "", "content_type": ""}
        ]

    def record_delivery(self, item, objects):
        pass


class Process:
    """A task, from process to process."""

    def __init__(self, world):
        self.world = world
        self.deferred = None
        self.attempts = 0
        self.stints = 0

    def record(self):
        return Record(self.world.bucket, MANIFEST, OWNER)

    def place(self):
        return Place("bucket", self.world.key, MANIFEST)

    def execute(self):
        """Begin an attempt; True when the batch is complete."""
        self.attempts += 1
        self.deferred = None
        items = plan_items(
            self.world.requests(),
            self.place(),
            parse=lambda _, given: request_of(given),
            keys=KeyRules,
        )
        target = Target("account", "application", "bucket")
        attempt = Attempt(
            items, target, self.place(), KeyRules, deadline=1e12, delivered=self.world.load_delivered
        )
        return self._wait(begin(self.record(), attempt))

    def event(self):
        """What the trigger would report now: the reports that have ended."""
        head, _ = self.record().read()
        state = self.record().load(head)
        ended = []
        for item in state.pending().running:
            made = self.world.by_id(item.report_id)
            if made.status != "IN_PROGRESS":
                now = datetime.now(timezone.utc)
                ended.append(Report(made.report_id, "T", made.status, now))
        return ended

    def resume(self, permits=3):
        """Continue after a wait; True when the batch is complete."""
        attempt, stint = self.deferred
        reports = self.event()
        self.stints += 1
        record = self.record()
        continued = resume(record, attempt, stint)
        self.world.searched = set()
        count = {"createReport": permits, "getReportDocument": permits}
        Round(record, continued, self.place(), self.world).run(count, reports, {})
        return self._wait(continued)

    def be_lost_before_it_sends(self, permits=3):
        """Continue after a wait, and be lost once what is about to be sent is on record."""
        bucket = self.world.bucket

        def lose(key):
            if "log-" in key:
                # Not even the end of the round is put on record.
                bucket.before = lose
                raise Lost

        bucket.after = lose
        try:
            self.resume(permits)
        except Lost:
            bucket.before = bucket.after = lambda key: None
        else:
            raise AssertionError("nothing was put on record")

    def _wait(self, stint):
        state = stint.state
        counted = state.counts.finished + len(state.live) + state.planned - state.cursor
        assert counted == state.requested, "the counts do not add up"
        if state.is_finished:
            stint.complete()
            self.deferred = None
            return True
        self.deferred = stint.head.attempt, stint.head.stint
        return False

    def manifest(self):
        """The head and, where the batch is complete, its items."""
        found = self.record().read()
        return found if found is None else (found[0], found[1].get("items"))

    def run_to_the_end(self):
        """Run healthy processes until the batch is complete."""
        if not self.execute():
            self.run_on()

    def run_on(self):
        """Continue with healthy processes until the batch is complete."""
        done = False
        for _ in range(200):
            if done:
                return
            for each in self.world.made:
                each.status = "DONE" if each.status == "IN_PROGRESS" else each.status
            done = self.resume()
        raise AssertionError("the batch does not end")
