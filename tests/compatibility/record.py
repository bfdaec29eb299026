"""``python -m tests.compatibility.record``: what this version leaves behind, for all later ones to resume.

It writes a folder of the version's name, and refuses where there is one: what was released stays as it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz import __version__
from airflow_provider_amzbiz.demo.airflow_server import airflow_settings

HERE = Path(__file__).parent


def main() -> None:
    """Record."""
    folder = HERE / __version__
    if folder.exists():
        raise SystemExit(f"{folder} exists, and what was released does not change; raise the version first")
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(airflow_settings(Path(home), Path(home)))
        recorded = _record()
    folder.mkdir()
    for name, content in recorded.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def _record():
    from airflow_provider_amzbiz.demo.s3_server import S3Server
    from airflow_provider_amzbiz.sandbox import Sandbox
    from tests.compatibility.feeds import recorded_feed

    with Sandbox(throttle=False, queue_seconds=0, processing_seconds=0) as sandbox, S3Server() as server:
        limits = {name: [500, 500] for name in ("createReport", "getReports", "getReport", "getReportDocument")}
        connection = sandbox.connection
        connection["extra"] = {**connection["extra"], "rate_limits": json.dumps(limits)}
        os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(server.airflow_connection)
        server.make_bucket("tests")
        return {"waits": _waits(sandbox), **_batches(sandbox, server.client()), "feed": recorded_feed()}


def _waits(sandbox):
    from airflow_provider_amzbiz.sandbox import Fault
    from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger
    from tests.airflow_names import TaskDeferred
    from tests.compatibility.tasks import LINES, TASKS, THROTTLED
    from tests.deferring import context, events_of, rebuilt

    waits = {}
    make: Any
    for name, (make, mapped) in TASKS.items():
        task = make()
        report_id = None
        if hasattr(task, "report_id"):
            # Not ended yet, or there would be no wait.
            report_id = sandbox.add_report(LINES, status="DONE" if mapped else "IN_PROGRESS")
            task = make(report_id)
        if name in THROTTLED:
            operation, calls = THROTTLED[name]
            sandbox.inject(Fault(operation=operation, kind="status", status=429, after=calls, times=None))
        try:
            task.execute(context(map_index=0 if mapped else -1))
        except TaskDeferred as deferred:
            sandbox.clear_faults()
            for each in sandbox.reports.values():
                each.outcome = "DONE"
            (event,) = asyncio.run(events_of(rebuilt(deferred)))
            waits[name] = {
                "trigger": deferred.trigger.serialize(),
                "method": deferred.method_name,
                "event": event,
                "reports": []
                if mapped and report_id is None
                else [_described(next(reversed(sandbox.reports.values())))],
            }
    assert waits.keys() == TASKS.keys()
    waits["a watch"] = {"trigger": ReportsDoneTrigger(report_types=[LINES], poll_interval=1).serialize()}
    return waits


def _described(report):
    return {
        "report_id": report.report_id,
        "report_type": report.report_type,
        "report_options": report.report_options,
        "document_id": report.document_id,
        "outcome": report.outcome,
    }


def _batches(sandbox, s3):
    """Return a batch that waits, one whose worker is lost in a round, and a complete one."""
    from airflow_provider_amzbiz.batch import record, steps
    from airflow_provider_amzbiz.batch.record import Stint
    from airflow_provider_amzbiz.transfers.batch_actions import BatchActions
    from tests.compatibility.tasks import batch, objects_of

    fixed_account()
    sandbox.script(times=2)
    sandbox.script("FATAL")
    # So that the third request is the one that ends FATAL.
    steps.MAX_WORKERS = 1
    # So that there are a snapshot and segments, and deltas after them.
    record._DELTAS = 1
    step = _Steps(sandbox, lambda ctx, event: batch().execute_complete(ctx, event))
    step.first(lambda: batch().execute(step.context))
    step.next({"createReport": 4}, {"getReportDocument": 0}, reports=0)
    step.next({"createReport": 2}, {"getReportDocument": 1}, reports=3)
    record._DELTAS = 16
    step.next({"createReport": 1}, {"getReportDocument": 0}, reports=1)
    waiting = {**step.deferral(), "objects": objects_of(s3), "reports": step.reports()}

    lost, noted, copied = {}, [], threading.Event()
    note, create = Stint.note, BatchActions.create

    def note_and_copy(stint, item):
        note(stint, item)
        noted.append(item)
        if len(noted) == 2:
            lost.update(objects=objects_of(s3), reports=step.reports())
            copied.set()

    def create_or_be_late(actions, item):
        if item.request.options["invoiceId"] == "A-9":
            assert copied.wait(60)
        return create(actions, item)

    Stint.note, BatchActions.create = note_and_copy, create_or_be_late
    step.next({"createReport": 3}, {"getReportDocument": 0}, reports=0)
    Stint.note, BatchActions.create = note, create
    result = step.to_the_end()
    complete = {"result": result, "objects": objects_of(s3), "reports": step.reports()}
    head = json.loads(s3.get_object(Bucket="tests", Key=result["manifest"].split("/", 3)[3])["Body"].read())
    return {
        "batch_waiting": waiting,
        "batch_lost_worker": lost,
        "batch_complete": complete,
        "account": head["target"],
    }


def fixed_account(set_attribute=setattr):
    """Let the account of a sandbox be the same at each port and with all credentials."""
    from dataclasses import replace

    from airflow_provider_amzbiz.client.config import REGION_ENDPOINTS
    from airflow_provider_amzbiz.transfers import batch_actions

    target_of = batch_actions.target_of
    set_attribute(
        batch_actions,
        "target_of",
        lambda config, bucket: target_of(
            replace(config, endpoint=REGION_ENDPOINTS["na"], client_id="id", refresh_token="token"), bucket
        ),
    )


class _Steps:
    """The processes of the task, one after the other, with events that the script decides."""

    def __init__(self, sandbox, resume):
        from tests.deferring import context

        self.context = context()
        self._sandbox = sandbox
        self._resume = resume

    def first(self, execute):
        from tests.airflow_names import TaskDeferred

        try:
            execute()
        except TaskDeferred as deferred:
            self.deferred = deferred

    def next(self, *permits, reports):
        from airflow_provider_amzbiz.client.models import Report
        from airflow_provider_amzbiz.triggers.batch import BatchReady

        trigger = self.deferred.trigger
        running = [one.split(" ")[3] for one in trigger.running[1:]][:reports]
        ready = BatchReady(
            trigger.record,
            {name: count for each in permits for name, count in each.items()},
            [Report.from_api(self._sandbox.reports[each].to_api()) for each in running],
            {},
        )
        self.first(lambda: self._resume(self.context, ready.to_dict()))

    def deferral(self):
        """The row of the trigger, and the event that it gives."""
        from tests.deferring import events_of, rebuilt

        (event,) = asyncio.run(events_of(rebuilt(self.deferred)))
        trigger = self.deferred.trigger.serialize()
        return {"trigger": trigger, "method": self.deferred.method_name, "event": event}

    def reports(self):
        return [_described(each) for each in self._sandbox.reports.values() if each.report_options]

    def to_the_end(self):
        from tests.airflow_names import TaskDeferred

        while True:
            event = self.deferral()["event"]
            try:
                return self._resume(self.context, event)
            except TaskDeferred as deferred:
                self.deferred = deferred


if __name__ == "__main__":
    main()
