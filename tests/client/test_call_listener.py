"""What a listener receives of the calls."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.errors import ThrottledError
from airflow_provider_amzbiz.sandbox import Fault
from tests.client.clients import LINES, US, client_of


class Recorder(CallListener):
    """Keeps what it receives."""

    def __init__(self):
        self.responses, self.waits = [], []

    def on_response(self, operation, status):
        self.responses.append((operation, status))

    def on_permit_wait(self, operation, seconds):
        self.waits.append((operation, seconds >= 0))


def test_it_receives_each_response_and_each_wait(sandbox):
    listener = Recorder()
    client = client_of(sandbox, listener=listener)

    client.get_report(client.create_report(LINES, [US]))

    assert listener.responses == [("createReport", 202), ("getReport", 200)]
    assert listener.waits == [("createReport", True), ("getReport", True)]


def test_it_receives_a_429_too(sandbox):
    listener = Recorder()
    sandbox.inject(Fault("createReport", "status", status=429))

    with pytest.raises(ThrottledError):
        client_of(sandbox, listener=listener, max_throttle_wait=0).create_report(LINES, [US])

    assert listener.responses == [("createReport", 429)]


def test_a_permit_from_elsewhere_is_no_wait(sandbox):
    listener = Recorder()
    client = client_of(sandbox, listener=listener)
    client.grant("createReport")

    client.create_report(LINES, [US])

    assert listener.waits == []


def test_by_default_nothing_listens(sandbox):
    client = client_of(sandbox)

    assert client.create_report(LINES, [US]) in sandbox.reports
