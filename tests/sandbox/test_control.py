"""The HTTP control of a sandbox that runs as a process of its own."""

from __future__ import annotations

import pytest
import requests


@pytest.fixture(scope="module")
def control(shared_api):
    return f"{shared_api.sandbox.url}/sandbox"


def test_health(control):
    body = requests.get(f"{control}/health", timeout=10).json()
    assert body["status"] == "healthy"


def test_control_shows_calls_without_secrets(shared_api, control):
    url = shared_api.describe()["url"]
    requests.get(url, timeout=10)
    response = requests.get(f"{control}/calls", timeout=10)
    names = {call["operation"] for call in response.json()}
    assert {"token", "createReport", "getReport", "getReportDocument", "document"} <= names
    for secret in (shared_api.access_token, shared_api.sandbox.refresh_token, "X-Amz-Signature"):
        assert secret not in response.text


def test_control_shows_reports(shared_api, control):
    report_id = shared_api.created("GET_AB_INVOICE_PDF", {"invoiceId": "SHOWN"})
    shown = {each["reportId"]: each for each in requests.get(f"{control}/reports", timeout=10).json()}
    assert shown[report_id]["reportOptions"] == {"invoiceId": "SHOWN"}
    assert shown[report_id]["processingStatus"] == "DONE"


def test_control_injects_and_clears_faults(shared_api, control):
    fault = {"operation": "getReports", "kind": "status", "status": 500, "times": None}
    assert requests.post(f"{control}/faults", json=fault, timeout=10).ok
    assert shared_api.list().status_code == 500
    assert requests.delete(f"{control}/faults", timeout=10).ok
    assert shared_api.list().status_code == 200


def test_control_scripts(shared_api, control):
    assert requests.post(f"{control}/script", json={"outcome": "FATAL"}, timeout=10).ok
    assert shared_api.status(shared_api.created()) == "FATAL"


def test_control_advances_the_clock_and_expires_tokens(start, caller):
    api = caller(start(queue_seconds=1000))
    report_id = api.created()
    control = f"{api.sandbox.url}/sandbox"
    assert api.status(report_id) == "IN_QUEUE"
    assert requests.post(f"{control}/clock", json={"advance": 1001}, timeout=10).ok
    assert api.status(report_id) == "DONE"
    assert requests.post(f"{control}/expire-tokens", timeout=10).ok
    assert api.get(report_id).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", b"{"),
        ("faults", b"[]"),
        ("faults", b'{"operation": "getReport", "kind": "nonsense"}'),
        ("faults", b'{"operation": "getReport", "kind": "status", "typo": 1}'),
        ("script", b'{"typo": 1}'),
        ("clock", b"{}"),
        ("invoices", b"{}"),
        ("invoices", b'{"issue": 5}'),
        ("invoices", b'{"issue": "123"}'),
        ("invoices", b'{"issue": [5]}'),
        ("clock", b'{"advance": "soon"}'),
    ],
)
def test_control_names_what_it_does_not_understand(control, path, body):
    response = requests.post(f"{control}/{path}", data=body, timeout=10)
    assert 400 <= response.status_code < 500
