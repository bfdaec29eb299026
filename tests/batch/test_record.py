"""The record: who may write it, what it costs, and what is an error instead of a new beginning."""

from __future__ import annotations

import gzip
import json
from itertools import islice

import pytest

from airflow_provider_amzbiz.batch import record
from airflow_provider_amzbiz.batch.errors import (
    RecordDamagedError,
    RecordForeignError,
    RecordMissingError,
    RecordNewerError,
    RecordTakenError,
)
from airflow_provider_amzbiz.batch.head import COMPLETE, RUNNING
from airflow_provider_amzbiz.batch.record import Record
from tests.batch.engine import MANIFEST, Process, World


def started(count=5, **arguments):
    world = World(wanted=list(range(count)), **arguments)
    process = Process(world)
    assert not process.execute()
    return world, process


def finish(process, permits=10):
    for _ in range(10_000):
        for each in process.world.made:
            each.status = "DONE"
        if process.resume(permits):
            return
    raise AssertionError("the batch does not end")


def test_the_head_becomes_the_manifest():
    _, process = started()
    assert process.manifest()[0].state == RUNNING

    finish(process)

    head, items = process.manifest()
    assert head.state == COMPLETE
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4]
    assert head.counts["stored"] == 5
    assert head.counts["bytes"] == 35


def cost(count):
    world, process = started(count)
    finish(process)
    return world.bucket.bytes / count, world.bucket.writes / count


def test_what_is_written_for_a_request_does_not_grow_with_their_number():
    (small, _), (large, writes) = cost(200), cost(2000)

    assert large < 1.15 * small
    assert large < 2048
    assert writes < 2


def test_a_resume_reads_the_live_part_only():
    world, process = started(2000)
    reads, most = [], 0
    for _ in range(300):
        for each in world.made:
            each.status = "DONE"
        before = world.bucket.reads
        if process.resume(10):
            break
        most = max(most, world.bucket.reads - before)
        reads.append(world.bucket.reads - before)
    # The head and a part of the plan, once more for the events of the test, and deltas up to the next snapshot.
    assert most < 80
    assert sum(reads[-50:]) < 2 * sum(reads[30:80])


def test_no_segment_is_read_before_the_end():
    world, process = started(600)
    read = []
    find = world.bucket.get
    world.bucket.get = lambda key: (read.append(key), find(key))[1]
    finish(process)

    first = next(index for index, key in enumerate(read) if "segment-" in key)
    assert all("segment-" in key or ".parts/" not in key for key in read[first:])


def test_the_head_does_not_grow_with_what_is_finished(monkeypatch):
    monkeypatch.setattr(record, "_DELTAS", 1)
    monkeypatch.setattr(record, "NAMES", 8)
    world, process = started(300)
    sizes = []
    while not process.resume(permits=2):
        for each in world.made:
            each.status = "DONE"
        sizes.append(len(world.bucket.objects[MANIFEST].body))

    assert max(sizes[100:]) < sizes[20] + 400
    _, items = process.manifest()
    assert [item["index"] for item in items] == list(range(300))


def test_a_stint_costs_little_while_hundreds_of_reports_are_running(monkeypatch):
    monkeypatch.setattr(record, "_DELTAS", 4)
    world, process = started(600)
    deltas = []
    while process.record().read()[0].cursor < 600:
        process.resume(10)
        deltas.append(len(process.record().read()[0].deltas))

    assert len(deltas) == 60
    # What a resume reads beside the snapshot.
    assert max(deltas) < 10
    # To write all items again every fourth time would be 15 snapshots.
    assert sum("/snapshot-" in key for key in world.bucket.objects) < 10


@pytest.mark.parametrize("deltas", [1, 2, 7])
def test_merged_deltas_say_what_each_of_them_said(deltas, monkeypatch):
    monkeypatch.setattr(record, "_DELTAS", deltas)
    world, process = started(200)
    while process.record().read()[0].cursor < 200:
        process.resume(10)
    finished = iter(world.made)
    merged = 0
    while not process.resume(3):
        head, _ = process.record().read()
        merged = max(merged, sum(name.startswith("delta-") for name in head.deltas))
        for each in islice(finished, 3):
            each.status = "DONE"

    assert merged > 0
    head, items = process.manifest()
    assert head.counts["stored"] == 200
    # Reports are created at the same time, so in any order.
    assert sorted(item["report_id"] for item in items) == [each.report_id for each in world.made]
    targets = [world.by_id(item["report_id"]).target for item in items]
    assert targets == [item["objects"][0]["uri"].removeprefix("s3://bucket/") for item in items]


def test_a_retry_continues_with_what_is_on_record():
    world, process = started(30)
    process.resume(10)
    process.resume(10)
    created = {each.report_id for each in world.made}
    assert len(created) == 20

    assert not process.execute()
    finish(process)

    assert len(world.made) == 30
    assert created <= {item["report_id"] for item in process.manifest()[1]}


def test_another_process_of_the_same_event_is_refused_before_it_writes():
    world, process = started()
    before = process.deferred
    process.resume()
    process.deferred = before
    writes = world.bucket.writes

    with pytest.raises(RecordTakenError, match="written by another process"):
        process.resume()
    assert world.bucket.writes == writes


@pytest.mark.parametrize("owner", [{"run_id": "other"}, {"map_index": 1}, {"task_id": "x"}, {"dag_id": "x"}])
def test_another_owner_is_refused(owner):
    world, process = started()
    other = Record(world.bucket, MANIFEST, {**process.record().owner, **owner})

    with pytest.raises(RecordForeignError, match="cannot share a manifest: leave manifest_key out"):
        other.read()


def test_a_head_that_is_missing_is_no_new_beginning_once_a_request_was_sent():
    world, process = started()
    process.resume()
    del world.bucket.objects[MANIFEST]

    with pytest.raises(RecordMissingError, match=r"m/batch.json is missing, although .*parts/ shows"):
        process.execute()
    with pytest.raises(RecordMissingError):
        process.record().read()


def test_a_head_that_is_missing_before_anything_was_sent_is_a_new_beginning():
    world, process = started()
    del world.bucket.objects[MANIFEST]

    assert not process.execute()
    finish(process)
    assert len(world.made) == 5


@pytest.mark.parametrize("kind", ["plan", "log", "snapshot", "segment", "dropped"])
@pytest.mark.parametrize("damage", ["missing", "no gzip", "cut", "no JSON"])
def test_a_part_that_cannot_be_read_is_an_error_with_a_remedy(kind, damage, monkeypatch):
    monkeypatch.setattr(record, "_DELTAS", 2)
    world, process = started(60)
    process.world.wanted = list(range(1, 61))
    for _ in range(5):
        process.resume(3)
    process.execute()
    for each in world.made[:10]:
        each.status = "DONE"
    for _ in range(4):
        process.resume(3)
    head, _ = process.record().read()
    name = {
        "plan": head.plan[0],
        "log": head.deltas[0] if head.deltas else None,
        "snapshot": head.snapshot,
        "segment": head.segments[0] if head.segments else None,
        "dropped": head.dropped,
    }[kind]
    if name is None:
        process.resume(3)
        head, _ = process.record().read()
        name = {"log": head.deltas, "segment": head.segments}[kind][0]
    key = f"{MANIFEST}.parts/{name}.json.gz"
    whole = world.bucket.objects[key].body
    if damage == "missing":
        del world.bucket.objects[key]
    else:
        world.bucket.objects[key].body = {
            "no gzip": b"text",
            "cut": whole[: len(whole) // 2],
            "no JSON": gzip.compress(b"{"),
        }[damage]
    made = len(world.made)

    with pytest.raises((RecordMissingError, RecordDamagedError), match=f"{name}.* is .*: restore it"):
        process.execute()
    assert len(world.made) == made


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", RecordDamagedError),
        (b"[]", RecordDamagedError),
        (b'{"items": []}', RecordDamagedError),
        (b'{"version": 3}', RecordNewerError),
        (b'{"version": 1, "items": []}', RecordNewerError),
    ],
)
def test_what_is_no_head_is_refused(body, error):
    world, process = started()
    world.bucket.put(MANIFEST, body, content_type="")

    with pytest.raises(error, match="no manifest that this version can read"):
        process.execute()


def test_a_head_with_a_field_missing_is_damaged():
    world, process = started()
    content = json.loads(world.bucket.objects[MANIFEST].body)
    del content["plan"]
    world.bucket.put(MANIFEST, json.dumps(content).encode(), content_type="")

    with pytest.raises(RecordDamagedError, match="is damaged: restore"):
        process.execute()


@pytest.mark.parametrize("items", [None, [None], [{"index": 0}], "missing"])
def test_a_manifest_whose_items_are_damaged_is_no_new_beginning(items):
    world, process = started()
    finish(process)
    content = json.loads(world.bucket.objects[MANIFEST].body)
    content["items"] = items
    if items == "missing":
        del content["items"]
    world.bucket.put(MANIFEST, json.dumps(content).encode(), content_type="")

    with pytest.raises(RecordDamagedError, match="m/batch.json is damaged: restore"):
        process.execute()
