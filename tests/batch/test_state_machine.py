"""Whatever happens to the processes of a batch: no report twice, nothing overwritten or lost, all counted."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_provider_amzbiz.batch import record, steps
from airflow_provider_amzbiz.batch.errors import RecordError, RecordTakenError
from airflow_provider_amzbiz.batch.head import COMPLETE
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed
from tests.batch.engine import Lost, Process, World

KEYS = ("d/{n}.pdf", "d/{index}.pdf", "d/{name}", "other/{n}.pdf")
EXAMPLES = 200
LISTS = st.lists(st.integers(0, 7), max_size=8)


class Batches(RuleBasedStateMachine):
    """One task through its attempts, with a process that may be lost, replaced or late at any step."""

    @initialize(key=st.sampled_from(KEYS), wanted=LISTS)
    def begin(self, key, wanted):
        self.world = World(key=key, wanted=wanted)
        self.process = Process(self.world)

    def _run(self, step):
        """Run a process to its wait or its end, whatever that is."""
        bucket, world = self.world.bucket, self.world
        try:
            step()
        except Lost:
            world.windows += 1
            self.process.deferred = None
        except RecordTakenError:
            pass
        finally:
            bucket.before = bucket.after = lambda key: None
            world.late_calls = 0
            world.on_search = world.on_create = world.created = world.on_store = lambda item: None

    @rule()
    def start_or_clear(self):
        self._run(self.process.execute)

    @rule(wanted=LISTS)
    def clear_with_another_list(self, wanted):
        self.world.wanted = wanted
        self._run(self.process.execute)

    @rule(key=st.sampled_from(KEYS))
    def clear_with_another_key(self, key):
        self.world.key = key
        self._run(self.process.execute)

    @precondition(lambda self: self.process.deferred)
    @rule(permits=st.integers(0, 4))
    def resume(self, permits):
        self._run(lambda: self.process.resume(permits))

    @precondition(lambda self: self.process.deferred)
    @rule()
    def resume_twice(self):
        """Airflow starts a second process for one event; the first one counts."""
        before = self.process.deferred
        self._run(self.process.resume)
        after = self.process.deferred
        created, self.process.deferred = len(self.world.made), before
        with pytest.raises(RecordError):
            self.process.resume()
        assert len(self.world.made) == created
        self.process.deferred = after

    @rule(write=st.integers(1, 12), written=st.booleans(), execute=st.booleans())
    def lose_a_process_at_a_write(self, write, written, execute):
        left = [write]

        def lose(key):
            left[0] -= 1
            if left[0] <= 0:
                raise Lost

        if written:
            self.world.bucket.after = lose
        else:
            self.world.bucket.before = lose
        self._run(self.process.execute if execute or not self.process.deferred else self.process.resume)

    @rule(write=st.integers(1, 12), execute=st.booleans())
    def lose_the_response_of_a_write(self, write, execute):
        """boto3 repeats it, and S3 refuses that."""
        left = [write]

        def lose(key):
            left[0] -= 1
            if left[0] == 0:
                raise PreconditionFailed

        self.world.bucket.after = lose
        deferred = self.process.deferred
        step = self.process.execute if execute or not deferred else self.process.resume
        try:
            step()
        finally:
            self.world.bucket.after = lambda key: None

    @precondition(lambda self: self.process.deferred)
    @rule(call=st.integers(1, 3), where=st.sampled_from(["on_search", "on_create", "created"]))
    def lose_a_process_that_creates(self, call, where):
        left = [call]

        def lose(item):
            left[0] -= 1
            if left[0] <= 0:
                raise Lost

        def lose_all(key):
            # Not even the end of the round is put on record.
            if left[0] <= 0:
                raise Lost

        self.world.bucket.before = lose_all
        setattr(self.world, where, lose)
        self._run(self.process.resume)

    @precondition(lambda self: self.process.deferred)
    @rule(call=st.integers(1, 3), where=st.sampled_from(["on_create", "created", "on_store"]))
    def replace_a_process_that_lives(self, call, where):
        """A new attempt begins and works while the old process is in the middle of something."""
        left, world, old = [call], self.world, self.process
        new = Process(world)

        def replace(item):
            left[0] -= 1
            if left[0] == 0:
                # It finds out at its next entry of the log, which may be after one more request.
                world.windows += where != "on_store"
                if not new.execute():
                    new.resume()
                # The old process sends it all the same.
                world.late_calls += where == "on_create"

        setattr(world, where, replace)
        self._run(old.resume)
        if left[0] <= 0:
            self.process = new

    @rule(which=st.integers(0, 30), status=st.sampled_from(["DONE", "DONE", "DONE", "FATAL", "CANCELLED"]))
    def a_report_ends(self, which, status):
        running = [each for each in self.world.made if each.status == "IN_PROGRESS"]
        if running:
            running[which % len(running)].status = status

    @rule()
    def all_reports_end(self):
        for each in self.world.made:
            if each.status == "IN_PROGRESS":
                each.status = "DONE"

    @rule(which=st.integers(0, 30), how=st.sampled_from(["gone", "damaged"]))
    def a_document_spoils(self, which, how):
        good = [each for each in self.world.made if each not in self.world.documents.values()]
        if good:
            good[which % len(good)].document = how

    @rule(count=st.integers(1, 4))
    def the_api_throttles(self, count):
        self.world.throttled = count

    @invariant()
    def no_promise_is_broken(self):
        if hasattr(self, "world"):
            assert self.world.violations == [], self.world.violations

    @invariant()
    def what_is_stored_is_there(self):
        if not hasattr(self, "process"):
            return
        found = self.process.manifest()
        if found is None or found[0].state != COMPLETE:
            return
        _, items = found
        keys = [each["uri"] for item in items for each in item["objects"] or ()]
        assert len(set(keys)) == len(keys), "two documents under one key"
        for item in items:
            assert (item["objects"] is not None) + (item["error"] is not None) + item["skipped"] == 1
            for each in item["objects"] or ():
                there = self.world.documents[each["uri"].removeprefix("s3://bucket/")]
                assert there.request == item["fingerprint"]
                assert there.report_id == item["report_id"]

    def teardown(self):
        if not hasattr(self, "process"):
            return
        self.world.throttled = 0
        before = self.world.bucket.bytes
        self.process.run_to_the_end()
        head, items = self.process.manifest()
        self.no_promise_is_broken()
        self.what_is_stored_is_there()
        assert head.state == COMPLETE
        assert {item["report_options"]["n"] for item in items} == set(map(str, self.world.wanted))
        assert sum(head.counts.values()) - head.counts["bytes"] - head.counts["permanent"] == len(items)
        assert self.world.bucket.bytes - before < 4000 + 4000 * (len(items) + 1)
        if self.world.key != "d/{name}":
            assert all(item["objects"] for item in items)


@pytest.mark.slow
def test_what_a_batch_promises_holds_whatever_happens(monkeypatch):
    # Small enough that these batches have several segments and plan parts, and one thread, so that a failure is
    # found again.
    monkeypatch.setattr(record, "CHUNK", 3)
    monkeypatch.setattr(record, "_DELTAS", 2)
    monkeypatch.setattr(steps, "MAX_WORKERS", 1)
    logging.disable(logging.CRITICAL)
    try:
        run_state_machine_as_test(
            Batches,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=25,
                deadline=None,
                derandomize=True,
                database=None,
                # Planted faults must be found within seconds; with Phase.shrink, a failure is easier to read.
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        logging.disable(logging.NOTSET)
