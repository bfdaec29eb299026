from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus

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
        (404, b"<html><body>no route</body></html>", errors.UnreachableError, "not the response of the API"),
        (404, b'{"message":"Not Found"}', errors.UnreachableError, "not the response of the API"),
        (408, b"", errors.UnavailableError, "408"),
        (425, b"<html></html>", errors.UnavailableError, "425"),
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


SECRET = "Atzr|IwEBI+" + "aB/=&9 ~" * 45


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote_plus(SECRET),
        quote(SECRET, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote_plus(SECRET)),
        json.dumps(SECRET + '"')[1:-2],
        SECRET[:40],
        quote_plus(SECRET)[:100],
    ],
)
@pytest.mark.parametrize("begins_at", [0, 150, 180])
def test_a_secret_that_a_server_repeats_is_not_shown_however_it_is_encoded_or_cut(shown, begins_at):
    body = errors.redacted(f"<html>{'.' * begins_at} {shown}</html>".encode(), SECRET, "")
    error = errors.error_from_response("getReport", 503, body, request_id=None)

    assert "***" in str(error)
    assert not [n for n in range(len(shown) - 8) if shown[n : n + 8].strip(".") and shown[n : n + 8] in str(error)]


def test_what_only_begins_like_a_secret_is_kept():
    assert errors.redacted(b"Atzr|IwEBI is how they begin", SECRET) == b"Atzr|IwEBI is how they begin"
    assert errors.redacted(b"all", "all") == b"all"


def test_a_long_body_is_cut():
    error = errors.error_from_response("getReport", 503, b"x" * 100_000, request_id=None)

    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "kind", [errors.ThrottledError, errors.TokenRefusedError, errors.UnavailableError, errors.UnreachableError]
)
def test_what_a_retry_may_fix(kind):
    assert not kind("m").permanent
    assert errors.RequestRejectedError("m").permanent
