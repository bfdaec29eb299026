"""Every fault, seen from the other end of the connection."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_provider_amzbiz.sandbox import Fault, RawDocument

BODY = b"0123456789" * 1000
OPERATIONS = {
    "createReport": lambda api: api.create(),
    "getReports": lambda api: api.list(),
    "getReport": lambda api: api.get("1"),
    "cancelReport": lambda api: api.cancel("1"),
    "getReportDocument": lambda api: api.document("x"),
    "token": lambda api: api.token(),
}


@pytest.fixture
def url(api):
    """The URL of a document of 10,000 bytes."""
    api.sandbox.script(document=RawDocument(body=BODY, compression_algorithm=None))
    return api.describe()["url"]


def split(received):
    """Return the head and the body of a raw response."""
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode().lower(), body


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_status_hits_its_operation_and_only_once(api, operation):
    api.login()
    api.sandbox.inject(Fault(operation=operation, kind="status", status=503))
    for name, call in OPERATIONS.items():
        assert (call(api).status_code == 503) == (name == operation)
    assert OPERATIONS[operation](api).status_code != 503


def test_a_star_hits_everything(api, url, download):
    api.sandbox.inject(Fault(operation="*", kind="status", status=500, times=None))
    assert {call(api).status_code for call in OPERATIONS.values()} == {500}
    assert download(url).status_code == 500
    api.sandbox.clear_faults()
    assert api.list().status_code == 200


def test_times_and_after(api):
    api.sandbox.inject(Fault(operation="getReports", kind="status", status=500, times=2, after=1))
    assert [api.list().status_code for _ in range(5)] == [200, 500, 500, 200, 200]


def test_faults_can_be_listed(api):
    fault = Fault(operation="getReports", kind="status")
    api.sandbox.inject(fault)
    assert api.sandbox.faults == [fault]
    api.sandbox.clear_faults()
    assert api.sandbox.faults == []


def test_two_faults_of_one_operation_come_one_after_the_other(api):
    for status in (500, 503):
        api.sandbox.inject(Fault(operation="getReports", kind="status", status=status))
    assert [api.list().status_code for _ in range(3)] == [500, 503, 200]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("json", "application/json", b'"ServiceUnavailable"'),
        ("html", "text/html", b"Website Temporarily Unavailable"),
        ("empty", "", b""),
        ("null_message", "application/json", b'"message": null'),
        ("a body of its own", "", b"a body of its own"),
    ],
)
def test_a_statuss_body(api, body, kind, expected):
    api.sandbox.inject(Fault(operation="getReports", kind="status", body=body, headers={"Retry-After": "7"}))
    response = api.list()
    assert response.status_code == 503
    assert response.headers["Content-Type"].startswith(kind)
    assert expected in response.content
    assert bool(response.content) == (body != "empty")
    assert response.headers["Retry-After"] == "7"
    assert response.headers["x-amzn-RequestId"]


def test_a_status_does_nothing(api):
    api.sandbox.inject(Fault(operation="createReport", kind="status", status=500))
    api.create()
    assert not api.sandbox.reports


def test_a_429_on_demand_is_a_real_one(api):
    api.sandbox.inject(Fault(operation="createReport", kind="status", status=429))
    response = api.create()
    assert response.json()["errors"][0]["code"] == "QuotaExceeded"
    assert not {"retry-after", "x-amzn-ratelimit-limit"} & {name.lower() for name in response.headers}


def test_empty(api):
    api.sandbox.inject(Fault(operation="createReport", kind="empty"))
    response = api.create()
    assert (response.status_code, response.content) == (200, b"")
    assert len(api.sandbox.reports) == 1


def test_lost_is_carried_out_without_a_response(api, exchange):
    api.login()
    api.sandbox.inject(Fault(operation="createReport", kind="lost"))
    body = b'{"reportType": "SANDBOX_ORDER_LINES", "marketplaceIds": ["ATVPDKIKX0DER"]}'
    headers = f"x-amz-access-token: {api.access_token}\r\nContent-Type: application/json\r\n"
    received, _ = exchange(
        f"{api.sandbox.url}/reports/2021-09-30/reports", method="POST", headers=headers, body=body
    )
    assert received == b""
    assert len(api.sandbox.reports) == 1
    assert api.sandbox.count("createReport", status=None) == 1
    assert api.sandbox.calls[-1].status is None


def test_drop_is_neither(api):
    api.login()
    api.sandbox.inject(Fault(operation="createReport", kind="drop"))
    with pytest.raises(requests.ConnectionError):
        api.create()
    assert not api.sandbox.reports


def test_lost_status_is_carried_out(api):
    api.sandbox.inject(Fault(operation="createReport", kind="lost_status", status=503, body="html"))
    response = api.create()
    assert (response.status_code, len(api.sandbox.reports)) == (503, 1)
    assert b"Website" in response.content


def test_lost_does_not_invent_success(api):
    api.sandbox.inject(Fault(operation="createReport", kind="lost"))
    with pytest.raises(requests.ConnectionError):
        api.create("NO_SUCH_TYPE")
    assert not api.sandbox.reports


@pytest.mark.parametrize("kind", ["lost", "drop"])
def test_the_server_lives_on(api, kind):
    api.login()
    api.sandbox.inject(Fault(operation="getReports", kind=kind, times=3))
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            api.list()
    assert api.list().status_code == 200


def test_delay(api):
    api.login()
    api.sandbox.inject(Fault(operation="getReports", kind="delay", seconds=0.2))
    began = time.monotonic()
    assert api.list().status_code == 200
    assert time.monotonic() - began >= 0.2


def test_expire_token(api):
    api.login()
    api.sandbox.inject(Fault(operation="getReports", kind="expire_token"))
    for _ in range(2):
        response = api.list()
        assert response.status_code == 403
        assert response.json()["errors"][0]["details"] == "The access token you provided has expired."
    api.login()
    assert api.list().status_code == 200


@pytest.mark.parametrize("operation", ["getReport", "document"])
def test_redirect(api, url, operation):
    api.sandbox.inject(Fault(operation=operation, kind="redirect", location="http://127.0.0.1:9/x"))
    target = url if operation == "document" else f"{api.sandbox.url}/reports/2021-09-30/reports/1"
    response = requests.get(target, allow_redirects=False, timeout=10)
    assert (response.status_code, response.headers["Location"]) == (302, "http://127.0.0.1:9/x")


@pytest.mark.parametrize("size", [0, 1, 4321, 9999])
def test_cut_sends_so_many_bytes_and_closes(api, url, exchange, size):
    api.sandbox.inject(Fault(operation="document", kind="cut", bytes=size))
    head, body = split(exchange(url)[0])
    assert head.startswith("http/1.1 200")
    assert "content-length: 10000" in head
    assert body == BODY[:size]
    assert split(exchange(url)[0])[1] == BODY


def test_a_cut_counts_from_the_start_of_the_range(api, url, exchange):
    api.sandbox.inject(Fault(operation="document", kind="cut", bytes=100))
    head, body = split(exchange(url, headers="Range: bytes=5000-\r\n")[0])
    assert head.startswith("http/1.1 206")
    assert body == BODY[5000:5100]


def test_a_cut_without_a_length(api, url, exchange):
    api.sandbox.inject(Fault(operation="document", kind="cut", bytes=100))
    api.sandbox.inject(Fault(operation="document", kind="no_length"))
    head, body = split(exchange(url)[0])
    assert "content-length" not in head
    # Only the last chunk, of no bytes, distinguishes a complete body from a cut one.
    assert not body.endswith(b"0\r\n\r\n")


def test_stall_sends_so_many_bytes_and_hangs(api, url):
    api.sandbox.inject(Fault(operation="document", kind="stall", bytes=1000, seconds=30))
    with requests.get(url, stream=True, timeout=0.3) as response:
        assert response.raw.read(1000) == BODY[:1000]
        with pytest.raises(Exception, match="timed out"):
            response.raw.read(1)


def test_a_stall_does_not_hold_up_others(api, url):
    api.sandbox.inject(Fault(operation="document", kind="stall", bytes=0, seconds=30))
    with requests.get(url, stream=True, timeout=5):
        assert requests.get(url, timeout=5).content == BODY
        assert api.list().status_code == 200


def test_stop_does_not_wait_for_a_stall(start, caller):
    api = caller(start())
    api.sandbox.inject(Fault(operation="document", kind="stall", bytes=10, seconds=3600))
    with requests.get(api.describe()["url"], stream=True, timeout=20) as response:
        api.sandbox.stop()
        # The other end must not be left hanging either.
        with pytest.raises(Exception):  # noqa: B017
            response.raw.read()


def test_slow(api, url):
    api.sandbox.inject(Fault(operation="document", kind="slow", bytes_per_second=50_000))
    began = time.monotonic()
    assert requests.get(url, timeout=10).content == BODY
    assert time.monotonic() - began >= 0.15


def test_expire_url(api, url, download):
    api.sandbox.inject(Fault(operation="document", kind="expire_url"))
    response = download(url)
    assert response.status_code == 403
    assert b"<Message>Request has expired</Message>" in response.raw_bytes
    assert download(url).status_code == 200


def test_no_range(api, url, download):
    api.sandbox.inject(Fault(operation="document", kind="no_range"))
    assert download(url, Range="bytes=9000-").raw_bytes == BODY
    assert download(url, Range="bytes=9000-").raw_bytes == BODY[9000:]


def test_change_etag(api, url, download):
    before = download(url).headers["ETag"]
    api.sandbox.inject(Fault(operation="document", kind="change_etag"))
    after = download(url).headers["ETag"]
    assert after != before
    assert download(url).headers["ETag"] == after
    assert download(url, If_Match=before).status_code == 412
    assert download(url, If_Range=before, Range="bytes=1-").status_code == 200


def test_no_length(api, url, exchange):
    api.sandbox.inject(Fault(operation="document", kind="no_length"))
    head, body = split(exchange(url)[0])
    assert "content-length" not in head
    assert "transfer-encoding: chunked" in head
    assert body.endswith(b"0\r\n\r\n")
    api.sandbox.inject(Fault(operation="document", kind="no_length"))
    assert requests.get(url, timeout=10).content == BODY


def test_content_encoding(api, url, download):
    api.sandbox.inject(Fault(operation="document", kind="content_encoding"))
    response = download(url)
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.raw_bytes == BODY


def test_a_status_of_a_document(api, url, download):
    api.sandbox.inject(Fault(operation="document", kind="status", status=503))
    response = download(url)
    assert response.status_code == 503
    # S3 speaks XML, whatever the API speaks.
    assert response.headers["Content-Type"] == "application/xml"


@pytest.mark.parametrize(
    "wrong",
    [
        {"operation": "getReport", "kind": "nonsense"},
        {"operation": "getReprot", "kind": "status"},
        {"operation": "getReport", "kind": "cut"},
        {"operation": "getReport", "kind": "no_range"},
        {"operation": "document", "kind": "expire_token"},
        {"operation": "document", "kind": "slow", "bytes_per_second": 0},
        {"operation": "document", "kind": "cut", "bytes": -1},
        {"operation": "getReport", "kind": "delay", "seconds": -1},
        {"operation": "getReport", "kind": "status", "status": 42},
        {"operation": "getReport", "kind": "status", "times": 0},
        {"operation": "getReport", "kind": "status", "after": -1},
    ],
)
def test_a_fault_that_could_never_happen_is_rejected(wrong):
    # One that is silently ignored would let a test pass that tests nothing.
    with pytest.raises(ValueError):
        Fault(**wrong)
