"""The web server, which stops at once."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import requests

from airflow_provider_amzbiz.sandbox import Fault, Sandbox


def test_its_port_is_open_before_it_serves():
    sandbox = Sandbox()
    responses = []
    waiting = threading.Thread(
        target=lambda: responses.append(requests.get(f"{sandbox.url}/sandbox/health", timeout=30).status_code)
    )
    waiting.start()
    with sandbox:
        waiting.join()

    assert responses == [200]


def test_it_stops_although_a_response_is_delayed():
    with Sandbox() as sandbox:
        sandbox.inject(Fault("token", "delay", seconds=600))
        failures = []

        def call():
            try:
                requests.post(sandbox.token_url, timeout=60)
            except requests.ConnectionError as error:
                failures.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        while not sandbox.calls:
            time.sleep(0.01)

    caller.join()
    assert len(failures) == 1


def test_a_stopped_sandbox_frees_its_port():
    with Sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])

    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_in_brackets():
    with Sandbox(host="::1") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert requests.get(f"{sandbox.url}/sandbox/health", timeout=10).ok
