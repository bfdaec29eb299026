"""The trigger alone: what it does to the loop it runs in, and to its deadlines."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from airflow_provider_amzbiz.batch.running import RunningReport, pack
from airflow_provider_amzbiz.sandbox import Fault
from airflow_provider_amzbiz.triggers import connections
from airflow_provider_amzbiz.triggers.batch import BatchTrigger
from airflow_provider_amzbiz.triggers.events import ReportTimedOut
from airflow_provider_amzbiz.triggers.permits import PermitTrigger
from airflow_provider_amzbiz.triggers.reports import ReportStatusTrigger
from airflow_provider_amzbiz.triggers.reports_done import ReportsDoneTrigger
from tests.airflow_names import redact


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(connections, "PAUSE", 0.1)


def trigger(report_id, **arguments):
    now = time.time()
    return ReportStatusTrigger(
        **{
            "report_id": report_id,
            "amazon_business_conn_id": "amazon_business_default",
            "poke_interval": 0.05,
            "deadline": now + 20,
            "not_found_grace_until": now + 20,
            **arguments,
        }
    )


def a_batch(report_id):
    return BatchTrigger(
        amazon_business_conn_id="amazon_business_default",
        record={},
        creates=0,
        running=pack([RunningReport(report_id, "SANDBOX_ORDER_LINES", time.time(), adopted=False)])[0],
        documents=0,
        poke_interval=1.0,
        deadline=time.time() + 10,
    )


async def only_event(waiting):
    events = [event.payload async for event in waiting.run()]
    assert len(events) == 1
    return events[0]


async def test_a_slow_api_does_not_hold_up_the_loop(sandbox):
    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
    sandbox.inject(Fault(operation="getReport", kind="delay", seconds=1.5))
    gaps = []

    async def ticker():
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    ticking = asyncio.create_task(ticker())
    event = await only_event(trigger(report_id))
    ticking.cancel()

    assert event["status"] == "ended"
    # The loop kept ticking during the response's 1.5 seconds.
    assert len(gaps) > 20


async def test_a_deadline_that_passed_while_no_triggerer_ran_still_allows_one_poll(sandbox):
    done = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
    running = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="IN_PROGRESS")
    past = {"deadline": time.time() - 100}

    assert (await only_event(trigger(done, **past)))["status"] == "ended"
    timed_out = ReportTimedOut(running, "SANDBOX_ORDER_LINES", "IN_PROGRESS", own=False)
    assert await only_event(trigger(running, **past)) == timed_out.to_dict()


@pytest.mark.main_path
async def test_a_connection_that_cannot_be_read_for_a_while_is_waited_for(sandbox, monkeypatch):
    import os

    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
    connection = os.environ["AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT"]
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")
    waiting = asyncio.create_task(only_event(trigger(report_id)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", connection)

    assert (await waiting)["status"] == "ended"


async def test_a_connection_that_stays_missing_ends_the_wait_at_its_deadline(sandbox, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")

    event = await only_event(trigger("1", deadline=time.time() + 0.3))

    assert event["status"] == "error"
    assert event["error"]["class"] == "ConnectionNotFoundError"


async def test_killing_a_batch_without_its_connection_never_fails(sandbox, monkeypatch, caplog):
    monkeypatch.delenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT")
    batch = a_batch("1")

    await batch.on_kill()
    assert "could not be cancelled" in caplog.text


async def test_a_cancelled_trigger_cancels_no_report(sandbox):
    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="IN_QUEUE")
    waiting = asyncio.create_task(only_event(trigger(report_id)))
    await asyncio.sleep(0.3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert sandbox.count("cancelReport") == 0


def test_a_row_of_the_trigger_table_holds_no_secret(sandbox):
    row = str(trigger("1").serialize())

    for secret in (sandbox.client_secret, sandbox.refresh_token, "Atza|"):
        assert secret not in row


async def test_a_triggerer_that_stops_or_hands_the_trigger_over_cancels_no_report(sandbox):
    report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="IN_QUEUE")
    stopped = trigger(report_id, cancel_on_kill=True)
    waiting = asyncio.create_task(only_event(stopped))
    await asyncio.sleep(0.3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # Airflow calls it whenever a trigger leaves a triggerer.
    await stopped.cleanup()

    assert sandbox.count("cancelReport") == 0


@pytest.mark.main_path
@pytest.mark.parametrize(
    "trigger",
    [
        ReportStatusTrigger(
            report_id="1",
            amazon_business_conn_id="c",
            poke_interval=2.0,
            deadline=3.0,
            not_found_grace_until=4.0,
            report_type="T",
            created_time="2026-01-01T00:00:00+00:00",
            cancel_on_kill=True,
        ),
        PermitTrigger(
            operation="createReport", amazon_business_conn_id="c", since=1.0, throttled_at=2.0, had_permit=True
        ),
        BatchTrigger(
            amazon_business_conn_id="c",
            record={"bucket": "b", "key": "k"},
            creates=1,
            running=pack([RunningReport("1", "T", 7.0, adopted=False)])[0],
            documents=2,
            poke_interval=3.0,
            deadline=4.0,
            not_before=5.0,
            rotate_at=3.5,
            throttled=["createReport"],
            not_found_grace_until=6.0,
        ),
        ReportsDoneTrigger(
            report_types=["T"],
            marketplace_ids=["M"],
            since="2026-01-01T00:00:00+00:00",
            poll_interval=1.0,
            amazon_business_conn_id="c",
        ),
    ],
    ids=lambda trigger: type(trigger).__name__,
)
def test_a_row_of_the_trigger_table_has_every_parameter(trigger):
    _, row = trigger.serialize()

    assert set(row) == set(inspect.signature(type(trigger)).parameters)
    assert all(row[name] == getattr(trigger, name) for name in row)
    assert type(trigger)(**row).serialize()[1] == row


class TestMaskedTokens:
    """Airflow's masker forgets nothing, and a triggerer lives for weeks in which a token lasts an hour."""

    async def test_those_of_a_wait_do_not_gather(self, sandbox):
        report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
        # After the refusal it reads its connection again.
        sandbox.inject(Fault(operation="getReport", kind="status", status=403))
        sandbox.inject(Fault(operation="getReport", kind="expire_token"))

        assert (await only_event(trigger(report_id)))["status"] == "ended"
        self.assert_unmasked(sandbox, 2)

    async def test_those_of_a_last_poll_do_not(self, sandbox):
        report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")

        await only_event(trigger(report_id, deadline=time.time() - 100))
        self.assert_unmasked(sandbox, 1)

    async def test_those_of_a_batch_do_not(self, sandbox):
        batch = a_batch(sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE"))

        assert (await only_event(batch))["status"] == "ready"
        self.assert_unmasked(sandbox, 1)

    async def test_those_of_a_watch_do_not(self, sandbox):
        sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="DONE")
        watch = ReportsDoneTrigger(report_types=["SANDBOX_ORDER_LINES"], since="2026-01-01T00:00:00+00:00")

        async for _ in watch.run():
            break
        self.assert_unmasked(sandbox, 1)

    @pytest.mark.parametrize("kind", ["wait", "batch"])
    async def test_those_of_a_kill_do_not(self, sandbox, kind):
        report_id = sandbox.add_report(report_type="SANDBOX_ORDER_LINES", status="IN_QUEUE")
        killed = trigger(report_id, cancel_on_kill=True) if kind == "wait" else a_batch(report_id)

        await killed.on_kill()
        assert sandbox.count("cancelReport", 200) == 1
        self.assert_unmasked(sandbox, 1)

    @staticmethod
    def assert_unmasked(sandbox, least):
        tokens = {call.headers["x-amz-access-token"] for call in sandbox.calls if call.operation != "token"}
        assert len(tokens) >= least
        for token in tokens:
            assert redact(f"a line with {token}") == f"a line with {token}"
        assert sandbox.refresh_token not in redact(f"a line with {sandbox.refresh_token}")
