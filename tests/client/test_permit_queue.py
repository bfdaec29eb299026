"""How calls wait for their permits."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import Limit
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.client.clients import LINES, US, account_of


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
