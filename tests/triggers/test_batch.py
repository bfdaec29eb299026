"""The waits of a batch: what fits a trigger, and when it polls."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from airflow_provider_amzbiz.batch.running import RunningReport, pack, unpack
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.transfers import batch_run, reports_to_s3
from airflow_provider_amzbiz.transfers.batch_run import BatchRun
from airflow_provider_amzbiz.triggers.batch import BatchTrigger
from tests.conftest import connect
from tests.deferring import context, events_of, run
from tests.transfers.batches import INVOICE, batch, invoices, keys

pytestmark = pytest.mark.usefixtures("quick_batches")


@pytest.mark.parametrize("length", [11, 64, 200])
def test_any_number_of_running_reports_fits_a_row_of_the_database(length):
    from airflow.models.trigger import Trigger

    running = [
        RunningReport(f"{number:0{length}d}", INVOICE, 1e9 + number * 10, number % 2 == 0)
        for number in range(10_000)
    ]
    packed, fitting = pack(running)
    trigger = BatchTrigger(
        amazon_business_conn_id="c" * 200,
        record={
            "bucket": "b" * 63,
            "key": "k" * 1024,
            "attempt": "a" * 12,
            "stint": 9999,
            "aws_conn_id": "a" * 200,
        },
        creates=10_000,
        running=packed,
        documents=10_000,
        poke_interval=15.0,
        deadline=1e10,
    )

    assert len(Trigger(*trigger.serialize()).encrypted_kwargs) < 60_000
    assert fitting > 30_000 // (length + 30)
    assert unpack(packed) == running[:fitting]


def test_a_wait_keeps_its_place_in_the_queue_when_other_reports_wait_for_their_turn(sandbox, monkeypatch):
    limits = {"createReport": [1, 15], "getReport": [500, 500], "getReportDocument": [500, 500]}
    connect(monkeypatch, sandbox, rate_limits=json.dumps(limits))
    bucket = token_buckets(AmazonBusinessHook().client.config)["createReport"]
    while bucket.take_up_to(15):
        pass
    trigger = BatchTrigger(
        amazon_business_conn_id="amazon_business_default",
        record={},
        creates=1,
        running=[],
        documents=0,
        poke_interval=0.1,
        deadline=time.time() + 60,
        rotate_at=time.time() - 1,
    )

    (event,) = asyncio.run(events_of(trigger))

    assert event["permits"]["createReport"] == 1


def test_reports_that_do_not_fit_one_trigger_are_polled_before_others_get_their_turn(
    sandbox, s3, prefix, monkeypatch
):
    monkeypatch.setattr(batch_run, "ROTATE_SECONDS", 0.3)
    monkeypatch.setattr(batch_run, "pack", lambda reports: pack(reports, 300))

    result = run(lambda: batch(prefix, invoices(*range(30)), poke_interval=0.6, timeout=60), context())

    assert result["landed"] == 30


def test_reports_are_polled_although_each_wait_is_shorter_than_the_interval(sandbox, s3, prefix, monkeypatch):
    """As in a batch that gets permits for a handful of reports every 100 seconds, and polls every five minutes."""
    connect(monkeypatch, sandbox, rate_limits=json.dumps({"createReport": [1, 1]}))
    left_to_create = []

    class Noted(BatchRun):
        def log_progress(self):
            super().log_progress()
            if self.state.counts.stored:
                left_to_create.append(self.state.pending().creates)

    monkeypatch.setattr(reports_to_s3, "BatchRun", Noted)
    run(lambda: batch(prefix, invoices(*range(14)), poke_interval=1.2), context())

    assert len(keys(s3, prefix)) == 14
    assert max(left_to_create) > 0


def test_reports_that_do_not_fit_one_trigger_get_their_turn(sandbox, s3, prefix, monkeypatch):
    monkeypatch.setattr(batch_run, "ROTATE_SECONDS", 0.3)
    monkeypatch.setattr(batch_run, "pack", lambda reports: pack(reports, 300))
    waited = []
    sandbox.script(queue_seconds=3600, times=30)

    class AllHadTheirTurn(Exception):  # noqa: N818 - the end of the test, no error
        pass

    def noted(trigger):
        waited.append({report.report_id for report in unpack(trigger.running)})
        if len(set().union(*waited)) == 30:
            raise AllHadTheirTurn
        return trigger

    make = BatchRun.trigger
    monkeypatch.setattr(BatchRun, "trigger", lambda self: noted(make(self)))
    with pytest.raises(AllHadTheirTurn):
        run(lambda: batch(prefix, invoices(*range(30)), timeout=100), context())

    assert max(map(len, waited)) < 30
    assert set().union(*waited) == set(sandbox.reports)
