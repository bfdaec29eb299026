"""Usage plans: a bucket per account and operation, over the sandbox's clock."""

from __future__ import annotations

import pytest

PLANS = {
    "2026": {
        "createReport": ("0.1", 15, 10),
        "getReports": ("0.1", 10, 10),
        "getReport": ("2.0", 15, 0.5),
        "cancelReport": ("0.1", 10, 10),
        "getReportDocument": ("0.1", 15, 10),
    },
    "2025": {
        "createReport": ("0.0167", 15, 60),
        "getReports": ("0.0222", 10, 45.1),
        "getReport": ("2.0", 15, 0.5),
        "cancelReport": ("0.0222", 10, 45.1),
        "getReportDocument": ("0.0167", 15, 60),
    },
    "sandbox": dict.fromkeys(
        ("createReport", "getReports", "getReport", "cancelReport", "getReportDocument"), ("5.0", 15, 0.2)
    ),
}
CALLS = {
    "createReport": lambda api: api.create(),
    "getReports": lambda api: api.list(),
    "getReport": lambda api: api.get("1"),
    "cancelReport": lambda api: api.cancel("1"),
    "getReportDocument": lambda api: api.document("x"),
}
# So slow that the buckets refill only where the test puts the clock forward.
STILL = 1e-6


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan(start, caller, plan):
    api = caller(start(throttle=True, plan=plan, time_scale=STILL))
    for operation, (_, burst, refill) in PLANS[plan].items():
        call = CALLS[operation]
        statuses = [call(api).status_code for _ in range(burst + 1)]
        assert 429 not in statuses[:burst], operation
        assert statuses[burst] == 429, operation
        api.sandbox.clock.advance(refill * 0.9)
        assert call(api).status_code == 429, operation
        api.sandbox.clock.advance(refill * 0.11)
        assert call(api).status_code != 429, operation
        assert call(api).status_code == 429, operation


@pytest.mark.parametrize("plan", PLANS)
def test_the_header_shows_the_rate(start, caller, plan):
    api = caller(start(throttle=True, plan=plan))
    for operation, (rate, *_) in PLANS[plan].items():
        assert CALLS[operation](api).headers["x-amzn-RateLimit-Limit"] == rate


def test_the_header_shows_the_rate_of_the_callers_seconds(start, caller):
    api = caller(start(throttle=True, time_scale=60))
    assert api.list().headers["x-amzn-RateLimit-Limit"] == "6.0"


def test_429_is_as_recorded(start, caller):
    api = caller(start(throttle=True, time_scale=STILL))
    for _ in range(10):
        api.list()
    response = api.list()
    assert response.status_code == 429
    message = "You exceeded your quota for the requested resource."
    assert response.json() == {"errors": [{"code": "QuotaExceeded", "message": message, "details": ""}]}
    assert response.headers["Content-Length"] == "156"
    assert response.headers["x-amzn-ErrorType"] == "TooManyRequestsException"
    assert not {"retry-after", "x-amzn-ratelimit-limit"} & {name.lower() for name in response.headers}


def test_a_bucket_holds_no_more_than_its_burst(start, caller):
    api = caller(start(throttle=True, time_scale=STILL))
    api.sandbox.clock.advance(100_000)
    statuses = [api.list().status_code for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2


def test_a_throttled_call_does_nothing_else(start, caller):
    api = caller(start(throttle=True, time_scale=STILL))
    for _ in range(15):
        api.created()
    api.sandbox.script(outcome="FATAL")
    for _ in range(20):
        assert api.create().status_code == 429
    assert len(api.sandbox.reports) == 15
    # Neither the script nor a part of the next permit is used up.
    api.sandbox.clock.advance(10.001)
    assert api.status(api.created()) == "FATAL"


def test_a_rejected_token_costs_no_permit(start, caller):
    api = caller(start(throttle=True, time_scale=STILL))
    for _ in range(20):
        api.request("GET", "/reports/2021-09-30/reports?reportTypes=x", headers={"x-amz-access-token": "Atza|x"})
    assert [api.list().status_code for _ in range(11)] == [200] * 10 + [429]


def test_accounts_have_buckets_of_their_own(start, caller):
    sandbox = start(throttle=True, time_scale=STILL)
    first, second = caller(sandbox), caller(sandbox, sandbox.add_account())
    for _ in range(10):
        first.list()
    assert first.list().status_code == 429
    assert second.list().status_code == 200


def test_a_second_consent_of_the_same_application_has_its_own_bucket(start, caller):
    sandbox = start(throttle=True, time_scale=STILL)
    again = sandbox.add_account(client_id=sandbox.client_id, client_secret=sandbox.client_secret)
    assert again.refresh_token != sandbox.refresh_token
    first, second = caller(sandbox), caller(sandbox, again)
    for _ in range(10):
        first.list()
    assert first.list().status_code == 429
    assert second.list().status_code == 200


def test_a_new_access_token_is_no_new_bucket(start, caller):
    api = caller(start(throttle=True, time_scale=STILL))
    for _ in range(10):
        api.list()
    api.login()
    assert api.list().status_code == 429


def test_it_can_be_switched_off(api):
    assert {api.list().status_code for _ in range(30)} == {200}
