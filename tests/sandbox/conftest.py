"""Fixtures of the sandbox's own tests: real HTTP, and no Airflow."""

from __future__ import annotations

import contextlib
import socket
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_amzbiz.sandbox import Sandbox

BASE = "/reports/2021-09-30"
US = "ATVPDKIKX0DER"
USER_AGENT = "Tests/1.0 (Language=Python)"


class Caller:
    """A client of the API that adds nothing of its own to what a test sends."""

    def __init__(self, sandbox, account=None):
        self.sandbox = sandbox
        self.account = account or sandbox
        self.access_token = None

    def token(self, **changes):
        """Ask for an access token; a change to None leaves the field out."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self.account.refresh_token,
            "client_id": self.account.client_id,
            "client_secret": self.account.client_secret,
            **changes,
        }
        form = {name: value for name, value in form.items() if value is not None}
        return requests.post(self.sandbox.token_url, data=form, timeout=10)

    def login(self):
        self.access_token = self.token().json()["access_token"]

    def request(self, method, path, *, headers=None, **arguments):
        if self.access_token is None:
            self.login()
        sent = {"user-agent": USER_AGENT, "x-amz-access-token": self.access_token, **(headers or {})}
        sent = {name: value for name, value in sent.items() if value is not None}
        arguments.setdefault("timeout", 10)
        # A URL that is already complete must not be encoded again.
        return requests.request(method, f"{self.sandbox.url}{path}", headers=sent, **arguments)

    def create(self, report_type="SANDBOX_ORDER_LINES", options=None, **fields):
        body = {"reportType": report_type, "marketplaceIds": [US], **fields}
        if options is not None:
            body["reportOptions"] = options
        return self.request("POST", f"{BASE}/reports", json=body)

    def created(self, *arguments, **named):
        response = self.create(*arguments, **named)
        assert response.status_code == 202, response.text
        return response.json()["reportId"]

    def list(self, query="reportTypes=SANDBOX_ORDER_LINES"):
        return self.request("GET", f"{BASE}/reports?{query}")

    def get(self, report_id):
        return self.request("GET", f"{BASE}/reports/{report_id}")

    def status(self, report_id):
        return self.get(report_id).json()["processingStatus"]

    def cancel(self, report_id):
        return self.request("DELETE", f"{BASE}/reports/{report_id}")

    def document(self, document_id):
        return self.request("GET", f"{BASE}/documents/{document_id}")

    def describe(self, *arguments, **named):
        """Create a report and return its ReportDocument."""
        report = self.get(self.created(*arguments, **named)).json()
        return self.document(report["reportDocumentId"]).json()


def download(url, method="GET", **headers):
    """Fetch a document's raw bytes, as they are on the wire."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    response = requests.request(
        method, url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=10
    )
    with response:
        response.raw_bytes = response.raw.read(decode_content=False)  # type: ignore[attr-defined]
    return response


def exchange(url, *, method="GET", headers="", body=b""):
    """Send a request over a bare socket; return all bytes until the end, and whether it ended with a reset."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n{headers}"
    head += f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n"
    received = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            return received, True
    return received, False


@pytest.fixture
def start():
    """Start sandboxes that stop with the test; by default reports are done at once and nothing is throttled."""
    with contextlib.ExitStack() as stack:

        def starter(**settings):
            settings = {"throttle": False, "queue_seconds": 0, "processing_seconds": 0, **settings}
            return stack.enter_context(Sandbox(**settings))

        yield starter


@pytest.fixture
def sandbox(start):
    return start()


@pytest.fixture
def api(sandbox):
    return Caller(sandbox)


@pytest.fixture(name="caller", scope="session")
def caller_class():
    return Caller


@pytest.fixture(name="download")
def download_function():
    return download


@pytest.fixture(name="exchange")
def exchange_function():
    return exchange


@pytest.fixture(scope="module")
def shared_api():
    """For tests that only ask and leave nothing behind: one sandbox for a whole file."""
    settings = {"throttle": False, "queue_seconds": 0, "processing_seconds": 0}
    with Sandbox(**settings) as running:
        yield Caller(running)
