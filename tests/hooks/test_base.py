"""From a connection to a client: the hook's limits, and what it shows of its account."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client.token_bucket import token_buckets
from airflow_provider_amzbiz.exceptions import InvalidInputError, ThrottledError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault
from tests.conftest import connect

LINES = "SANDBOX_ORDER_LINES"


def test_a_hook_for_a_trigger_neither_waits_nor_retries_nor_masks(sandbox):
    hook = AmazonBusinessHook.for_trigger("amazon_business_default")

    assert (hook.retry_for, hook.max_throttle_wait, hook.mask_access_tokens) == (0, 0, False)
    sandbox.inject(Fault("getReport", "status", status=429))
    with pytest.raises(ThrottledError):
        hook.get_report(sandbox.add_report())
    assert sandbox.count("getReport") == 1


def test_a_time_limit_holds_for_waits_and_retries():
    hook = AmazonBusinessHook.with_time_limit("amazon_business_default", 7)

    assert (hook.retry_for, hook.max_throttle_wait, hook.mask_access_tokens) == (7, 7, True)


@pytest.mark.parametrize("limit", [-1, float("nan"), "7"])
def test_a_time_limit_that_is_none(limit):
    with pytest.raises(InvalidInputError, match="retry_for is .* must be a timedelta or seconds"):
        AmazonBusinessHook.with_time_limit("amazon_business_default", limit)


def test_its_token_bucket_is_the_accounts(sandbox):
    hook = AmazonBusinessHook()

    assert hook.token_bucket("createReport") is token_buckets(hook.client.config)["createReport"]


def test_granted_permits_are_used_first(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, rate_limits='{"createReport": [0.01, 1]}')
    hook = AmazonBusinessHook(max_throttle_wait=0)
    hook.token_bucket("createReport").emptied()
    with pytest.raises(ThrottledError):
        hook.create_report(LINES)

    hook.grant("createReport", 2)

    assert len({hook.create_report(LINES), hook.create_report(LINES)}) == 2
    with pytest.raises(ThrottledError):
        hook.create_report(LINES)


def test_the_clock_offset_is_learned_from_responses(sandbox):
    hook = AmazonBusinessHook()
    sandbox.clock.advance(5000)
    assert hook.clock_offset == 0

    hook.get_report(sandbox.add_report())

    assert hook.clock_offset == pytest.approx(5000, abs=60)


def test_the_time_of_the_api_is_that_of_its_token_at_first(sandbox):
    sandbox.clock.advance(3 * 86400)
    hook = AmazonBusinessHook()

    assert abs(hook.api_time() - sandbox.clock.now()).total_seconds() < 60
    assert [call.operation for call in sandbox.calls] == ["token"]
    # A process has one token, and the next hook learns no time from it.
    assert abs(AmazonBusinessHook().api_time() - sandbox.clock.now()).total_seconds() < 60


def test_a_page_and_its_token(sandbox):
    created = [sandbox.add_report() for _ in range(3)]
    hook = AmazonBusinessHook()

    first, token = hook.get_reports_page(report_types=LINES, page_size=2)
    second, end = hook.get_reports_page(next_token=token)

    assert sorted(each.report_id for each in first + second) == sorted(created)
    assert end is None


def test_a_page_with_a_bad_filter_is_an_error_of_ours(sandbox):
    with pytest.raises(InvalidInputError, match="page_size is 101"):
        AmazonBusinessHook().get_reports_page(report_types=LINES, page_size=101)
