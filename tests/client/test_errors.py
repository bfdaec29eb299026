from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client import errors

QUOTA = b'{"errors":[{"code":"QuotaExceeded","message":"You exceeded your quota.","details":""}]}'


@pytest.mark.parametrize(
    ("status", "body", "kind", "expected"),
    [
        (400, b'{"errors":[{"code":"InvalidInput","message":"M","details":"reportTypes;"}]}',
         errors.RequestRejectedError, "400 InvalidInput: M (reportTypes;)"),
        (400, b'{"errors":[{"code":"InvalidInput","message":null}]}', errors.RequestRejectedError, "InvalidInput"),
        (401, b"", errors.TokenRefusedError, "401 without an explanation"),
        (403, b'{"errors":[{"code":"Unauthorized","message":"Access denied.","details":""}]}',
         errors.AccessDeniedError, "Business Purchase Reconciliation"),
        (403, b'{"errors":[{"code":"Unauthorized","message":"M","details":"The access token has expired."}]}',
         errors.TokenRefusedError, "expired"),
        (404, b'{"errors":[{"code":"NotFound","message":"M"}]}', errors.NotFoundError, "NotFound"),
        (415, b"[]", errors.RequestRejectedError, "415"),
        (429, QUOTA, errors.ThrottledError, "QuotaExceeded"),
        (500, b'{"errors":[]}', errors.UnavailableError, "500"),
        (503, b"<html><body>Website Temporarily  Unavailable</body></html>",
         errors.UnavailableError, "Website Temporarily Unavailable"),
        (302, b"", errors.UnavailableError, "302"),
    ],
)  # fmt: skip
def test_a_response_becomes_an_error(status, body, kind, expected):
    error = errors.error_from_response("getReport", status, body, request_id="r-1")

    assert type(error) is kind
    assert expected in str(error)
    assert "[request id r-1]" in str(error)
    assert (error.status, error.operation, error.request_id) == (status, "getReport", "r-1")


def test_a_long_body_is_cut():
    error = errors.error_from_response("getReport", 503, b"x" * 100_000, request_id=None)

    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "kind", [errors.ThrottledError, errors.TokenRefusedError, errors.UnavailableError, errors.UnreachableError]
)
def test_what_a_retry_may_fix(kind):
    assert not kind("m").permanent
    assert errors.RequestRejectedError("m").permanent
