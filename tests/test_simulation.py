"""The simulation of many accounts: that it computes with the provider's own code, and always the same."""

from __future__ import annotations

import random
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client import shared_bucket
from bench import shared_polls
from bench.script_server import ScriptServer
from bench.simulated_account import Account, Triggerer
from bench.simulated_batch import Batch, Machines
from bench.simulation import Scenario, calls_to_s3, first_to_break, run
from bench.virtual_time import Signal as VirtualSignal
from bench.virtual_time import Slots, VirtualTime, Wait
from tests.client.limit_stores import KEY, PLAN, timed_store
from tests.fuzzing import bounded

SMALL = Scenario(accounts=3, documents=10_000, triggerers=4, slots=3, hours=2)
ACTIONS = st.one_of(
    st.tuples(st.just("join"), st.integers(1, 15)),
    st.tuples(st.just("first"), st.integers(1, 3)),
    st.tuples(st.just("claim"), st.integers(0, 9)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("take"), st.integers(1, 15)),
    st.tuples(st.just("throttled"), st.integers(1, 60)),
    st.tuples(st.just("learn"), st.integers(1, 4)),
    st.tuples(st.just("show"), st.integers(0, 3)),
)


def arguments(action, number, joined):
    """Return an action's arguments for the script."""
    place, count, value, ticket = 0, 1, "", ""
    if action in ("join", "first"):
        ticket, count = f"t{len(joined)}", number
        place = -1 if action == "first" else 0
        joined.append((ticket, count))
    elif action in ("claim", "leave") and joined:
        ticket, count = joined[number % len(joined)]
        place = 1_700_000_000_000_000 + number
    elif action == "take":
        count = number
    elif action in ("throttled", "learn"):
        value = number / 2
    return ["join" if action == "first" else action, ticket, place, count, value, *PLAN, "", "", 0, None]


@bounded()
# A server's clock has microseconds, so these times are the same in both.
@given(st.lists(st.tuples(st.integers(0, 6000).map(lambda n: n / 64), ACTIONS), max_size=40))
def test_the_script_in_memory_replies_as_on_a_server(steps):
    server = timed_store()
    memory = ScriptServer(lambda: server.now)
    joined: list[tuple[str, int]] = []
    for seconds, (action, number) in steps:
        server.now += seconds
        given = arguments(action, number, joined)
        assert memory.call(KEY, given) == server.call(KEY, given), given
    assert memory.calls == len(steps)


def test_a_simulation_is_the_same_each_time():
    first = run(SMALL)
    assert run(SMALL) == first
    assert run(replace(SMALL, seed=18)) != first


def test_with_a_store_nobody_exceeds_the_limit_however_many_triggerers_there_are():
    shared, alone = (run(replace(SMALL, with_store=each)) for each in (True, False))
    assert shared["429 % of createReport"] < 1 < 10 < alone["429 % of createReport"]
    assert shared["worker s a document"] < alone["worker s a document"]
    # The rest of the two hours is what the first batches take to begin.
    assert 97 < shared["of possible %"] <= 100
    assert shared["Redis calls a document"] > 1
    assert alone["Redis calls a document"] == 0


def test_the_limit_of_the_api_breaks_first_and_then_the_workers():
    scenario = replace(SMALL, slots=1)
    factors = first_to_break(scenario, run(scenario))
    assert [name for _, name in factors][:2] == ["the limit of createReport", "worker slots"]
    assert factors[0][0] == pytest.approx(0.864)


def test_too_few_workers_delay_everything():
    crowd = replace(SMALL, accounts=20, with_store=False, hours=1)
    enough, too_few = (run(replace(crowd, slots=each)) for each in (20, 1))
    assert enough["slots held"] > 1.5
    assert too_few["slots held"] == pytest.approx(1.0, abs=0.1)
    assert too_few["wait for a slot p95 s"] > 10 * max(enough["wait for a slot p95 s"], 1.0)
    assert too_few["stored"] < enough["stored"]


def test_a_single_batch_takes_as_long_as_the_real_one():
    """``python -m bench.quota 1000`` has taken 173 minutes and 105 stints, with the real operator."""
    time = VirtualTime()
    machines = Machines(time, Slots(time, 1), [Triggerer(time)], random.Random(1))
    time.start(Batch(machines, Account(time, "account", None), "batch", 1000).run())
    with patch.object(shared_bucket, "time", time):
        time.run(4 * 3600)
    last = max(at for _, at in machines.stored)
    assert len(machines.stored) == 1000
    assert last / 60 == pytest.approx(173, rel=0.05)
    assert machines.stints == pytest.approx(105, rel=0.1)


def test_several_triggerers_know_later_that_a_report_has_ended_unless_one_reads_for_all():
    """``python -m bench.triggerers`` has measured 12, 39, 27 and 105 seconds with the real pollers."""
    alone, each_for_itself, one = (
        shared_polls.run(design, triggerers, 400) for design, triggerers in (("own", 1), ("own", 4), ("one", 4))
    )
    assert alone["median delay s"] == pytest.approx(12, abs=5)
    assert alone["p95 delay s"] == pytest.approx(39, abs=15)
    assert each_for_itself["median delay s"] == pytest.approx(27, abs=5)
    assert each_for_itself["p95 delay s"] > 2 * alone["p95 delay s"]
    assert one["p95 delay s"] < 1.5 * alone["p95 delay s"]


def test_the_engine_counts_its_calls_to_s3():
    assert 2 < calls_to_s3(50) < 6


def test_processes_run_in_the_order_of_their_times():
    time, seen = VirtualTime(), []
    signal = VirtualSignal(time)

    def process(name, *pauses):
        for pause in pauses:
            yield pause
            seen.append((name, time.now))

    def setter():
        yield 2.5
        signal.set()

    time.start(process("a", 1, 2))
    time.start(process("b", 1, Wait(signal, 10), Wait(signal, 0.5)))
    time.start(setter())
    time.run(5)
    assert seen == [("a", 1), ("b", 1), ("b", 2.5), ("a", 3), ("b", 3.0)]
    assert time.now == 5


def test_slots_are_given_in_the_order_of_asking():
    time, held = VirtualTime(), []
    slots = Slots(time, 2)

    def work(name):
        held.append((name, time.now))
        yield 10.0

    for name in range(4):
        time.start(slots.hold(work(name)))
    time.run(100)
    assert held == [(0, 0), (1, 0), (2, 10), (3, 10)]
    assert (slots.held_seconds, slots.most, slots.waits) == (40, 2, [0, 0, 10, 10])
