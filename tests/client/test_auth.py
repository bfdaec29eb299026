"""The access token, against the sandbox's LWA endpoint."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import requests

from airflow_provider_amzbiz.client import auth, errors
from airflow_provider_amzbiz.client.auth import access_tokens
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import TransientError
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.client.usage_plan import Limit
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from tests.client.clients import account_with
from tests.scripted_api import ScriptedApi


def test_fifty_threads_and_clients_share_one_exchange(sandbox):
    def token(_):
        return ReportsClient(account_with(sandbox)).token()

    with ThreadPoolExecutor(50) as pool:
        tokens = set(pool.map(token, range(50)))

    assert len(tokens) == 1
    assert sandbox.count("token") == 1


def test_a_token_is_replaced_a_minute_before_its_end(monkeypatch, sandbox):
    now = 1000.0
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: now))
    client = ReportsClient(account_with(sandbox))
    first = client.token()
    now += 3600 - 61
    assert client.token() == first
    now += 2
    assert client.token() != first
    assert sandbox.count("token") == 2


def test_an_expired_token_is_replaced_once_and_the_call_replayed(sandbox):
    report_id = sandbox.add_report(report_type="GET_AB_INVOICE_PDF")
    client = ReportsClient(account_with(sandbox))
    client.get_report(report_id)
    sandbox.expire_tokens()

    assert client.get_report(report_id).report_id == report_id
    assert sandbox.count("token") == 2
    assert sandbox.count("getReport", status=403) == 1


def test_a_fresh_token_that_is_rejected_is_replaced_once_more(sandbox):
    report_id = sandbox.add_report(report_type="GET_AB_INVOICE_PDF")
    sandbox.inject(Fault(operation="getReport", kind="expire_token", times=2))

    assert ReportsClient(account_with(sandbox)).get_report(report_id).report_id == report_id
    assert sandbox.count("getReport") == 3
    assert sandbox.count("token") == 3


def test_a_create_whose_fresh_token_is_rejected_creates_once(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="expire_token", times=2))

    ReportsClient(account_with(sandbox)).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    assert len(sandbox.reports) == 1


def test_a_token_that_stays_rejected_is_an_error_that_a_retry_may_fix(sandbox):
    sandbox.inject(Fault(operation="getReport", kind="expire_token", times=None))

    with pytest.raises(errors.TokenRefusedError, match="expired") as caught:
        ReportsClient(account_with(sandbox), retry_for=0).get_report("1")
    assert not caught.value.permanent
    assert sandbox.count("getReport") == 2


def test_fifty_threads_whose_token_is_rejected_get_one_new_one(sandbox):
    report_id = sandbox.add_report(report_type="GET_AB_INVOICE_PDF")
    client = ReportsClient(account_with(sandbox))
    client.token()
    sandbox.expire_tokens()

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: client.get_report(report_id), range(50)))

    assert sandbox.count("token") == 2


def failures_of_ten_threads(sandbox):
    """Return the errors of ten threads that need a token at the same time."""
    clients = [ReportsClient(account_with(sandbox), retry_for=0) for _ in range(10)]

    def failure(client):
        with pytest.raises(errors.ApiError) as caught:
            client.token()
        return caught.value

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(failure, clients))


@pytest.mark.parametrize("status", [503, 400])
def test_threads_that_wait_for_a_failed_exchange_share_its_failure(sandbox, status):
    body = json.dumps({"error": "invalid_client"}) if status == 400 else "html"
    sandbox.inject(Fault("token", "delay", seconds=1.0, times=None))
    sandbox.inject(Fault("token", "status", status=status, body=body, times=None))

    found = failures_of_ten_threads(sandbox)

    assert sandbox.count("token") == 1
    assert {(type(each), str(each), each.status, each.operation) for each in found} == {
        (type(found[0]), str(found[0]), status, "token")
    }
    # Each thread may add to its own, such as the number of its attempts.
    assert len(set(map(id, found))) == 10


def test_a_thread_that_needs_a_token_after_a_failed_exchange_tries_again(sandbox):
    sandbox.inject(Fault("token", "delay", seconds=0.5, times=2))
    sandbox.inject(Fault("token", "status", status=503, times=2))

    for expected in (1, 2):
        failures_of_ten_threads(sandbox)
        assert sandbox.count("token") == expected
    assert ReportsClient(account_with(sandbox), retry_for=0).token()


def test_a_late_rejection_does_not_discard_the_new_token(sandbox):
    tokens = access_tokens(account_with(sandbox))
    session = requests.Session()
    first = tokens.current(session)
    tokens.discard(first)
    second = tokens.current(session)
    tokens.discard(first)

    assert tokens.current(session) == second


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": "wrong"}, "invalid_client"),
        ({"refresh_token": "Atzr|wrong"}, "invalid_grant"),
    ],
)
def test_rejected_credentials_are_permanent_and_not_repeated(sandbox, changes, code):
    with pytest.raises(errors.AuthenticationError, match=code) as caught:
        ReportsClient(account_with(sandbox, **changes)).get_report("1")

    assert caught.value.permanent
    assert caught.value.code == code
    assert sandbox.count("token") == 1
    for secret in (sandbox.client_secret, sandbox.refresh_token):
        assert secret not in str(caught.value)


def test_a_revoked_grant(sandbox):
    sandbox.revoke()

    with pytest.raises(errors.AuthenticationError, match="invalid_grant.*revoked"):
        ReportsClient(account_with(sandbox)).token()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "body": "html"},
        {"status": 500, "body": "empty"},
        *({"status": status, "body": "html"} for status in (400, 403, 404, 405, 408, 425)),
    ],
)
def test_a_fault_of_lwa_is_waited_out(sandbox, fault):
    report_id = sandbox.add_report(report_type="GET_AB_INVOICE_PDF")
    sandbox.inject(Fault(operation="token", kind="status", **fault))

    assert ReportsClient(account_with(sandbox)).get_report(report_id)
    assert sandbox.count("token") == 2


def test_a_fault_of_lwa_does_not_make_a_create_uncertain(sandbox):
    sandbox.inject(Fault(operation="token", kind="drop"))

    assert ReportsClient(account_with(sandbox)).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])
    assert len(sandbox.reports) == 1


def test_lwa_that_cannot_be_reached():
    nowhere = ClientConfig("id", "secret", "token", token_url="http://127.0.0.1:9/auth/o2/token")

    with pytest.raises(errors.UnreachableError, match="127.0.0.1:9"):
        ReportsClient(nowhere, retry_for=0).token()


def test_a_good_status_without_a_token(sandbox):
    sandbox.inject(Fault(operation="token", kind="empty"))

    with pytest.raises(errors.UnavailableError, match="without an access token"):
        ReportsClient(account_with(sandbox), retry_for=0).token()


@pytest.mark.parametrize(
    ("status", "code"), [(503, "temporarily_unavailable"), (429, "slow_down"), (500, "internal_error")]
)
def test_a_fault_of_the_token_endpoint_passes_whatever_words_it_has(sandbox, status, code):
    body = json.dumps({"error": code, "error_description": "later"})
    sandbox.inject(Fault(operation="token", kind="status", status=status, body=body, times=None))

    with pytest.raises(TransientError):
        ReportsClient(account_with(sandbox), retry_for=0).token()


@pytest.mark.parametrize(
    ("code", "kind"),
    [("consent_required", errors.AuthenticationError), ("slow_down", errors.UnavailableError)],
)
def test_an_unknown_rejection_is_permanent_unless_its_code_is_transient(sandbox, code, kind):
    body = json.dumps({"error": code, "error_description": "in words"})
    sandbox.inject(Fault(operation="token", kind="status", status=400, body=body, times=None))

    with pytest.raises(kind, match=f"400 {code}"):
        ReportsClient(account_with(sandbox), retry_for=0).token()
    assert sandbox.count("token") == 1


def test_no_error_drags_the_secrets_along(sandbox):
    nowhere = account_with(sandbox, token_url="http://127.0.0.1:9/token")

    with pytest.raises(TransientError) as caught:
        ReportsClient(nowhere, retry_for=0).token()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_token_that_is_rejected_with_401_is_replaced_too():
    with Sandbox(throttle=False, reject_with_401=True) as sandbox:
        report_id = sandbox.add_report(report_type="GET_AB_INVOICE_PDF")
        client = ReportsClient(account_with(sandbox))
        client.get_report(report_id)
        sandbox.expire_tokens()

        assert client.get_report(report_id).report_id == report_id
        assert sandbox.count("getReport", status=401) == 1


def test_no_error_of_a_call_drags_the_token_along(sandbox):
    sandbox.inject(Fault(operation="getReport", kind="drop", times=None))

    with pytest.raises(TransientError) as caught:
        ReportsClient(account_with(sandbox), retry_for=0).get_report("1")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_429_of_lwa_is_waited_out_and_is_none_of_the_operation(sandbox):
    report_id = sandbox.add_report(report_type="GET_AB_INVOICE_PDF")
    sandbox.inject(Fault(operation="token", kind="status", status=429, headers={"Retry-After": "600"}))
    theirs = account_with(sandbox, rate_limits={"getReport": Limit(0.1, 15)})
    bucket = token_buckets(theirs)["getReport"]

    assert ReportsClient(theirs).get_report(report_id)
    assert sandbox.count("token") == 2
    assert bucket.rate == 0.1
    assert bucket.take_up_to(15) >= 13


def test_a_429_while_a_token_is_replaced_is_none_of_the_operation(sandbox):
    client = ReportsClient(account_with(sandbox))
    client.token()
    sandbox.expire_tokens()
    sandbox.inject(Fault(operation="token", kind="status", status=429))

    report_id = client.create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])

    assert list(sandbox.reports) == [report_id]
    assert sandbox.count("createReport", status=429) == 0


def test_a_429_of_lwa_that_stays_is_no_error_about_a_limit(sandbox):
    sandbox.inject(Fault(operation="token", kind="status", status=429, times=None))

    with pytest.raises(errors.UnavailableError, match="429") as caught:
        ReportsClient(account_with(sandbox), retry_for=0).get_report("1")
    assert (caught.value.operation, caught.value.status, caught.value.permanent) == ("token", 429, False)


def scripted(api, **settings):
    theirs = ClientConfig("the-client", "the-secret-of-it", "Atzr|the-refresh", api.url, api.token_url)
    auth._known.clear()
    return ReportsClient(theirs, retry_for=0, **settings)


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (b"1" + b"0" * 400, 86400),
        (b"1e400", 86400),
        (b"86401", 86400),
        (b"120", 120),
        (b"NaN", 3600),
        (b"-5", 3600),
        (b"0", 3600),
        (b"true", 3600),
        (b'"60"', 3600),
        (b"[60]", 3600),
        (b"null", 3600),
    ],
)
def test_a_lifetime_that_cannot_be_meant_is_the_usual_or_the_longest(monkeypatch, expires_in, lifetime):
    now = 1000.0
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: now))
    with ScriptedApi() as api:
        api.token = (200, b'{"access_token": "Atza|x", "expires_in": %s}' % expires_in)
        client = scripted(api)
        client.token()
        now += lifetime - 61
        client.token()
        assert len(api.requests) == 1
        now += 2
        client.token()
        assert len(api.requests) == 2


@pytest.mark.parametrize(
    "token",
    ["Atza|hidden\\nx", "Atza|hidden\\u2026", "Atza|hidden x", "Atza|hidden\\u00e9", "\\ud800", "\\u0000", ""],
)
def test_a_token_that_fits_no_header_is_an_error_that_does_not_show_it(token):
    with ScriptedApi() as api:
        api.token = (200, f'{{"access_token": "{token}", "error_description": "{token}"}}'.encode())
        with pytest.raises(errors.UnavailableError, match="200 without an access token") as caught:
            scripted(api).get_report("1")
    assert "hidden" not in f"{caught.value!r} {vars(caught.value)}"


@pytest.mark.parametrize(
    "response",
    [
        (400, b'{"error": ["invalid_grant"]}'),
        (400, b'{"error": {"a": 1}, "error_description": [1]}'),
        (401, b'{"error": 5}'),
        (400, b"\xff\xfe\x00"),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (200, b'{"access_token": ["Atza|x"]}'),
        (200, b'{"a": %s}' % (b"1" * 5000)),
        (204, b""),
        (201, b'{"access_token": "Atza|hidden"}'),
        (400, b'{"access_token": "Atza|hidden", "refresh_token'),
        (302, b'{"error": "invalid_grant_of_a_proxy"}'),
        (500, b'{"error": "\\ud800\\u0000"}'),
    ],
)
def test_any_response_of_lwa_is_a_known_error(response):
    with ScriptedApi() as api:
        api.token = response
        with pytest.raises(errors.ApiError) as caught:
            scripted(api).get_report("1")
    str(caught.value).encode()
    assert "hidden" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_secrets_that_lwa_repeats_are_not_shown():
    body = b'{"error": "invalid_client", "error_description": "the-secret-of-it and Atzr|the-refresh are wrong"}'
    with ScriptedApi() as api:
        api.token = (400, body)
        with pytest.raises(errors.AuthenticationError, match=r"\*\*\* and \*\*\* are wrong"):
            scripted(api).get_report("1")


def test_no_netrc_adds_credentials(sandbox, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password other-service\ndefault login b password other-service\n")
    monkeypatch.setenv("NETRC", str(netrc))

    ReportsClient(account_with(sandbox)).create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])

    assert [call.operation for call in sandbox.calls] == ["token", "createReport"]
    assert not any("authorization" in call.headers for call in sandbox.calls)
