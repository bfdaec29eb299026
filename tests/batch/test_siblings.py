"""What a search in a listing must not take for the report of a request."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from airflow_provider_amzbiz.batch import record
from airflow_provider_amzbiz.batch.attempt import resume
from airflow_provider_amzbiz.batch.siblings import Siblings
from tests.batch.engine import Process, World


@dataclass
class Alike(World):
    """Requests that a listing shows alike: only their options differ, which ``-1`` has none of."""

    def requests(self):
        options = [{} if number < 0 else {"n": str(number)} for number in self.wanted]
        return [{"report_type": "T", "report_options": each} for each in options]


def siblings_of(process):
    at = process.record()
    stint = resume(at, *process.deferred)
    return Siblings(at, stint), stint.state


def test_the_ids_are_those_of_all_items_on_record(monkeypatch):
    monkeypatch.setattr(record, "CHUNK", 2)
    monkeypatch.setattr(record, "_DELTAS", 2)
    world = World(wanted=list(range(12)))
    process = Process(world)
    process.execute()
    for _ in range(3):
        process.resume()
        for each in world.made[:4]:
            each.status = "DONE"
    world.wanted = list(range(2, 13))
    process.execute()
    process.resume()

    siblings, state = siblings_of(process)

    assert state.counts.stored
    assert state.pending().running
    assert process.manifest()[0].dropped
    assert siblings.report_ids() == {each.report_id for each in world.made}


def test_the_record_is_not_read_unless_a_search_needs_it():
    world = World(wanted=list(range(12)))
    process = Process(world)
    process.execute()
    process.resume()
    at = process.record()
    stint = resume(at, *process.deferred)
    before = world.bucket.reads

    siblings = Siblings(at, stint)
    assert world.bucket.reads == before
    siblings.report_ids()
    read = world.bucket.reads
    siblings.report_ids()
    assert world.bucket.reads == read


@pytest.mark.parametrize(("wanted", "later", "confused"), [([-1, 1], [-1, 1], True), ([-1], [-1, 1], False)])
def test_a_request_that_looks_like_another_one_that_was_lost_is_not_searched_for(wanted, later, confused):
    process = lost_before_it_sent(Alike(wanted=wanted, key="d/{index}.pdf"))
    process.world.wanted = later
    process.execute()

    siblings, state = siblings_of(process)

    assert siblings.has_open_like(state.live[0]) == confused


def test_one_that_is_in_the_list_no_more_may_have_a_report_all_the_same():
    process = lost_before_it_sent(Alike(wanted=[-1, 1], key="d/{index}.pdf"))
    process.world.wanted = [-1]
    process.execute()

    siblings, state = siblings_of(process)

    assert siblings.has_open_like(state.live[0])


def lost_before_it_sent(world):
    process = Process(world)
    process.execute()
    process.be_lost_before_it_sends()
    return process
