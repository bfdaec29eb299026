"""Many waits in one event loop: one look for all of them."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from datetime import timedelta

import pytest

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from airflow_provider_amzbiz.triggers import listing, poller, reports
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger
from tests.conftest import connect

LINES = "SANDBOX_ORDER_LINES"


def waiting(report_id, *, known=True, conn_id="amazon_business_default", **arguments):
    """Return the event of a wait, as a task of the running loop."""
    now = time.time()
    report = AmazonBusinessHook(conn_id).get_report(report_id) if known else None
    trigger = ReportStatusTrigger(
        **{
            "report_id": report_id,
            "amazon_business_conn_id": conn_id,
            "poke_interval": 0.3,
            "deadline": now + 30,
            "not_found_grace_until": now + 30,
            "report_type": report.report_type if report else None,
            "created_time": report.created_time.isoformat() if report else None,
            **arguments,
        }
    )

    async def events():
        return [event.payload async for event in trigger.run()]

    return asyncio.create_task(events())


def running(sandbox, count, **script):
    """Create reports that are still in progress; return their ids."""
    if script:
        sandbox.script(times=count, **script)
    hook = AmazonBusinessHook()
    return [hook.create_report(LINES) for _ in range(count)]


async def until(holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def statuses(results):
    return [event["report"]["processing_status"] for (event,) in results]


async def test_many_waits_share_pages_and_each_gets_one_event(sandbox):
    ids = running(sandbox, 120, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.5)
    before = sandbox.count("getReport")
    sandbox.clock.advance(3600)

    results = await asyncio.gather(*waits)

    assert statuses(results) == ["DONE"] * 120
    assert [event["report"]["report_id"] for (event,) in results] == ids
    assert sandbox.count("getReports") < 30
    assert sandbox.count("getReport") - before < 30


async def test_few_waits_need_no_listing(sandbox):
    ids = running(sandbox, 3)

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 3
    assert sandbox.count("getReports") == 0


async def test_all_kinds_of_ends_are_told(sandbox):
    ids = []
    for outcome in ("DONE", "CANCELLED", "FATAL"):
        ids += running(sandbox, 10, outcome=outcome)

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 10 + ["CANCELLED"] * 10 + ["FATAL"] * 10


async def test_one_report_may_be_waited_for_twice(sandbox):
    (report_id,) = running(sandbox, 1, processing_seconds=3600)
    waits = [waiting(report_id) for _ in range(30)]
    await asyncio.sleep(0.2)
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 30


async def test_reports_that_the_listing_does_not_show_are_found_one_by_one(sandbox):
    ids = running(sandbox, 40)
    sandbox.operations.behaviour.listing_lag_seconds = 3600

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 40


async def test_waits_of_unknown_type_are_looked_at_one_by_one(sandbox):
    ids = running(sandbox, 40)

    results = await asyncio.gather(*[waiting(each, known=False) for each in ids])

    assert statuses(results) == ["DONE"] * 40


async def test_a_type_that_cannot_be_listed_is_looked_at_one_by_one(sandbox):
    ids = running(sandbox, 40)
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, body="json", times=None))

    results = await asyncio.gather(*[waiting(each) for each in ids])

    assert statuses(results) == ["DONE"] * 40
    assert sandbox.count("getReports") == 1


async def test_a_report_that_never_ends_does_not_lengthen_the_listings(sandbox):
    (stuck,) = running(sandbox, 1, outcome="ON_HOLD")
    sandbox.reports[stuck].created_time -= timedelta(days=30)
    for _ in range(300):
        old = sandbox.add_report(report_type=LINES)
        sandbox.reports[old].created_time -= timedelta(days=10)
    forever = waiting(stuck)
    ids = running(sandbox, 40, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(1.5)
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 40
    pages = [call for call in sandbox.calls if call.operation == "getReports"]
    assert pages
    assert not any("nextToken" in call.query for call in pages)
    forever.cancel()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "body": "empty"},
        {"kind": "status", "status": 503, "body": "html"},
        {"kind": "drop"},
        {"kind": "empty"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_failing_looks_fail_no_wait(sandbox, fault):
    ids = running(sandbox, 30)
    waits = [waiting(each, poke_interval=0.1) for each in ids]
    for operation in ("getReports", "getReport"):
        sandbox.inject(Fault(operation=operation, times=2, **fault))

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 30


async def test_fresh_tokens_that_are_refused_fail_no_wait(sandbox):
    (report_id,) = running(sandbox, 1)
    sandbox.inject(Fault(operation="getReport", kind="expire_token", times=5))

    assert statuses([await waiting(report_id, known=False, poke_interval=0.1)]) == ["DONE"]


async def test_a_revoked_grant_fails_each_wait_with_the_reason(sandbox):
    ids = running(sandbox, 30, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.2)
    sandbox.revoke()
    sandbox.expire_tokens()

    results = await asyncio.gather(*waits)

    assert {event["status"] for (event,) in results} == {"error"}
    assert all("invalid_grant" in event["error"]["message"] for (event,) in results)


async def test_a_connection_that_was_mended_meanwhile_is_read_anew(sandbox, monkeypatch):
    import json

    # The token of a client secret that has been rotated away.
    wrong = {**sandbox.connection, "password": "amzn1.oa2-cs.v1.old"}
    (report_id,) = running(sandbox, 1)
    right = sandbox.connection
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(wrong))
    wait = waiting(report_id, known=False)
    await asyncio.sleep(0.2)
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(right))

    assert statuses([await wait]) == ["DONE"]


@pytest.mark.parametrize("waits", [1, 30])
@pytest.mark.parametrize("trouble", ["another account's endpoint", "another account", "503", "is gone"])
async def test_an_endpoint_that_was_mended_meanwhile_is_called(sandbox, monkeypatch, caplog, trouble, waits):
    ids = running(sandbox, waits)
    with Sandbox(throttle=False) as other:
        connect(monkeypatch, other)
        if trouble == "another account's endpoint":
            wrong = {**sandbox.connection, "host": other.url}
            monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", json.dumps(wrong))
        elif trouble == "503":
            other.inject(Fault("*", "status", status=503, times=None))
        elif trouble == "is gone":
            other.stop()
        events = [
            waiting(
                each,
                known=False,
                report_type=LINES,
                created_time=sandbox.clock.now().isoformat(),
                poke_interval=1,
                # No poll at the deadline before the end of the test, and no report is too young to be known.
                deadline=time.time() + 600,
                not_found_grace_until=0.0,
            )
            for each in ids
        ]
        await until(lambda: "failed, the wait continues" in caplog.text)
        connect(monkeypatch, sandbox)

        assert statuses(await asyncio.wait_for(asyncio.gather(*events), 60)) == ["DONE"] * waits


async def test_a_report_that_is_not_known_delays_no_other_poll(sandbox):
    ids = running(sandbox, 10, processing_seconds=3600)
    unknown = [waiting(f"1234{number}", known=False, poke_interval=5) for number in range(9)]
    waits = [waiting(each, known=False, poke_interval=5) for each in ids]

    await until(lambda: sandbox.count("getReport") >= 19)

    polls = [call for call in sandbox.calls if call.operation == "getReport"][:19]
    assert len({call.path for call in polls}) == 19
    # All are of one round.
    assert (polls[-1].at - polls[0].at).total_seconds() < 5
    for each in [*unknown, *waits]:
        each.cancel()


async def test_an_unknown_report_fails_its_own_wait_only(sandbox):
    ids = running(sandbox, 30)
    lost = waiting("12345", known=False, not_found_grace_until=0.0)

    results = await asyncio.gather(*[waiting(each) for each in ids])
    (event,) = await lost

    assert statuses(results) == ["DONE"] * 30
    assert event["error"]["class"] == "ReportNotFoundError"


async def test_a_connection_that_is_away_for_a_while_is_waited_for(sandbox, monkeypatch):
    ids = running(sandbox, 2, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.3)
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")
    sandbox.clock.advance(3600)
    sandbox.expire_tokens()
    await asyncio.sleep(0.5)
    connect(monkeypatch, sandbox)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 2


async def test_a_request_that_is_refused_fails_its_own_wait_only(sandbox):
    (report_id,) = running(sandbox, 1)
    odd = waiting("a/../b", known=False, not_found_grace_until=0.0)

    assert statuses([await waiting(report_id)]) == ["DONE"]
    (event,) = await odd
    assert event["status"] == "error"


async def test_who_joins_late_and_who_leaves_early(sandbox):
    ids = running(sandbox, 60, processing_seconds=3600)
    early, late = ids[:30], ids[30:]
    waits = [waiting(each) for each in early]
    await asyncio.sleep(0.5)
    for wait in waits[:25]:
        wait.cancel()
    waits = waits[25:] + [waiting(each) for each in late]
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 35


async def test_nothing_runs_on_when_the_last_wait_is_gone(sandbox):
    ids = running(sandbox, 30, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.5)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    waits.clear()
    del wait
    await asyncio.sleep(0.2)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    calls = len(sandbox.calls)
    await asyncio.sleep(0.8)
    assert len(sandbox.calls) == calls
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is poller.Subscription]


async def test_two_connections_to_one_account_share_one_poller(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, conn_id="other")
    ids = running(sandbox, 2, processing_seconds=3600)
    waits = [waiting(ids[0]), waiting(ids[1], conn_id="other")]
    await asyncio.sleep(0.3)

    names = [task.get_name() for task in asyncio.all_tasks()]
    assert names.count("amazon-business-poller") == 1
    sandbox.clock.advance(3600)
    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 2


async def test_a_short_interval_is_not_held_up_by_a_long_one(sandbox):
    slow, quick = running(sandbox, 2)
    lasting = waiting(slow, poke_interval=60.0)
    await asyncio.sleep(0.2)

    start = time.monotonic()
    assert statuses([await waiting(quick, poke_interval=0.1)]) == ["DONE"]
    assert time.monotonic() - start < 20
    assert not lasting.done()
    lasting.cancel()


def test_each_loop_has_its_own(sandbox):
    # As in dag.test(), where each deferral runs in a loop of its own.
    for report_id in running(sandbox, 2):

        async def once(report_id=report_id):
            return await waiting(report_id)

        assert statuses([asyncio.run(once())]) == ["DONE"]


async def test_one_report_that_cannot_be_looked_at_is_nobody_else_s_trouble(sandbox):
    ids = running(sandbox, 12)
    hurt = waiting(ids[3])
    others = [waiting(each) for each in ids if each != ids[3]]
    # What the API answers for this one cannot be read.
    sandbox.reports[ids[3]].extra_fields = {"createdTime": 5}

    results = await asyncio.gather(*others)

    assert statuses(results) == ["DONE"] * 11
    assert not hurt.done()
    hurt.cancel()


def refuse_report(monkeypatch, report_id):
    """Have the API deny access to one report, as to one of another party."""
    from airflow_provider_amzbiz.sandbox import operations
    from airflow_provider_amzbiz.sandbox.responses import denied

    answering = operations.Operations.get_report

    def get_report(self, account, asked):
        if asked == report_id:
            raise denied("", 403)
        return answering(self, account, asked)

    monkeypatch.setattr(operations.Operations, "get_report", get_report)


@pytest.mark.parametrize("count", [12, 40])
async def test_access_that_is_denied_to_one_report_ends_its_wait_only(sandbox, monkeypatch, count):
    ids = running(sandbox, count, processing_seconds=3600)
    refuse_report(monkeypatch, "99999999999")
    denied = waiting("99999999999", known=False)
    waits = [waiting(each) for each in ids]
    (event,) = await denied
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * count
    assert (event["status"], event["error"]["class"]) == ("error", "AccessDeniedError")
    assert event["error"]["report_id"] == "99999999999"


def rotate(sandbox, monkeypatch, *conn_ids):
    """Rotate the client secret at Amazon, and in these connections."""
    sandbox.accounts[0].client_secret = "amzn1.oa2-cs.v1.rotated"
    for conn_id in conn_ids:
        connect(monkeypatch, sandbox, conn_id=conn_id)
    sandbox.expire_tokens()


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 503}, {"kind": "status", "status": 429}, {"kind": "drop"}]
)
@pytest.mark.parametrize("count", [3, 30])
async def test_a_passing_fault_before_a_rotated_secret_is_noticed_ends_no_wait(sandbox, monkeypatch, fault, count):
    ids = running(sandbox, count, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(0.5)
    rotate(sandbox, monkeypatch, "amazon_business_default")
    sandbox.inject(Fault(operation="token", **fault))
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * count


async def test_each_connection_of_an_account_stands_for_its_own_waits(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, conn_id="forgotten")
    connect(monkeypatch, sandbox, conn_id="kept")
    connect(monkeypatch, sandbox)
    ids = running(sandbox, 4, processing_seconds=3600)
    forgotten = [waiting(each, conn_id="forgotten") for each in ids[:2]]
    kept = [waiting(each, conn_id="kept") for each in ids[2:]]
    await asyncio.sleep(0.5)
    rotate(sandbox, monkeypatch, "kept")
    events = [event for (event,) in await asyncio.gather(*forgotten)]
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*kept)) == ["DONE"] * 2
    assert {event["error"]["class"] for event in events} == {"AuthenticationError"}


@pytest.mark.parametrize("status", [429, 403, 500])
async def test_while_the_listing_fails_reports_are_polled_one_by_one(sandbox, status):
    ids = running(sandbox, 40)
    sandbox.inject(Fault(operation="getReports", kind="status", status=status, times=None))

    results = await asyncio.wait_for(asyncio.gather(*[waiting(each) for each in ids]), 20)

    assert statuses(results) == ["DONE"] * 40


async def test_a_listing_that_failed_is_read_again_later(sandbox):
    ids = running(sandbox, 200, processing_seconds=3600)
    sandbox.inject(Fault(operation="getReports", kind="status", status=500, times=1))
    waits = [waiting(each) for each in ids]
    await asyncio.sleep(1)
    assert sandbox.count("getReports", 500) == 1
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 200
    assert sandbox.count("getReports", 200)


async def test_a_page_that_is_refused_blames_no_type(sandbox, caplog):
    ids = running(sandbox, 250, processing_seconds=600)
    waits = [waiting(each) for each in ids]
    sandbox.clock.advance(600)
    # The token of the next page may have expired.
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=1, after=1))

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 250
    assert sandbox.count("getReports", 400) == 1
    assert "Reports of type" not in caplog.text


async def test_a_type_that_could_not_be_listed_is_listed_again_later(sandbox, monkeypatch):
    monkeypatch.setattr(listing, "_UNLISTED_SECONDS", 1.0)
    ids = running(sandbox, 200, processing_seconds=3600)
    waits = [waiting(each) for each in ids]
    sandbox.inject(Fault(operation="getReports", kind="status", status=400, times=1))
    await asyncio.sleep(2)
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 200
    assert sandbox.count("getReports", 200)


async def test_of_several_types_only_the_one_to_blame_is_polled_one_by_one(sandbox, monkeypatch):
    from airflow_provider_amzbiz.sandbox import validation

    ids = running(sandbox, 100, processing_seconds=3600)
    odd = [sandbox.add_report("GET_AB_INVOICE_PDF", status="IN_PROGRESS") for _ in range(30)]
    waits = [waiting(each) for each in (*ids, *odd)]
    # It can be polled, but not be asked for.
    monkeypatch.setattr(validation, "REPORT_TYPES", validation.REPORT_TYPES - {"GET_AB_INVOICE_PDF"})
    await asyncio.sleep(0.5)
    sandbox.clock.advance(3600)
    for each in odd:
        sandbox.reports[each].outcome = "DONE"

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 130
    assert sandbox.count("getReports", 200)
    assert sandbox.count("getReports", 400) <= 2


async def test_waits_of_a_create_are_found_in_the_listing(sandbox):
    sandbox.script(processing_seconds=3600, times=60)
    start = time.time()
    ids = running(sandbox, 60)
    sandbox.clock.advance(0)
    between = {"report_type": LINES, "created_between": [start, time.time()]}
    waits = [waiting(each, known=False, **between) for each in ids]
    await asyncio.sleep(0.5)
    before = sandbox.count("getReport")
    sandbox.clock.advance(3600)

    assert statuses(await asyncio.gather(*waits)) == ["DONE"] * 60
    assert sandbox.count("getReports")
    assert sandbox.count("getReport") - before < 30


async def test_old_reports_are_found_behind_many_newer_ones(sandbox):
    old = running(sandbox, 25)
    for report in sandbox.reports.values():
        report.created_time -= timedelta(hours=10)
    waits = [waiting(each) for each in old]
    for _ in range(1500):
        sandbox.add_report(LINES)

    assert statuses(await asyncio.wait_for(asyncio.gather(*waits), 20)) == ["DONE"] * 25
    assert not any("nextToken" in call.query for call in sandbox.calls)


async def test_what_was_polled_last_is_remembered_when_its_waits_come_again(sandbox, monkeypatch):
    """The trigger of a batch makes new waits for the same reports every few minutes."""
    ids = running(sandbox, 90, processing_seconds=3600)
    # Twenty of them can be polled in a round, and none can be listed.
    connect(monkeypatch, sandbox, rate_limits='{"getReport": [100, 100]}')
    before = sandbox.count("getReport")
    while sandbox.count("getReport") < before + 150:
        waits = [waiting(each, known=False, poke_interval=0.2) for each in ids]
        await asyncio.sleep(0.5)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    polled = {call.path.rsplit("/", 1)[1] for call in sandbox.calls if call.operation == "getReport"}
    assert polled == set(ids)


async def test_a_fault_of_the_poller_ends_no_wait(sandbox, monkeypatch, caplog):
    ids = running(sandbox, 3)
    faults = [RuntimeError("some fault")]
    polling = poller.ReportPoller._poll

    async def poll(self, due):
        if faults:
            raise faults.pop()
        await polling(self, due)

    monkeypatch.setattr(poller.ReportPoller, "_poll", poll)

    assert statuses(await asyncio.gather(*[waiting(each) for each in ids])) == ["DONE"] * 3
    assert "Polling the reports failed" in caplog.text


class TestDeadlines:
    async def test_many_at_once_are_polled_once_more(self, sandbox):
        ids = running(sandbox, 60)
        deadline = time.time() + 1

        results = await asyncio.gather(
            *[waiting(each, known=False, poke_interval=60, deadline=deadline) for each in ids]
        )
        assert statuses(results) == ["DONE"] * 60

    async def test_with_a_slow_api_all_end_long_before_airflow_s_own_deadline(self, sandbox):
        ids = [sandbox.add_report(LINES, status="IN_PROGRESS") for _ in range(40)]
        deadline = time.time() + 1
        waits = [waiting(each, known=False, poke_interval=60, deadline=deadline) for each in ids]
        sandbox.inject(Fault(operation="getReport", kind="delay", seconds=4, times=None))

        results = await asyncio.wait_for(asyncio.gather(*waits), reports.BACKSTOP / 2)
        assert {event["status"] for (event,) in results} == {"timeout"}

    async def test_where_the_limit_is_used_up_all_end_as_well(self, sandbox, monkeypatch):
        connect(monkeypatch, sandbox, rate_limits='{"getReport": [0.1, 1], "getReports": [0.1, 1]}')
        monkeypatch.setattr(reports, "LAST_POLL_SECONDS", 2.0)
        ids = [sandbox.add_report(LINES, status="IN_PROGRESS") for _ in range(40)]
        waits = [waiting(each, known=False, poke_interval=60, deadline=time.time() + 0.5) for each in ids]

        results = await asyncio.wait_for(asyncio.gather(*waits), 20)
        assert {event["status"] for (event,) in results} == {"timeout"}
        await asyncio.sleep(0.5)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_listing_tells_of_many(self, sandbox, monkeypatch):
        # More than getReport allows in the time that a last poll may take.
        connect(monkeypatch, sandbox, rate_limits='{"getReport": [0.1, 1]}')
        ids = [sandbox.add_report(LINES, status="DONE") for _ in range(50)]
        created = {each: sandbox.reports[each].created_time.isoformat() for each in ids}
        deadline = time.time() + 0.5

        results = await asyncio.gather(
            *[
                waiting(
                    each,
                    known=False,
                    poke_interval=60,
                    deadline=deadline,
                    report_type=LINES,
                    created_time=created[each],
                )
                for each in ids
            ]
        )
        assert statuses(results) == ["DONE"] * 50
