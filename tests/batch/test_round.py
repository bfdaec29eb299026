"""Single rounds: what they put on record when something comes between."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from unittest.mock import Mock

import pytest

from airflow_provider_amzbiz.batch import attempt, steps
from airflow_provider_amzbiz.batch.attempt import check_account, resume
from airflow_provider_amzbiz.batch.errors import (
    ItemError,
    NothingSent,
    RecordAccountError,
    RecordTakenError,
    ThrottledCall,
)
from airflow_provider_amzbiz.batch.parts import Log
from airflow_provider_amzbiz.batch.round import Round
from tests.batch.engine import Lost, Process, World


def started(count, **arguments):
    world = World(wanted=list(range(count)), **arguments)
    process = Process(world)
    assert not process.execute()
    return world, process


def live(process):
    head, _ = process.record().read()
    return process.record().load(head).live


def test_a_throttled_request_leaves_nothing():
    world, process = started(3)
    world.throttled = 3

    process.resume()

    assert world.made == []
    assert [item.sent_at for item in live(process).values()] == [None] * 3
    process.run_to_the_end()
    assert len(world.made) == 3


def test_what_is_sent_is_on_record_before_it_is_sent():
    world, process = started(1)
    seen = []

    def look(item):
        known = attempt._read(process.record())
        seen.append([each.sent_at for each in known.begun])

    world.on_create = look
    process.resume()
    assert seen[0][0] is not None


def test_a_reason_that_concerns_all_ends_the_round_and_keeps_what_was_created():
    world, process = started(12)
    refused = PermissionError("denied")

    def deny(item):
        if len(world.made) >= 2:
            raise NothingSent(refused)

    world.on_create = deny
    with pytest.raises(PermissionError):
        process.resume(10)

    items = live(process)
    assert {item.report_id for item in items.values()} - {None} == {each.report_id for each in world.made}
    assert all(item.sent_at is None for item in items.values() if item.report_id is None)


def test_an_item_that_fails_five_times_is_given_up():
    world, process = started(2)

    def fail(item):
        if item.index == 0:
            raise ItemError("503")

    world.on_create = fail
    for _ in range(20):
        for each in world.made:
            each.status = "DONE"
        if process.resume():
            break

    first, second = process.manifest()[1]
    assert (first["error"], first["permanent"], first["failures"]) == ("503", False, 5)
    assert second["objects"]
    world.on_create = lambda item: None
    process.run_to_the_end()
    assert [item["error"] for item in process.manifest()[1]] == [None, None]


def test_a_damaged_document_is_tried_twice_and_its_report_created_once_again():
    world, process = started(1)
    process.resume()
    world.made[0].status, world.made[0].document = "DONE", "damaged"
    for _ in range(5):
        process.resume()

    assert len(world.made) == 2
    (item,) = live(process).values()
    assert (item.report_id, item.recreations) == (world.made[1].report_id, 1)
    assert "r-0000: its document is damaged" in item.recreated

    # A second one that is damaged, too, is a failure of this attempt.
    world.made[1].status, world.made[1].document = "DONE", "damaged"
    for _ in range(10):
        if process.resume():
            break
    (failed,) = process.manifest()[1]
    assert failed["error"] == "damaged"
    process.run_to_the_end()
    assert process.manifest()[1][0]["objects"]


def test_a_new_attempt_begins_although_the_old_process_ends_its_turn_meanwhile(monkeypatch):
    world, process = started(9)
    new, read, turns = Process(world), attempt._read, []

    def slowly(record):
        known = read(record)
        if not turns:
            turns.append(True)
            process.resume()
        return known

    monkeypatch.setattr(attempt, "_read", slowly)
    assert not new.execute()

    with pytest.raises(RecordTakenError):
        process.resume()
    new.run_to_the_end()
    assert len(world.made) == 9


def test_a_new_attempt_begins_although_the_old_process_notes_a_report_meanwhile(monkeypatch):
    world, process = started(3)
    old = resume(process.record(), *process.deferred)
    (sent, *_) = process.record().planned(old.head, 0, 3)
    old.state.begin([sent])
    sent.sent_at = 1.0
    old.open([sent])
    new, read, noted = Process(world), attempt._read, []

    def slowly(record):
        known = read(record)
        if not noted:
            noted.append(True)
            sent.report_id = "late"
            old.note(sent)
        return known

    monkeypatch.setattr(attempt, "_read", slowly)
    assert not new.execute()

    assert {item.report_id for item in live(new).values()} >= {"late"}
    with pytest.raises(RecordTakenError):
        old.close()


def test_of_two_attempts_that_begin_at_the_same_time_one_ends(monkeypatch):
    world, process = started(3)
    process.resume()
    first, second, read, begun = Process(world), Process(world), attempt._read, []

    def slowly(record):
        known = read(record)
        if not begun:
            begun.append(True)
            assert not second.execute()
        return known

    monkeypatch.setattr(attempt, "_read", slowly)
    with pytest.raises(RecordTakenError):
        first.execute()
    second.run_to_the_end()
    assert len(world.made) == 3


def test_a_first_report_of_a_previous_attempt_that_is_fatal_is_created_again():
    world, process = started(1)
    process.resume()
    world.made[0].status = "FATAL"
    assert not process.execute()
    process.resume()
    process.resume()

    assert len(world.made) == 2
    assert "was FATAL" in next(iter(live(process).values())).recreated


def test_a_throttled_look_up_keeps_when_the_request_was_sent():
    world, process = started(1)
    item = None

    def lost(_):
        raise ThrottledCall("getReports", nothing_sent=False)

    world.on_create = lost
    process.resume()
    (item,) = live(process).values()
    assert item.sent_at is not None
    assert item.report_id is None


@pytest.mark.parametrize("end", [ThrottledCall("getReports", nothing_sent=True), ItemError("503"), Lost()])
def test_until_a_search_has_ended_the_record_keeps_when_the_request_was_sent(end):
    """Else the next search would be around another time, and not find what was created."""
    world, process = lost_before_it_sent(3)
    sent = {item.index: item.sent_at for item in attempt._read(process.record()).begun}
    assert None not in sent.values()
    assert not process.execute()

    def fail(item):
        if item.index == 1:
            world.bucket.before = raising(end) if isinstance(end, Lost) else world.bucket.before
            raise end

    world.on_search = fail
    with suppress(Lost):
        process.resume()

    world.bucket.before = lambda key: None
    known = {item.index: item for item in attempt._read(process.record()).begun} or live(process)
    assert (known[1].report_id, known[1].sent_at) == (None, sent[1])
    world.on_search = lambda item: None
    process.run_to_the_end()
    assert len(world.made) == 3


def raising(error):
    def fail(*_):
        raise error

    return fail


def test_a_report_is_given_up_for_another_one_only_if_amazon_no_longer_knows_it():
    world, process = started(2)
    process.resume()
    known, lost = (each.report_id for each in world.made)
    # Another attempt, for which both are reports of a previous one.
    process.execute()
    attempt, stint = process.deferred
    continued = resume(process.record(), attempt, stint)
    errors = {known: ItemError("403", permanent=True), lost: ItemError("404", permanent=True, gone=True)}

    Round(process.record(), continued, process.place(), world).run({"createReport": 0}, [], errors)

    denied, forgotten = continued.state.fresh[0], continued.state.live[1]
    assert (denied.report_id, denied.error) == (known, "403")
    assert (forgotten.report_id, forgotten.error) == (None, None)
    process.run_to_the_end()
    assert [item["report_id"] for item in process.manifest()[1]] == [known, world.made[2].report_id]
    assert len(world.made) == 3


@pytest.mark.parametrize("entry", range(2, 8))
def test_an_own_entry_that_was_stored_although_its_write_failed_is_no_other_process(entry, monkeypatch):
    """S3 stores an entry, its response is lost, and S3 stays unreachable for as long as boto3 tries."""
    # One thread, so that each report has an entry of its own; then come that of the end, and the head.
    monkeypatch.setattr(steps, "MAX_WORKERS", 1)
    world, process = started(4)
    entries = []

    def lose(key):
        entries.append(key)
        if len(entries) == entry:
            raise ConnectionError(key)

    world.bucket.after = lose
    with pytest.raises(ConnectionError):
        process.resume(permits=4)
    world.bucket.after = lambda key: None

    # A new attempt knows all that was created, whichever entry it was.
    known = attempt._read(process.record())
    assert {item.report_id for item in known.begun} - {None} == {each.report_id for each in world.made}
    process.run_to_the_end()
    assert len(world.made) == 4


def test_an_entry_of_another_process_ends_this_one_also_after_an_own_one():
    world, process = started(1)
    first, other = process.record(), process.record()
    log, theirs = Log(first.parts, 1), Log(other.parts, 1)
    world.bucket.after = Mock(side_effect=ConnectionError)
    with pytest.raises(ConnectionError):
        log.write({"0": {}}, 1)
    world.bucket.after = lambda key: None
    assert len(theirs.recover()) == 1
    theirs.write({}, 1)

    with pytest.raises(RecordTakenError):
        log.write({"0": {"sent_at": None}}, 1)


def test_an_attempt_continues_only_with_another_token_of_its_account():
    _, process = started(3)
    process.resume()
    attempt, stint = process.deferred
    continued = resume(process.record(), attempt, stint)
    begun = continued.head.target
    other_token = replace(begun, account="other")
    asked = []

    def knows(report_id):
        asked.append(report_id)
        return True

    check_account(continued, begun, knows, "conn")
    assert asked == []
    check_account(continued, other_token, knows, "conn")
    (report_id,) = asked
    assert report_id in {item.report_id for item in continued.state.live.values()}
    with pytest.raises(RecordAccountError, match="for account account, but .* 'conn' is of account other"):
        check_account(continued, other_token, lambda _: False, "conn")
    for now in (replace(other_token, application="other"), replace(other_token, bucket="other")):
        with pytest.raises(RecordAccountError):
            check_account(continued, now, knows, "conn")
    assert len(asked) == 1


def test_a_report_that_has_ended_tells_the_account_too():
    world, process = started(1)
    process.resume()
    world.made[0].status, world.wanted = "DONE", [0, 1]
    process.resume()
    process.execute()
    attempt, stint = process.deferred
    continued = resume(process.record(), attempt, stint)
    assert not any(item.report_id for item in continued.state.live.values())
    assert continued.newest_report() == world.made[0].report_id
    assert continued.newest_report(without=[world.made[0].report_id]) is None


@pytest.mark.parametrize(("key", "delivered"), [("d/{name}", "d/name-1.pdf"), ("d/{index}.pdf", "d/1.pdf")])
def test_what_another_run_delivers_meanwhile_is_not_overwritten(key, delivered):
    world = World(wanted=[2, 3], key=key)
    process = Process(world)
    assert not process.execute()
    world.deliver_elsewhere(2, delivered)

    process.run_on()

    assert world.violations == []
    assert world.documents[delivered].report_id == "of-another-run"
    two, three = process.manifest()[1]
    assert two["already_delivered"]
    assert three["permanent"]
    assert delivered in three["error"]
    assert "requests[0] (n=2)" in three["error"]


@pytest.mark.parametrize(
    ("key", "delivered", "failed"), [("d/{name}", "d/name-1.pdf", 1), ("d/{index}.pdf", "d/1.pdf", 0)]
)
def test_what_an_earlier_attempt_found_delivered_holds_no_key_once_it_is_forgotten(key, delivered, failed):
    world = World(wanted=[2, 3], key=key)
    process = Process(world)
    assert not process.execute()
    world.deliver_elsewhere(2, delivered)
    process.run_on()
    world.documents.clear()
    world.ledger.clear()

    process.run_to_the_end()

    assert world.violations == []
    items = process.manifest()[1]
    # Of two documents with one name, one has the key.
    assert sum(item["error"] is not None for item in items) == failed
    assert f"s3://bucket/{delivered}" in [item["uri"] for item in items]


def test_what_another_run_has_delivered_needs_no_report_although_a_lost_process_may_have_sent_it():
    world, process = lost_before_it_sent(3)
    for number in range(3):
        world.deliver_elsewhere(number, f"d/{number}.pdf")

    assert process.execute()

    assert world.made == []
    assert all(item["already_delivered"] and item["sent_at"] is None for item in process.manifest()[1])


def test_the_ledger_is_asked_before_a_request_that_may_have_been_sent_is_sent_again():
    world, process = lost_before_it_sent(3)
    assert not process.execute()
    for number in (0, 2):
        world.deliver_elsewhere(number, f"d/{number}.pdf")

    process.run_on()

    assert [each.key for each in world.made] == ["d/{n}.pdf"]
    assert [item["already_delivered"] for item in map(whole, process.manifest()[1])] == [True, False, True]
    assert world.violations == []


def whole(item):
    return {"already_delivered": False, **item}


def lost_before_it_sent(count):
    """A batch whose process was lost once it had put on record what it was about to send."""
    world, process = started(count)
    process.be_lost_before_it_sends(count)
    assert all(item.sent_at for item in attempt._read(process.record()).begun)
    return world, process
