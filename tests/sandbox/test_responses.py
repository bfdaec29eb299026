"""The form of the gateway's responses."""

from __future__ import annotations

import json

import pytest

from airflow_provider_amzbiz.sandbox import responses


@pytest.mark.parametrize(
    ("status", "has_rate"), [(200, True), (202, True), (400, True), (404, True), (403, False)]
)
def test_the_rate_is_on_some_responses_only(status, has_rate):
    response = responses.with_gateway_headers(responses.ApiResponse(status), "0.1")

    assert ("x-amzn-RateLimit-Limit" in response.headers) is has_rate
    assert {"x-amzn-RequestId", "X-Amzn-Trace-Id"} <= set(response.headers)


def test_a_response_keeps_its_own_headers():
    response = responses.with_gateway_headers(responses.quota_exceeded(), None)

    assert response.headers["x-amzn-ErrorType"] == "TooManyRequestsException"
    assert "Retry-After" not in response.headers


def test_an_error_may_have_no_message_and_no_details():
    (entry,) = json.loads(responses.error(400, "InvalidInput", None, None).body)["errors"]

    assert entry == {"code": "InvalidInput", "message": None}
