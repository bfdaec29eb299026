"""Any order of creating, polling, crashing, failing, cancelling and waiting keeps what is promised."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from airflow_provider_amzbiz.sandbox.throttle import PLANS
from tests.airflow_names import TaskDeferred
from tests.deferring import Store, context, events_of, rebuilt
from tests.processes import ProcessLost

TASKS = 3
# With options, a report whose id was lost cannot be found again.
OPTIONS = {2: {"rows": "1"}}
# Seconds by which a call may arrive late.
JITTER = 0.4
PLAN = "sandbox"
USELESS = ("CANCELLED", "FATAL")
# Seconds from the creation that a task waits for its report.
TIMEOUT = 3600.0

tasks = st.integers(0, TASKS - 1)


@dataclass
class Task:
    """One task of a DAG, which may be run in several processes one after the other.

    :ivar step: what a new process would run.
    :ivar deferred: what it waits for, if it does.
    :ivar handed_on: ids of reports that it returned.
    :ivar returned: the id that its last process returned, if it ended so.
    :ivar clears: how often it was cleared after it had succeeded.
    :ivar lost: reports with options whose id was lost, which nobody can find again.
    """

    number: int
    store: Store = field(default_factory=Store)
    step: Any = None
    deferred: TaskDeferred | None = None
    handed_on: set[str] = field(default_factory=set)
    returned: str | None = None
    clears: int = 0
    lost: int = 0
    ended: bool = True

    @property
    def start(self) -> str:
        return f"2026-01-{self.number + 1:02}T00:00:00+00:00"

    def operator(self) -> CreateReportOperator:
        return CreateReportOperator(
            task_id="create",
            report_type="SANDBOX_ORDER_LINES",
            data_start_time=self.start,
            data_end_time=f"2026-02-{self.number + 1:02}T00:00:00+00:00",
            report_options=OPTIONS.get(self.number),
            wait_for_completion=True,
            deferrable=True,
            poke_interval=0.05,
            timeout=TIMEOUT,
        )

    def begin(self) -> None:
        """Have the next process begin from the start."""
        self.clears += self.returned is not None
        self.deferred, self.ended, self.returned = None, False, None
        self.step = lambda operator: operator.execute(self.context())

    def context(self) -> dict[str, Any]:
        found: dict[str, Any] = context(self.store, max_tries=1 + self.clears, clear_number=self.clears)
        return found

    def work(self, operator: CreateReportOperator | None = None) -> None:
        """Run a process until it defers, ends or is lost."""
        try:
            report_id = self.step(operator or self.operator())
        except TaskDeferred as deferred:
            self.deferred = deferred
        except AmazonBusinessError:
            self.ended, self.deferred = True, None
        else:
            self.ended, self.deferred = True, None
            self.returned = report_id
            self.handed_on.add(report_id)

    def run_trigger(self, seconds: float) -> bool:
        """Let a triggerer run the trigger for a while; return whether an event came."""
        assert self.deferred
        trigger, method = rebuilt(self.deferred), self.deferred.method_name

        async def wait():
            return await asyncio.wait_for(events_of(trigger), seconds)

        try:
            (event,) = asyncio.run(wait())
        except TimeoutError:
            return False
        self.deferred = None
        self.step = lambda operator: getattr(operator, method)(self.context(), event)
        return True


class Reports(RuleBasedStateMachine):
    """Three tasks, one API, and everything that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.sandbox = Sandbox(plan=PLAN, queue_seconds=300, processing_seconds=300)
        self.sandbox.start()
        os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"] = json.dumps(self.sandbox.connection)
        self.tasks = [Task(number) for number in range(TASKS)]
        self.advanced = 0.0
        self.real_time = time.time
        time.time = lambda: self.real_time() + self.advanced

    def teardown(self) -> None:
        try:
            self._every_wait_ends()
        finally:
            time.time = self.real_time
            self.sandbox.stop()
            del os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"]

    @rule(number=tasks)
    def run_or_clear(self, number):
        """A first attempt, a retry after a lost process, or a cleared task."""
        task = self.tasks[number]
        if task.ended or task.deferred is None:
            task.begin()
            self._work(task)

    @rule(number=tasks, where=st.sampled_from(["before the request", "after the request", "after the record"]))
    def run_in_a_process_that_is_lost(self, number, where):
        task = self.tasks[number]
        if task.deferred is not None:
            return
        task.begin()
        operator = task.operator()
        send = operator._nonblocking_hook.send

        def lost(request, **more):
            if where == "before the request":
                raise ProcessLost
            report_id = send(request, **more)
            if where == "after the request":
                task.lost += bool(OPTIONS.get(number))
            else:
                durable_create.CreateRecord(task.context(), durable=True).save(request, report_id=report_id)
            raise ProcessLost

        operator._nonblocking_hook.send = lost
        with contextlib.suppress(ProcessLost):
            self._work(task, operator)

    @rule(number=tasks)
    def run_after_a_process_that_was_lost_before_its_success_was_stored(self, number):
        task = self.tasks[number]
        if task.returned is not None:
            task.handed_on.discard(task.returned)
            task.returned = None
            task.begin()
            self._work(task)

    @rule(number=tasks)
    def poll(self, number):
        """A triggerer runs for a moment, and is stopped where nothing has come."""
        task = self.tasks[number]
        if task.deferred is not None and task.run_trigger(0.4):
            self._work(task)

    def _work(self, task, operator=None):
        """Run a process of a task, and count the reports whose ids were lost."""
        reports, responses = len(self.sandbox.reports), self._responses_to_lose()
        try:
            task.work(operator)
        finally:
            # A fault that hit a request which was refused has lost nothing.
            hit = min(responses - self._responses_to_lose(), len(self.sandbox.reports) - reports)
            task.lost += hit if OPTIONS.get(task.number) else 0

    def _responses_to_lose(self) -> int:
        return sum(
            fault.operation == "createReport" and fault.kind in ("lost", "empty") for fault in self.sandbox.faults
        )

    @rule(number=tasks)
    def the_triggerer_is_lost_with_the_event(self, number):
        task = self.tasks[number]
        before, step = task.deferred, task.step
        if before is not None:
            task.run_trigger(0.4)
            task.deferred, task.step = before, step

    @rule(number=tasks)
    def a_person_ends_the_task(self, number):
        task = self.tasks[number]
        if task.deferred is not None:
            trigger = rebuilt(task.deferred)
            if hasattr(trigger, "on_kill"):
                asyncio.run(trigger.on_kill())
            task.ended, task.deferred = True, None

    @rule(outcome=st.sampled_from(["DONE", "CANCELLED", "FATAL"]), queue_seconds=st.sampled_from([0, 300, 36000]))
    def the_next_report_ends_as(self, outcome, queue_seconds):
        self.sandbox.script(outcome=outcome, queue_seconds=queue_seconds)

    @precondition(lambda self: self.sandbox.reports)
    @rule()
    def somebody_cancels_a_report(self):
        report = list(self.sandbox.reports.values())[-1]
        report.cancelled = report.cancelled or report.status == "IN_QUEUE"

    @rule(
        operation=st.sampled_from(["createReport", "getReport", "getReports", "cancelReport"]),
        fault=st.sampled_from(["lost", "drop", "empty", "expire_token", "status"]),
    )
    def the_api_fails(self, operation, fault):
        self.sandbox.inject(Fault(operation=operation, kind=fault))

    @rule(seconds=st.sampled_from([10, 400, TIMEOUT + 60]))
    def time_passes(self, seconds):
        self._pass(seconds)

    def _pass(self, seconds):
        self.advanced += seconds
        self.sandbox.clock.advance(seconds)

    @invariant()
    def at_most_one_live_report_for_each_task(self):
        for task in self.tasks:
            start = datetime.fromisoformat(task.start)
            live = [
                each.report_id
                for each in self.sandbox.reports.values()
                if each.data_start_time == start
                and each.status not in USELESS
                and each.report_id not in task.handed_on
            ]
            assert len(live) <= 1 + task.lost, live

    @invariant()
    def never_above_the_limit(self):
        for operation, (rate, burst) in PLANS[PLAN].items():
            tokens, last = float(burst), None
            for call in self.sandbox.calls:
                if call.operation != operation:
                    continue
                if last is not None:
                    tokens = min(tokens + (call.at - last).total_seconds() * rate, burst)
                tokens, last = tokens - 1, call.at
                # On a busy machine calls arrive closer together than they were sent. Below, the API is asked.
                assert tokens > -0.5 - rate * JITTER, operation
        assert not [call for call in self.sandbox.calls if call.status == 429]

    def _every_wait_ends(self) -> None:
        self.sandbox.clear_faults()
        for task in self.tasks:
            until = time.monotonic() + 30
            while not task.ended:
                assert time.monotonic() < until, f"task {task.number} does not end"
                if task.deferred is None:
                    task.begin()
                    self._work(task)
                elif task.run_trigger(2):
                    self._work(task)
                else:
                    self._pass(TIMEOUT + 60)


@pytest.mark.slow
def test_what_is_promised_holds_whatever_happens(monkeypatch):
    monkeypatch.setattr(durable_create, "LOOKUP_PAUSES", (0.02, 0.05))
    run_state_machine_as_test(
        Reports,
        settings=settings(
            max_examples=int(os.environ.get("EXAMPLES", "15")),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
