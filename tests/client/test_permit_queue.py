"""How calls wait for their permits."""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from airflow_provider_amzbiz.client import errors, permit_queue
from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.permit_queue import PermitQueue, PermitWait
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.token_bucket import TokenBucket, token_buckets
from airflow_provider_amzbiz.client.usage_plan import Limit
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.client.clients import LINES, US, account_of
from tests.client.virtual_time import VirtualApi, VirtualTime


def test_after_a_429_the_call_queues_for_the_next_permit(sandbox):
    report_id = sandbox.add_report(report_type=LINES)
    sandbox.inject(Fault(operation="getReport", kind="status", status=429))
    client = ReportsClient(account_of(sandbox, getReport=Limit(0.5, 15)))
    client.token()

    client.get_report(report_id)

    first, second = [call.at for call in sandbox.calls if call.operation == "getReport"]
    assert second - first >= timedelta(seconds=2)


def test_a_throttled_call_goes_before_those_that_joined_later(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, times=2))
    account = account_of(sandbox, createReport=Limit(4.0, 1))

    def create(rows):
        return ReportsClient(account).create_report(LINES, [US], report_options={"rows": rows})

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(create, 1)
        while not sandbox.count("createReport"):
            time.sleep(0.01)
        others = [pool.submit(create, 2) for _ in range(3)]
        assert {each.result() for each in (first, *others)} == set(sandbox.reports)

    created = list(sandbox.reports.values())
    assert [each.report_options["rows"] for each in created] == ["1", "2", "2", "2"]
    assert token_buckets(account)["createReport"].waiting == 0


def test_a_throttled_call_that_may_not_wait_leaves_the_queue(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="status", status=429, times=None))
    account = account_of(sandbox, createReport=Limit(2.0, 1))

    with pytest.raises(errors.ThrottledError):
        ReportsClient(account, max_throttle_wait=5).create_report(LINES, [US])
    assert token_buckets(account)["createReport"].waiting == 0


def test_retry_after_is_honoured(sandbox, client):
    report_id = sandbox.add_report(report_type=LINES)
    sandbox.inject(Fault(operation="getReport", kind="status", status=429, headers={"Retry-After": "1"}))

    client.get_report(report_id)

    first, second = [call.at for call in sandbox.calls if call.operation == "getReport"]
    assert second - first >= timedelta(seconds=0.95)


def test_a_call_beyond_the_limit_waits_instead_of_being_throttled():
    with Sandbox(time_scale=20, queue_seconds=0, processing_seconds=0) as sandbox:
        client = ReportsClient(account_of(sandbox))
        for _ in range(18):
            client.create_report(LINES, [US])

        assert sandbox.count("createReport") == 18
        assert sandbox.count("createReport", status=429) == 0


def test_a_call_that_may_not_wait_names_the_time_to_wait(sandbox):
    slow = ReportsClient(account_of(sandbox, createReport=Limit(0.01, 1)), max_throttle_wait=0)
    slow.create_report(LINES, [US])

    with pytest.raises(errors.ThrottledError, match="createReport may be called again in 100 s"):
        slow.create_report(LINES, [US])
    assert sandbox.count("createReport") == 1


@pytest.mark.parametrize(("rate", "is_logged"), [(1 / 1800, True), (1 / 20, False)])
def test_a_long_wait_says_once_how_it_costs_no_worker_slot(sandbox, caplog, rate, is_logged):
    caplog.set_level("INFO")
    permit_queue._log_slot.cache_clear()
    account = account_of(sandbox, createReport=Limit(rate, 1))
    ReportsClient(account).create_report(LINES, [US])

    for waits in (1, 2):
        waiting = ReportsClient(account, stopped=lambda waits=waits: caplog.text.count("for its permit") >= waits)
        with pytest.raises(errors.StoppedError):
            waiting.create_report(LINES, [US])

    assert caplog.text.count("holds its worker slot; deferrable=True avoids that") == is_logged


def test_permits_from_elsewhere_are_used_first(sandbox):
    client = ReportsClient(account_of(sandbox, createReport=Limit(0.01, 1)), max_throttle_wait=0)
    client.grant("createReport", 2)

    for _ in range(3):
        client.create_report(LINES, [US])
    with pytest.raises(errors.ThrottledError):
        client.create_report(LINES, [US])


def test_two_connections_to_one_account_share_its_limit(sandbox):
    account = account_of(sandbox, createReport=Limit(0.01, 1))
    ReportsClient(account).create_report(LINES, [US])

    other = ReportsClient(replace(account, application_name="other"), max_throttle_wait=0)
    with pytest.raises(errors.ThrottledError):
        other.create_report(LINES, [US])


# Processes that share an account, but no store.

SCARCE = Limit(0.1, 15)


@pytest.fixture
def virtual(monkeypatch):
    """Virtual time for the permit queue."""
    virtual = VirtualTime()
    monkeypatch.setattr(permit_queue, "time", virtual)
    monkeypatch.setattr(permit_queue, "random", random.Random(1))
    return virtual


def one_call(virtual, api, *, max_wait=3600.0, is_mapped=True):
    """Make one scarce call as a fresh process does; return the seconds that it took, None if it failed."""
    bucket = TokenBucket(api.limit, clock=virtual.monotonic)
    if is_mapped:
        bucket.expect_others()
    queue = PermitQueue(
        {"createReport": bucket},
        max_wait=max_wait,
        sleep=lambda _, seconds: virtual.sleep(seconds),
        listener=CallListener(),
    )
    start = virtual.now
    try:
        with PermitWait(queue, "createReport") as wait:
            while True:
                wait.acquire()
                try:
                    api.call()
                    return virtual.now - start
                except errors.ThrottledError as error:
                    wait.rejoin(error)
    except errors.ThrottledError:
        assert virtual.now - start >= max_wait, "it failed before its deadline"
        return None


@pytest.mark.parametrize("is_mapped", [True, False])
def test_128_processes_without_a_store_are_throttled_three_times_a_call_at_most(virtual, is_mapped):
    api, waits = VirtualApi(virtual, SCARCE), []

    def worker(number):
        for _ in range(number, 300, 128):
            waits.append(one_call(virtual, api, is_mapped=is_mapped))
            virtual.sleep(5.0)

    for number in range(128):
        virtual.start(worker, number, delay=number % 3)
    virtual.run()

    assert len(waits) == 300
    assert None not in waits
    assert api.throttled <= 3 * 300
    assert virtual.now - 1000 <= 1.4 * SCARCE.min_seconds(300)


def test_no_call_gives_up_before_its_deadline(virtual):
    api = VirtualApi(virtual, Limit(0.001, 1))
    api.call()
    waits = []
    for _ in range(5):
        virtual.start(lambda: waits.append(one_call(virtual, api, max_wait=600.0)))
    virtual.run()
    assert waits == [None] * 5


def test_the_pause_grows_with_each_429_and_ends_at_the_deadline(virtual):
    api, moments = VirtualApi(virtual, Limit(0.1, 15)), []

    def refuse():
        moments.append(virtual.now)
        raise errors.ThrottledError("throttled", operation="createReport")

    api.call = refuse
    virtual.start(one_call, virtual, api)
    virtual.run()

    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert 60 <= pauses[0] <= 180
    assert pauses[1] > 100
    assert pauses[2] > 200
    assert moments[-1] - moments[0] <= 3600


def test_a_first_429_without_other_signs_costs_little(virtual):
    api = VirtualApi(virtual, SCARCE)
    for _ in range(15):
        api.call()
    virtual.start(one_call, virtual, api)
    alone = []
    virtual.start(lambda: alone.append(one_call(virtual, api, is_mapped=False)))
    virtual.run()
    assert alone[0] <= 40


def test_the_log_says_once_what_to_do(sandbox, caplog):
    permit_queue._log_remedy.cache_clear()
    sandbox.inject(Fault(operation="getReport", kind="status", status=429, times=2))
    report_id = sandbox.add_report(report_type=LINES)
    with caplog.at_level(logging.WARNING):
        ReportsClient(account_of(sandbox, getReport=Limit(50.0, 15))).get_report(report_id)
    assert caplog.text.count("name a Redis connection in the field rate_limit_store") == 1
    assert caplog.text.count("queueing again") == 2
