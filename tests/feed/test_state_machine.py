"""Runs that are killed at any write, doubled, late, or of windows long past: in the end, the books are right."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from tests.feed.test_company import NO_SHRINKING, world_of
from tests.feed.world import DAY, START, Killed

CURSOR = "ledger/feed/account/cursor.json"


class AnyRuns(RuleBasedStateMachine):
    """Days of a small company."""

    @initialize(seed=st.integers(0, 1000), marketplace=st.sampled_from(sorted(MARKETS)))
    def found(self, seed, marketplace):
        self.world = world_of(seed, 12, {marketplace}, days=4)
        self.runs = 0
        self.unfinished = None
        self.others = []

    @rule(hours=st.integers(1, 40))
    def wait(self, hours):
        self.world.clock.advance(hours * DAY / 24)

    @rule(writes=st.none() | st.integers(0, 25), after=st.booleans())
    def run(self, writes, after):
        """Begin a run, or continue the one that was killed."""
        if self.unfinished is None:
            self.runs += 1
            self.unfinished = f"run-{self.runs}"
        self.world.store.writes_left, self.world.store.kill_after_write = writes, after
        try:
            self.world.run(self.unfinished)
            self.unfinished = None
        except Killed:
            pass
        finally:
            self.world.store.writes_left = None

    @precondition(lambda self: self.unfinished is not None)
    @rule()
    def give_up(self):
        """Nobody ever retries the run that was killed."""
        self.unfinished = None

    @rule(deliver=st.booleans())
    def begin_another(self, deliver):
        """Another run begins at the same time, and goes as far as its plan or its documents."""
        begun = self.world.begin(f"other-{len(self.others)}-{self.runs}")
        plan = begun.plan(self.world.api, self.world.ledger)
        self.others.append((begun, plan, self.world.deliver(begun, plan) if deliver else None))

    @precondition(lambda self: self.others)
    @rule(data=st.data())
    def finish_another(self, data):
        begun, plan, outcomes = self.others.pop(data.draw(st.integers(0, len(self.others) - 1)))
        begun = self.world.feed.resume(begun.name)
        plan = begun.planned()
        if outcomes is None:
            outcomes = self.world.deliver(begun, plan)
        begun.finish(plan, outcomes, self.world.tables)

    # The first run of all decides where the feed begins, also if it is killed: what is before it is not read.
    @precondition(lambda self: CURSOR in self.world.store.objects)
    @rule(days=st.integers(0, 6), length=st.integers(0, 3))
    def read_an_old_window(self, days, length):
        start = START + days * DAY
        self.runs += 1
        self.world.run(f"run-{self.runs}", feed_start=start, feed_end=start + length * DAY)

    @invariant()
    def no_document_is_created_twice(self):
        if hasattr(self, "world"):
            named = [each for each in self.world.created if "invoiceId" in json.loads(each[1])]
            assert max(Counter(named).values(), default=1) == 1

    @invariant()
    def the_cursor_is_never_ahead(self):
        if hasattr(self, "world") and CURSOR in self.world.store.objects:
            cursor = json.loads(self.world.store.objects[CURSOR][0])
            assert (cursor["feed_end"] or "") <= self.world.clock.now().isoformat(timespec="microseconds")[
                :26
            ] + "Z"

    def teardown(self):
        if not hasattr(self, "world"):
            return
        if self.unfinished:
            self.world.run(self.unfinished)
        while self.world.clock.now() < self.world.company.end + DAY:
            self.world.clock.advance(DAY)
            self.runs += 1
            self.world.run(f"run-{self.runs}")
        self.world.check_books()


TestAnyRuns = AnyRuns.TestCase
TestAnyRuns.settings = settings(max_examples=20, stateful_step_count=12, deadline=None, phases=NO_SHRINKING)
