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
    description = f"The request is missing a required parameter : {field}"
    assert response.json()["error_description"] == description


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


def test_a_refresh_token_of_another_application(start, caller):
    sandbox = start()
    other = sandbox.add_account()
    response = caller(sandbox).token(refresh_token=other.refresh_token)
    assert response.status_code == 400
    assert response.json()["error"] == "unauthorized_client"
    # Two customers of one application are not meant.
    same = sandbox.add_account(client_id=sandbox.client_id, client_secret=sandbox.client_secret)
    assert caller(sandbox).token(refresh_token=same.refresh_token).status_code == 200


def test_a_code_of_a_consent_is_exchanged_once(start, caller):
    sandbox = start()
    api = caller(sandbox)

    def exchange(code, **changes):
        return api.token(grant_type="authorization_code", refresh_token=None, code=code, **changes)

    response = exchange(code := sandbox.authorize(), redirect_uri="https://example.com/")
    assert response.status_code == 200
    assert list(response.json()) == ["access_token", "refresh_token", "token_type", "expires_in"]
    assert response.json()["refresh_token"] == sandbox.refresh_token
    late = sandbox.authorize()
    sandbox.clock.advance(301)
    stranger = sandbox.add_account()
    theirs = {"client_id": stranger.client_id, "client_secret": stranger.client_secret}
    for rejected in (exchange(code), exchange("made-up"), exchange(late), exchange(sandbox.authorize(), **theirs)):
        assert rejected.status_code == 400
        assert rejected.json()["error"] == "invalid_grant"
    missing = exchange(None)
    assert missing.json()["error"] == "invalid_request"
    assert missing.json()["error_description"] == "The request is missing a required parameter : code"


def test_another_grant_type_is_rejected_as_recorded(shared_api):
    response = shared_api.token(grant_type="password")
    assert response.status_code == 400
    body = response.json()
    assert set(body) == {"error_index", "error_description", "error", "request_id"}
    assert body["error"] == "unsupported_grant_type"
    description = "The authorization grant type is not supported by the authorization server"
    assert body["error_description"] == description
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
    assert response.headers["x-amzn-ErrorType"] == "AccessDeniedException"
    assert "x-amzn-RateLimit-Limit" not in response.headers
    assert response.headers["x-amzn-RequestId"]


def denied(api):
    """Call all operations; return whether each was rejected as recorded."""
    calls = (api.create(), api.list(), api.get("1"), api.cancel("1"), api.document("1"))
    error = {"code": "Unauthorized", "message": "Access to requested resource is denied.", "details": ""}
    for response in calls:
        if response.status_code == 403:
            assert response.json() == {"errors": [error]}
            assert response.headers["x-amzn-ErrorType"] == "AccessDeniedException"
            assert "x-amzn-RateLimit-Limit" not in response.headers
    return {response.status_code == 403 for response in calls}


def test_an_application_without_the_role(start, caller):
    sandbox = start(has_role=False)
    assert denied(caller(sandbox)) == {True}
    # A consent that was given after the application got the role.
    assert denied(caller(sandbox, sandbox.add_account())) == {False}
    assert denied(caller(sandbox, sandbox.add_account(has_role=False))) == {True}


@pytest.mark.parametrize(("region", "own", "other"), [("na", "na", "eu"), ("eu", "eu", "na"), ("fe", "fe", "eu")])
def test_a_consent_for_another_region(start, caller, region, own, other):
    sandbox = start(region=region)
    assert denied(caller(sandbox, sandbox.add_account(region=own))) == {False}
    assert denied(caller(sandbox, sandbox.add_account(region=other))) == {True}


def test_accounts_of_several_regions_at_one_address(start, caller):
    sandbox = start(region="any")
    ids = {"na": "ATVPDKIKX0DER", "eu": "A1PA6795UKMFR9", "fe": "A1VC38T7YXB528"}
    for region in ids:
        api = caller(sandbox, sandbox.add_account(region=region))
        statuses = {name: api.create(marketplaceIds=[each]).status_code for name, each in ids.items()}
        assert statuses == {name: 202 if name == region else 400 for name in ids}


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


def test_401_is_a_setting(start, caller):
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
