"""Login with Amazon: the token endpoint, its errors, and what becomes of tokens."""

from __future__ import annotations

import pytest
import requests

GRANT_REFUSED = (
    "The request has an invalid grant parameter : refresh_token. "
    "User may have revoked or didn't grant the permission."
)


def test_a_token_is_given_as_recorded(api):
    response = api.token()
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert response.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert response.headers["Pragma"] == "no-cache"
    assert response.headers["x-amzn-RequestId"]
    body = response.json()
    assert list(body) == ["access_token", "refresh_token", "token_type", "expires_in"]
    assert body["access_token"].startswith("Atza|")
    assert body["refresh_token"] == api.sandbox.refresh_token
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)


def test_the_refresh_token_has_the_sign_that_needs_encoding(sandbox):
    assert sandbox.refresh_token.startswith("Atzr|")


def test_json_and_the_other_spelling_of_the_path_are_accepted(sandbox):
    form = {
        "grant_type": "refresh_token",
        "refresh_token": sandbox.refresh_token,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
    }
    for path in ("/auth/o2/token", "/auth/O2/token"):
        assert requests.post(sandbox.url + path, json=form, timeout=10).status_code == 200


@pytest.mark.parametrize("field", ["refresh_token", "client_id", "client_secret", "grant_type"])
def test_a_missing_field(shared_api, field):
    response = shared_api.token(**{field: None})
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"
    said = f"The request is missing a required parameter : {field}"
    assert response.json()["error_description"] == said


@pytest.mark.parametrize("field", ["client_id", "client_secret"])
def test_a_wrong_client(shared_api, field):
    response = shared_api.token(**{field: "wrong"})
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"
    assert response.json()["error_description"] == "Client authentication failed"


def test_a_wrong_refresh_token(shared_api):
    response = shared_api.token(refresh_token="Atzr|wrong")
    assert response.status_code == 400
    assert response.json() == {"error_description": GRANT_REFUSED, "error": "invalid_grant"}


def test_another_grant_type_is_refused_as_recorded(shared_api):
    response = shared_api.token(grant_type="password")
    assert response.status_code == 400
    body = response.json()
    assert set(body) == {"error_index", "error_description", "error", "request_id"}
    assert body["error"] == "unsupported_grant_type"
    said = "The authorization grant type is not supported by the authorization server"
    assert body["error_description"] == said
    assert response.headers["x-amzn-ErrorType"].startswith("OA2UnsupportedGrantTypeException")


def test_garbage_is_no_server_error(sandbox):
    for kind, body in [
        ("application/json", b"{"),
        ("application/json", b"[1]"),
        ("application/json", b'{"grant_type": ["refresh_token"], "client_id": {}}'),
        ("application/x-www-form-urlencoded", b"\xff\xfe=%zz"),
    ]:
        headers = {"Content-Type": kind}
        response = requests.post(sandbox.token_url, data=body, headers=headers, timeout=10)
        assert response.status_code == 400, (body, response.text)


def test_a_revoked_grant(api):
    api.sandbox.revoke()
    assert api.token().json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("token", "details"),
    [
        (None, "Access token is missing in the request header."),
        ("Atza|made-up", "The access token you provided is revoked, malformed or invalid."),
    ],
)
def test_a_call_without_a_good_token(shared_api, token, details):
    response = shared_api.request("GET", "/reports/2021-09-30/reports/1", headers={"x-amz-access-token": token})
    assert response.status_code == 403
    assert response.json() == {
        "errors": [
            {
                "code": "Unauthorized",
                "message": "Access to requested resource is denied.",
                "details": details,
            }
        ]
    }
    assert "x-amzn-RateLimit-Limit" not in response.headers
    assert response.headers["x-amzn-RequestId"]


def test_a_token_expires_by_the_sandbox_clock(start, caller):
    api = caller(start(token_seconds=100))
    assert api.token().json()["expires_in"] == 100
    api.login()
    api.sandbox.clock.advance(95)
    assert api.get("1").status_code == 404
    api.sandbox.clock.advance(10)
    response = api.get("1")
    assert response.status_code == 403
    assert response.json()["errors"][0]["details"] == "The access token you provided has expired."
    api.login()
    assert api.get("1").status_code == 404


def test_expire_tokens(api):
    assert api.get("1").status_code == 404
    api.sandbox.expire_tokens()
    assert api.get("1").status_code == 403


def test_401_where_it_is_asked_for(start, caller):
    api = caller(start(reject_with_401=True))
    response = api.request("GET", "/reports/2021-09-30/reports/1", headers={"x-amz-access-token": "Atza|x"})
    assert response.status_code == 401


def test_credentials_can_be_given(start, caller):
    sandbox = start(client_id="id", client_secret="secret", refresh_token="Atzr|given")
    assert (sandbox.client_id, sandbox.client_secret, sandbox.refresh_token) == ("id", "secret", "Atzr|given")
    assert caller(sandbox).token().status_code == 200


def test_the_connection_has_airflows_json_form(sandbox):
    assert sandbox.connection == {
        "conn_type": "amazon_business",
        "login": sandbox.client_id,
        "password": sandbox.client_secret,
        "host": sandbox.url,
        "extra": {
            "refresh_token": sandbox.refresh_token,
            "token_url": f"{sandbox.url}/auth/o2/token",
            "marketplace_ids": "ATVPDKIKX0DER",
        },
    }
