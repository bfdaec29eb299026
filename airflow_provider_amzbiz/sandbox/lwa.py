"""Login with Amazon: refresh tokens in, access tokens out."""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from airflow_provider_amzbiz.sandbox.responses import ApiResponse, ErrorResponse, denied

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.clock import Clock
    from airflow_provider_amzbiz.sandbox.state import SandboxAccount

# Grant types, and the parameter in which each carries its secret.
_GRANTS: Mapping[str, str] = {"refresh_token": "refresh_token", "authorization_code": "code"}
_CODE_SECONDS = 300


class Lwa:
    """The token endpoint and the tokens that it issued.

    :param token_seconds: lifetime of an access token in sandbox seconds.
    :param rejection_status: status of a rejected token; the gateway uses 403, the spec allows 401.
    """

    def __init__(self, clock: Clock, token_seconds: float, rejection_status: int) -> None:
        self._clock = clock
        self._token_seconds = token_seconds
        self._rejection_status = rejection_status
        self._tokens: dict[str, tuple[SandboxAccount, float]] = {}
        self._codes: dict[str, tuple[SandboxAccount, float]] = {}

    def exchange(self, accounts: list[SandboxAccount], body: bytes, content_type: str) -> ApiResponse:
        """Respond to a token request."""
        form = _form(body, content_type)
        grant = form.get("grant_type") or "refresh_token"
        if grant not in _GRANTS:
            return _unsupported_grant()
        for name in ("grant_type", _GRANTS[grant], "client_id", "client_secret"):
            if not form.get(name):
                description = f"The request is missing a required parameter : {name}"
                return _rejection(400, "invalid_request", description)
        clients = [account for account in accounts if account.client_id == form["client_id"]]
        if not any(account.client_secret == form["client_secret"] for account in clients):
            return _rejection(401, "invalid_client", "Client authentication failed")
        if grant == "authorization_code":
            return self._exchange_code(clients, form["code"])
        return self._refresh(accounts, clients, form["refresh_token"])

    def authorize(self, account: SandboxAccount) -> str:
        """Return an authorization code of an account: for one exchange, within five minutes."""
        code = secrets.token_urlsafe(15)
        self._codes[code] = (account, self._clock.seconds() + _CODE_SECONDS)
        return code

    def _refresh(self, accounts: list[SandboxAccount], clients: list[SandboxAccount], given: str) -> ApiResponse:
        owners = [account for account in accounts if account.refresh_token == given]
        for account in owners:
            if account in clients and not account.revoked:
                return self._grant(account)
        if owners and not any(account in clients for account in owners):
            return _rejection(400, "unauthorized_client", "Not authorized for requested operation")
        return _invalid_grant("refresh_token")

    def _exchange_code(self, clients: list[SandboxAccount], code: str) -> ApiResponse:
        account, ends = self._codes.pop(code, (None, 0.0))
        if account is None or account not in clients or account.revoked or self._clock.seconds() >= ends:
            return _invalid_grant("code")
        return self._grant(account)

    def _grant(self, account: SandboxAccount) -> ApiResponse:
        token = f"Atza|{base64.b64encode(os.urandom(96)).decode()}"
        self._tokens[token] = (account, self._clock.seconds() + self._token_seconds)
        response = {
            "access_token": token,
            "refresh_token": account.refresh_token,
            "token_type": "bearer",
            "expires_in": int(self._token_seconds),
        }
        return ApiResponse(200, _compact(response), _headers())

    def account_of(self, token: str | None) -> SandboxAccount:
        """Return the account of a token.

        :raises ErrorResponse: there is no token, it was never issued, or it has expired.
        """
        if not token:
            raise denied("Access token is missing in the request header.", self._rejection_status)
        if token not in self._tokens:
            raise denied("The access token you provided is revoked, malformed or invalid.", self._rejection_status)
        account, ends = self._tokens[token]
        if self._clock.seconds() >= ends:
            raise self.expired()
        return account

    def expired(self) -> ErrorResponse:
        """Return the rejection of an expired token, to raise."""
        return denied("The access token you provided has expired.", self._rejection_status)

    def expire_all(self) -> None:
        """Expire all tokens issued so far."""
        self._tokens = {token: (account, 0.0) for token, (account, _) in self._tokens.items()}


def _form(body: bytes, content_type: str) -> Mapping[str, str]:
    if content_type.startswith("application/json"):
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            return {}
        fields = parsed if isinstance(parsed, dict) else {}
        return {name: value for name, value in fields.items() if isinstance(value, str)}
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def _rejection(status: int, code: str, description: str) -> ApiResponse:
    return ApiResponse(status, _compact({"error_description": description, "error": code}), _headers())


def _invalid_grant(parameter: str) -> ApiResponse:
    description = f"The request has an invalid grant parameter : {parameter}. "
    return _rejection(400, "invalid_grant", description + "User may have revoked or didn't grant the permission.")


def _unsupported_grant() -> ApiResponse:
    # The one rejection that was recorded completely: it has two fields and a header more than the others.
    body = {
        "error_index": secrets.token_urlsafe(16),
        "error_description": "The authorization grant type is not supported by the authorization server",
        "error": "unsupported_grant_type",
        "request_id": str(uuid.uuid4()),
    }
    kind = "OA2UnsupportedGrantTypeException:http://internal.amazon.com/coral/com.amazon.panda/"
    return ApiResponse(400, _compact(body), {**_headers(), "x-amzn-ErrorType": kind})


def _compact(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _headers() -> dict[str, str]:
    return {
        "Server": "Server",
        "Content-Type": "application/json;charset=UTF-8",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "x-amzn-RequestId": str(uuid.uuid4()),
    }
