"""A call that its caller stops, and the moment at which a request really goes out."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_provider_amzbiz.client import errors
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import Limit
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from tests.client.clients import LINES, US, account_of, client_of

# Far more than a second for which a stopped call may go on, and far less than what it would wait otherwise.
SOON = 20.0


def stopped_after(call, stop, seconds=0.2):
    """Run a call, stop it, and return what it raised."""
    raised = []

    def run():
        try:
            call()
        except errors.ApiError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(seconds)
    stop.set()
    thread.join(SOON)
    assert not thread.is_alive()
    return raised[0]


@pytest.fixture
def stop():
    return threading.Event()


def test_a_call_that_waits_for_a_permit_is_stopped(sandbox, stop):
    account = account_of(sandbox, getReport=Limit(0.001, 1))
    token_buckets(account)["getReport"].emptied()
    client = ReportsClient(account, stopped=stop.is_set)

    error = stopped_after(lambda: client.get_report("1"), stop)

    assert isinstance(error, errors.StoppedError)
    assert not error.permanent
    assert sandbox.count("getReport") == 0
    assert token_buckets(account)["getReport"].waiting == 0


@pytest.mark.parametrize("operation", ["token", "getReport"])
def test_a_call_that_waits_for_its_repetition_is_stopped(sandbox, stop, operation):
    sandbox.inject(Fault(operation, "status", status=503, times=None))
    client = client_of(sandbox, stopped=lambda: stop.is_set() or sandbox.count(operation) >= 3)

    error = stopped_after(lambda: client.get_report("1"), stop, seconds=3)

    assert isinstance(error, errors.StoppedError)
    assert sandbox.count(operation) <= 3


def test_a_call_that_waits_for_the_token_of_another_one_is_stopped(sandbox, stop):
    sandbox.inject(Fault("token", "delay", seconds=4.0))
    first = threading.Thread(target=client_of(sandbox).token)
    first.start()
    client = client_of(sandbox, stopped=stop.is_set)
    time.sleep(0.3)

    began = time.monotonic()
    error = stopped_after(client.token, stop)

    assert isinstance(error, errors.StoppedError)
    assert time.monotonic() - began < 2
    first.join(SOON)


def test_a_throttled_call_is_stopped(sandbox, stop):
    sandbox.inject(Fault("getReport", "status", status=429, times=None))
    client = client_of(sandbox, stopped=lambda: sandbox.count("getReport") >= 1)

    with pytest.raises(errors.StoppedError):
        client.get_report("1")
    assert sandbox.count("getReport") == 1


def test_a_cancellation_that_waits_for_its_report_is_stopped(sandbox):
    client = client_of(sandbox, stopped=lambda: sandbox.count("cancelReport") >= 1)

    with pytest.raises(errors.StoppedError):
        client.cancel_report("1")
    assert sandbox.count("cancelReport") == 1


def test_a_stopped_caller_sends_nothing(sandbox):
    with pytest.raises(errors.StoppedError, match="was not sent"):
        client_of(sandbox, stopped=lambda: True).create_report(LINES, [US])
    assert sandbox.calls == []


def test_a_request_under_way_is_finished(sandbox):
    sent = threading.Event()
    client = client_of(sandbox, stopped=sent.is_set)

    report_id = client.send(ReportRequest.of(LINES, [US]), on_sending=sent.set)

    assert report_id in sandbox.reports


def test_a_rejected_token_is_not_replaced_for_a_stopped_caller(sandbox):
    sandbox.inject(Fault("getReport", "expire_token", times=None))
    client = client_of(sandbox, stopped=lambda: sandbox.count("getReport") >= 1)

    with pytest.raises(errors.StoppedError):
        client.get_report("1")
    assert (sandbox.count("getReport"), sandbox.count("token")) == (1, 1)


def test_the_hook_passes_it_on_and_the_error_is_ours(sandbox):
    hook = AmazonBusinessHook(stopped=lambda: True)

    with pytest.raises(AmazonBusinessError, match="stopped"):
        hook.create_report(LINES, [US])
    assert sandbox.calls == []


def test_on_sending_is_called_before_each_request_and_not_before_its_permit(sandbox):
    sandbox.inject(Fault("createReport", "status", status=429))
    account = account_of(sandbox, createReport=Limit(2.0, 1))
    token_buckets(account)["createReport"].emptied()
    seen = []

    def on_sending():
        seen.append((sandbox.count("token"), sandbox.count("createReport"), time.monotonic()))

    called_at = time.monotonic()
    ReportsClient(account).send(ReportRequest.of(LINES, [US]), on_sending=on_sending)

    assert [each[:2] for each in seen] == [(1, 0), (1, 1)]
    # Half a second a permit.
    assert seen[0][2] - called_at >= 0.4


def test_on_sending_is_called_again_when_the_token_is_replaced(sandbox):
    sandbox.inject(Fault("createReport", "expire_token"))
    seen = []

    AmazonBusinessHook().send(
        AmazonBusinessHook().report_request(LINES, [US]),
        on_sending=lambda: seen.append(sandbox.count("createReport")),
    )

    assert seen == [0, 1]
