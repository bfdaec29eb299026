"""Windows, the cursor, and runs that are repeated, doubled or killed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents.errors import WorkerError
from airflow_provider_amzbiz.feed.errors import FeedStateError
from airflow_provider_amzbiz.feed.run import FeedSettings
from airflow_provider_amzbiz.feed.state import FeedState, run_name
from tests.feed.test_company import world_of
from tests.feed.world import DAY, KEY, START, Killed, RowsApi, World, charge, invoice, line

CURSOR = "ledger/feed/account/cursor.json"


@pytest.fixture
def world():
    transactions = [
        charge(f"T{n}", line(f"O{n}", shipment="S1" if n % 3 else None), feed_date=START + n * DAY / 4)
        for n in range(8)
    ]
    details = {(f"O{n}", "L1", "S1"): [invoice(f"N{n}")] for n in range(8)}
    found = World(RowsApi(transactions, details))
    found.clock.advance(2 * DAY)
    return found


def windows(world):
    return [each for each in world.api.asked if isinstance(each[0], datetime)]


def cursor(world):
    return datetime.fromisoformat(json.loads(world.store.objects[CURSOR][0])["feed_end"])


def test_the_first_run_begins_at_the_data_interval_and_the_next_ones_before_the_cursor(world):
    world.run("first")
    world.clock.advance(DAY)
    world.run("second")
    # A day is missed, and caught up.
    world.clock.advance(2 * DAY)
    world.run("third")
    ends = [START + 2 * DAY, START + 3 * DAY, START + 5 * DAY]
    starts = [START - DAY, ends[0] - 3 * DAY, ends[1] - 3 * DAY]
    assert windows(world) == list(zip(starts, ends, strict=True))
    assert cursor(world) == ends[-1]


def test_a_second_run_of_a_day_creates_nothing(world):
    first, _ = world.run("first")
    created = list(world.created)
    second, _ = world.run("second")
    assert world.created == created
    assert second["landed"] == 0
    assert (second["requested"], second["already_delivered"]) == (first["requested"], first["landed"])
    assert second["open_items"] == first["open_items"]


def test_a_cleared_task_runs_again_and_writes_files_of_its_own(world):
    world.run("run")
    world.clock.advance(DAY)
    world.run("run")
    assert len(world.tables.marks) == 2
    assert len(world.created) == 5


def test_a_cleared_task_returns_the_files_of_its_earlier_runs_too(world):
    results = []
    for _ in range(3):
        results.append(world.run("run")[0])
        world.clock.advance(DAY)
    files = [f"s3://bucket/tables/documents/{name}" for name in sorted(world.tables.marks)]
    assert [result["tables"]["documents"] for result in results] == [files[:1], files[:2], files]
    # A file of its own in each marker, and other tasks have files of their own.
    assert [len(mark["tables"]["documents"]) for mark in world.tables.marks.values()] == [1, 1, 1]
    other, _ = world.run("other")
    assert all(len(uris) == 1 for uris in other["tables"].values())


def test_a_retry_keeps_its_window_and_its_plan(world):
    begun = world.begin("run")
    plan = begun.plan(world.api, world.ledger)
    world.clock.advance(9 * DAY)
    world.api.transactions.clear()
    again = world.begin("run", feed_start=START - 9 * DAY, feed_end=START)
    assert again.window == begun.window
    assert again.plan(world.api, world.ledger).batch_requests() == plan.batch_requests()
    assert again.planned().batch_requests() == plan.batch_requests()
    assert len(windows(world)) == 1


def test_two_processes_of_one_run_have_one_plan(world):
    one, two = world.begin("run"), world.begin("run")
    plans = []

    class Slow(RowsApi):
        """While this one reads, the other is done reading."""

        def get_transactions(self, *window):
            plans.append(two.plan(world.api, world.ledger))
            yield from []

    plan = one.plan(Slow(), world.ledger)
    assert plan.batch_requests() == plans[0].batch_requests() != []


def test_a_window_in_the_past_leaves_the_cursor(world):
    world.run("first")
    before = cursor(world)
    world.run("old", feed_start=START - 90 * DAY, feed_end=START - 60 * DAY)
    assert cursor(world) == before


def test_a_window_after_a_gap_leaves_the_cursor_so_that_nothing_between_is_lost(world, caplog):
    world.run("first")
    before = cursor(world)
    world.clock.advance(10 * DAY)
    world.run("gap", feed_start=START + 9 * DAY)
    assert cursor(world) == before
    assert "the cursor stays" in caplog.text
    world.run("next")
    assert windows(world)[-1][0] == before - 3 * DAY


def test_days_whose_runs_fail_before_the_first_success_are_read_by_it(world):
    # They fail in the middle, as those of an account without the role do.
    for day in range(3):
        world.begin(f"day-{day}", first_start=START + day * DAY)
        world.clock.advance(DAY)
    world.run("day-3", first_start=START + 3 * DAY)
    assert windows(world) == [(START, START + 5 * DAY)]
    assert cursor(world) == START + 5 * DAY


def test_an_earlier_start_counts_until_the_first_success(world):
    world.begin("first", first_start=START)
    world.begin("backfill", feed_start=START - 9 * DAY)
    world.begin("third", first_start=START + DAY)
    begun = world.begin("fourth", first_start=None)
    assert begun.window.start == START - 9 * DAY
    world.run("earlier", first_start=START - 10 * DAY)
    assert windows(world)[0][0] == START - 10 * DAY
    # From here on, the cursor counts.
    world.run("next", first_start=START - 20 * DAY)
    assert windows(world)[1][0] == cursor(world) - 3 * DAY


def test_a_later_window_before_the_first_success_skips_nothing(world, caplog):
    world.begin("first", first_start=START)
    world.clock.advance(DAY)
    world.run("later", feed_start=START + 2 * DAY)
    assert "the cursor stays" in caplog.text
    world.run("next", first_start=START + 3 * DAY)
    assert windows(world)[1][0] == START
    assert {f"N{n}" for n in (1, 2, 4, 5, 7)} == {row["document_number"] for row in world.tables.documents}


def test_a_window_may_be_given_as_templates_render_it(world):
    world.run("run", feed_start="2026-09-30T00:00:00+00:00", feed_end=str(START))
    assert windows(world) == [(START - DAY, START)]


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"feed_start": START, "feed_end": START - DAY}, "must begin before it ends"),
        ({"feed_start": "yesterday"}, "feed_start"),
        ({"feed_end": "2026-10-01T00:00:00"}, "feed_end.*offset"),
        ({"first_start": None}, "no cursor yet and the run has no data interval"),
    ],
)
def test_windows_that_are_refused(world, window, said):
    with pytest.raises(InvalidParameterError, match=said):
        world.begin("run", **window)
    assert world.store.objects == {}


@pytest.mark.parametrize("off", [-40 * DAY, -DAY, DAY, 40 * DAY])
def test_a_clock_that_is_off_for_one_run_loses_nothing(world, off):
    real = world.clock
    world.run("first")
    real.advance(DAY)

    def wrong():
        return real.now() + off

    feed = type(world.feed)(world.feed._state, world.settings, clock=wrong)
    begun = feed.begin({"dag_id": "d", "run_id": "off", "task_id": "t", "map_index": -1}, first_start=START - DAY)
    plan = begun.plan(world.api, world.ledger)
    begun.finish(plan, world.deliver(begun, plan), world.tables)
    assert cursor(world) <= real.now()
    # What comes after the wrong clock's run is found by the next one.
    world.api.transactions.append(charge("T9", line("O9"), feed_date=real.now() + timedelta(hours=1)))
    world.api.details["O9", "L1", "S1"] = [invoice("N9")]
    real.advance(DAY)
    world.run("right")
    assert "N9" in {row["document_number"] for row in world.tables.documents}


def test_feed_dates_may_be_late_within_the_overlap(world):
    world.run("first")
    late = charge("T9", line("O9"), feed_date=START + 2 * DAY - timedelta(days=2, hours=23))
    world.api.transactions.append(late)
    world.api.details["O9", "L1", "S1"] = [invoice("N9")]
    world.clock.advance(DAY)
    world.run("second")
    assert "N9" in {row["document_number"] for row in world.tables.documents}


def test_two_runs_at_once_lose_no_open_line_and_no_cursor(world):
    one = world.begin("one", feed_end=START + DAY)
    two = world.begin("two")
    plans = [each.plan(world.api, world.ledger) for each in (one, two)]
    two.finish(plans[1], world.deliver(two, plans[1]), world.tables)
    one.finish(plans[0], world.deliver(one, plans[0]), world.tables)
    assert cursor(world) == START + 2 * DAY
    assert len(world.created) == len(set(world.created)) == 5
    result, _ = world.run("three", feed_start=START + 2 * DAY, feed_end=START + 2 * DAY)
    # Those of both, and they are asked for although no window has them.
    assert result["open_items"] == 3


def test_a_run_that_ends_days_later_loses_no_refund_of_an_order_line_that_was_open_already():
    world = World(RowsApi([charge("R1", line("O1"), kind="REFUND")], {}))
    world.clock.advance(DAY)
    world.run("first")
    late = world.begin("late")
    late.plan(world.api, world.ledger)
    world.clock.advance(DAY)
    world.api.transactions.append(charge("R2", line("O1"), kind="REFUND", feed_date=START + DAY * 3 / 2))
    world.run("second")
    plan = late.planned()
    for day in range(4):
        world.clock.advance(DAY)
        world.run(f"day-{day}")
    late.finish(plan, world.deliver(late, plan), world.tables)
    world.run("next")
    assert [row["transaction_ids"] for row in world.tables.open_items] == [["R1", "R2"]]


def test_two_runs_that_write_the_cursor_at_once_lose_no_open_line(world, monkeypatch):
    one = world.begin("one", feed_end=START + DAY)
    two = world.begin("two")
    plans = [each.plan(world.api, world.ledger) for each in (one, two)]
    delivered = [world.deliver(each, plan) for each, plan in zip((one, two), plans, strict=True)]
    write, turns = FeedState.write_cursor, []

    def write_after_the_other(state, after, etag):
        if not turns:
            turns.append(True)
            two.finish(plans[1], delivered[1], world.tables)
        return write(state, after, etag)

    monkeypatch.setattr(FeedState, "write_cursor", write_after_the_other)
    one.finish(plans[0], delivered[0], world.tables)
    assert cursor(world) == START + 2 * DAY
    result, _ = world.run("three", feed_start=START + 2 * DAY, feed_end=START + 2 * DAY)
    assert result["open_items"] == 3


def test_a_run_that_nobody_finishes_hides_none_of_its_documents(world):
    begun = world.begin("lost")
    plan = begun.plan(world.api, world.ledger)
    world.deliver(begun, plan)
    created = list(world.created)
    assert world.tables.documents == []
    result, _ = world.run("next")
    assert world.created == created
    assert result["already_delivered"] == 5
    assert sorted(row["document_number"] for row in world.tables.documents) == ["N1", "N2", "N4", "N5", "N7"]
    assert {row["report_id"] for row in world.tables.documents} == {f"R{n}" for n in range(1, 6)}


def without_times(world, name):
    """Return a table's rows without what tells one run from another."""
    rows = [
        {key: value for key, value in row.items() if not key.endswith("_at") and key != "times_asked"}
        for row in getattr(world.tables, name)
    ]
    return sorted(rows, key=json.dumps)


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_a_run_that_is_killed_at_any_write_comes_to_the_same(world, after):
    expected = World(world.api)
    expected.clock.advance(2 * DAY)
    result, _ = expected.run("run")
    for writes in range(expected.store.writes):
        killed = World(world.api)
        killed.clock.advance(2 * DAY)
        killed.store.writes_left, killed.store.kill_after_write = writes, after
        with pytest.raises(Killed):
            killed.run("run")
        killed.store.writes_left = None
        again, _ = killed.run("run")
        assert len(killed.created) == len(expected.created)
        assert killed.tables.upserted("documents", "object_uri").keys() == {
            (row["object_uri"],) for row in expected.tables.documents
        }
        for name in ("lines", "transactions", "open_items"):
            assert without_times(killed, name) == without_times(expected, name), (name, writes)
        assert cursor(killed) == cursor(expected)
        assert again["open_items"] == result["open_items"]


def test_tables_come_before_the_cursor_and_the_marker_after_the_tables(world):
    world.run("run")
    order = list(world.store.objects)
    tables = [order.index(key) for key in order if key.startswith("tables/") and "_SUCCESS" not in key]
    (mark,) = [order.index(key) for key in order if "_SUCCESS" in key]
    assert max(tables) < mark < order.index(CURSOR)


def test_files_sort_in_the_order_of_the_runs(world):
    for name in ("z", "a", "m"):
        world.run(name)
        world.clock.advance(timedelta(seconds=1))
    files = sorted(world.tables.files["documents"])
    assert [world.tables.marks[each]["run_id"] for each in files] == ["z", "a", "m"]


@pytest.mark.parametrize("off", [-10 * DAY, 10 * DAY])
def test_files_sort_in_the_order_of_the_runs_although_one_is_told_another_time(world, off):
    for name, by in (("z", timedelta()), ("a", off), ("m", timedelta())):
        feed = type(world.feed)(world.feed._state, world.settings, clock=lambda by=by: world.clock.now() + by)
        begun = feed.begin({"dag_id": "d", "run_id": name, "task_id": "t"}, feed_start=START, feed_end=START)
        begun.finish(begun.plan(world.api, world.ledger), {}, world.tables)
        world.clock.advance(timedelta(seconds=1))
    files = sorted(world.tables.files["documents"])
    assert [world.tables.marks[each]["run_id"] for each in files] == ["z", "a", "m"]


def test_what_is_written_grows_with_what_is_new(world):
    sizes = []
    for day in range(40):
        before = world.store.bytes_written
        world.run(f"run-{day}")
        sizes.append(world.store.bytes_written - before)
        world.clock.advance(DAY)
    assert max(sizes[10:]) < 2 * max(sizes[:10])


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"not json", b'{"version": 2}', b'{"version": 1, "account": "b"}']
)
def test_a_cursor_that_cannot_be_used_stops_the_feed(world, body):
    world.store.put(CURSOR, body, content_type="")
    with pytest.raises(FeedStateError, match="cursor.json") as caught:
        world.begin("run")
    assert caught.value.permanent


@pytest.mark.parametrize("damage", [None, b"damaged"])
def test_a_part_that_cannot_be_used_stops_the_run(world, damage):
    begun = world.begin("run")
    begun.plan(world.api, world.ledger)
    (part,) = [key for key in world.store.objects if "/requests-" in key]
    del world.store.objects[part]
    if damage:
        world.store.put(part, damage, content_type="")
    with pytest.raises(FeedStateError, match="missing" if damage is None else "damaged"):
        world.begin("run").planned()


def test_a_run_without_its_plan_cannot_be_resumed_as_planned(world):
    begun = world.begin("run")
    with pytest.raises(FeedStateError, match=r"plan\.json is missing"):
        world.feed.resume(begun.name).planned()
    with pytest.raises(FeedStateError, match=r"begin\.json is missing"):
        world.feed.resume("nothing/1")


def test_a_full_disk_is_an_error_of_the_worker(world, monkeypatch):
    from airflow_provider_amzbiz.feed import spool

    class Full(spool.Spool):
        def __init__(self):
            super().__init__()
            self._db.execute("PRAGMA max_page_count = 30")

    monkeypatch.setattr("airflow_provider_amzbiz.feed.run.Spool", Full)
    lines = [line(item=f"L{number}") for number in range(2000)]
    world.api.transactions.append(charge("large", *lines))
    with pytest.raises(WorkerError, match="full"):
        world.run("run")
    monkeypatch.setattr("airflow_provider_amzbiz.feed.run.Spool", spool.Spool)
    world.run("run")


def test_runs_of_other_accounts_have_nothing_to_do_with_it(world):
    from airflow_provider_amzbiz.feed.run import InvoiceFeed
    from airflow_provider_amzbiz.feed.state import FeedState

    world.run("run")
    other = InvoiceFeed(FeedState(world.store, "ledger/", "other"), FeedSettings(KEY), clock=world.clock.now)
    begun = other.begin({"dag_id": "dag", "run_id": "run", "task_id": "task"}, first_start=START)
    assert len(begun.plan(world.api, None).due) == 5


def test_names_of_runs_are_safe_and_their_own():
    labels = ["dag/run/task", "dag/run/task/3", "dag/run:task", "größe", "x" * 500, "x" * 501, "..", ""]
    found = [run_name(label) for label in labels]
    assert len(set(found)) == len(labels)
    assert all(len(each) < 100 and "/" not in each and each.isascii() for each in found)


def test_a_number_that_only_the_earlier_of_two_runs_knew_is_kept():
    """The later one stores all of an order, of which its window shows a part."""
    world = world_of(532, 12, {"A1PA6795UKMFR9"}, days=4)
    world.clock.advance(5 * DAY)
    earlier = world.begin("earlier")
    earlier.plan(world.api, world.ledger)
    world.run("old-window", feed_start=START + 4 * DAY, feed_end=START + 6 * DAY)
    world.run("later", feed_start=START + 2 * DAY)
    plan = earlier.planned()
    earlier.finish(plan, world.deliver(earlier, plan), world.tables)
    unknown = [
        row for rows in world.tables.files["documents"].values() for row in rows if not row["document_number"]
    ]
    assert unknown
    while world.clock.now() < world.company.end + DAY:
        world.clock.advance(DAY)
        world.run(f"day-{world.clock.now():%d}")

    world.check_books()


@pytest.mark.parametrize("shipment", ["S1", None])
@pytest.mark.parametrize("named", [None, "N0"])
def test_a_run_that_ends_days_later_brings_back_nothing_that_was_amended_since(shipment, named):
    """Its plan is of the day on which it failed; what other runs have read since counts."""
    first = charge("T1", line("O1", shipment=shipment, total="10.00"), invoiceNumber=named)
    world = World(RowsApi([first, charge("T2", line("O2", shipment=None))], {}))
    world.clock.advance(DAY)
    late = world.begin("late")
    late.plan(world.api, world.ledger)
    world.clock.advance(DAY)
    world.api.transactions[0] = charge("T1", line("O1", total="12.00"), feed_date=START + DAY * 3 / 2)
    world.api.details["O1", "L1", "S1"] = [invoice("N1")]
    for day in range(4):
        world.run(f"day-{day}")
        world.clock.advance(DAY)
    plan = late.planned()
    result = late.finish(plan, world.deliver(late, plan), world.tables)
    # The other line is open for both.
    assert result["open_items"] == 1
    world.run("next")
    assert [row["transaction_ids"] for row in world.tables.open_items] == [["T2"]]
    rows = [row for row in world.tables.lines if not row["is_retracted"]]
    assert [(row["document_number"], row["total"]) for row in rows] == [("N1", "12.00")]
    assert {row["total"] for row in world.tables.transactions if row["transaction_id"] == "T1"} == {"12.00"}


def test_an_amended_line_that_is_still_open_stays_open_as_it_was_amended():
    world = World(RowsApi([charge("T1", line("O1", shipment=None, total="10.00"))], {}))
    world.clock.advance(DAY)
    world.run("first")
    late = world.begin("late")
    late.plan(world.api, world.ledger)
    world.clock.advance(DAY)
    world.api.transactions[0] = charge(
        "T1", line("O1", shipment=None, total="12.00"), feed_date=START + DAY * 3 / 2
    )
    world.run("second")
    plan = late.planned()
    late.finish(plan, world.deliver(late, plan), world.tables)
    world.clock.advance(20 * DAY)
    world.run("third")
    assert [row["total"] for row in world.tables.open_items] == ["12.00"]
