"""One call of one operation: the token, the request, the answer, and when it is worth repeating."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from typing import Any

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_random_exponential
from urllib3.exceptions import ConnectTimeoutError, InvalidHeader, MaxRetryError, NewConnectionError, SSLError
from urllib3.util import Retry

from airflow_provider_amzbiz import __version__
from airflow_provider_amzbiz.client.account import Account
from airflow_provider_amzbiz.client.auth import access_tokens
from airflow_provider_amzbiz.client.errors import (
    ApiError,
    InvalidParameterError,
    ThrottledError,
    TransientError,
    UnavailableError,
    UnreachableError,
    error_from_answer,
    rejected_token,
)

log = logging.getLogger(__name__)

# Seconds to connect, and between two bytes of the answer.
TIMEOUT = (10.0, 60.0)
# A longer User-Agent is refused by the gateway.
_USER_AGENT_MOST = 500


class Transport:
    """Calls operations for one account.

    :param account: where and as whom.
    :param retry_for: seconds that a call may go on repeating itself; 0 tries once.
    :param on_token: told each access token before it is first used, so that it can be masked in logs.
    """

    def __init__(self, account: Account, *, retry_for: float, on_token: Callable[[str], None]) -> None:
        self._account = account
        self._retry_for = retry_for
        self._on_token = on_token
        self._tokens = access_tokens(account)
        self._announced: str | None = None
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent(account.application_name)

    def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: str = "",
        body: dict[str, Any] | None = None,
        repeatable: bool = True,
        empty: bool = False,
    ) -> Any:
        """Call an operation and return its parsed JSON body, repeating it while that can help.

        The waits grow exponentially with full jitter; after a 429 they start at the time of one permit.

        :param query: the encoded query string.
        :param repeatable: whether a second call is harmless where the first may have had its effect.
        :param empty: whether a good answer has no body.
        :raises ApiError: the last try's error, which knows how many tries there were.
        """

        def worth_repeating(error: BaseException) -> bool:
            return isinstance(error, TransientError) and (repeatable or _had_no_effect(error))

        retrying = Retrying(
            retry=retry_if_exception(worth_repeating),
            wait=self._wait(operation),
            stop=stop_before_delay(self._retry_for),
            before_sleep=_say_why,
            reraise=True,
        )
        try:
            return retrying(self._call_once, operation, method, path + query, body, empty)
        except ApiError as error:
            error.tries = retrying.statistics["attempt_number"]
            raise

    def token(self) -> str:
        """Return the current access token, getting one where there is none."""
        token = self._tokens.current(self._session)
        if token != self._announced:
            self._on_token(token)
            self._announced = token
        return token

    def _call_once(self, operation: str, method: str, path: str, body: dict[str, Any] | None, empty: bool) -> Any:
        token = self.token()
        answer = self._send(operation, method, path, body, token)
        if rejected_token(answer.status_code, answer.content):
            # It may have run out on the way or been revoked: one fresh token, one replay.
            self._tokens.discard(token)
            answer = self._send(operation, method, path, body, self.token())
        request_id = answer.headers.get("x-amzn-RequestId")
        # 3xx counts as a failure: following it would hand the access token to another host.
        if not 200 <= answer.status_code < 300:
            raise error_from_answer(
                operation,
                answer.status_code,
                answer.content,
                request_id=request_id,
                retry_after=_retry_after(answer.headers.get("Retry-After")),
            )
        if empty:
            return None
        try:
            return json.loads(answer.content)
        except ValueError:
            what = "an unreadable body" if answer.content else "an empty body"
            raise UnavailableError(
                f"{operation} was answered {answer.status_code} with {what} [request id {request_id}]",
                operation=operation,
                status=answer.status_code,
                request_id=request_id,
            ) from None

    def _send(
        self, operation: str, method: str, path: str, body: dict[str, Any] | None, token: str
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                self._account.endpoint.rstrip("/") + path,
                json=body,
                headers={"x-amz-access-token": token, "Accept": "application/json"},
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            kind = UnreachableError if _never_connected(error) else UnavailableError
            raise kind(
                f"{operation} got no answer from {self._account.endpoint} ({type(error).__name__})",
                operation=operation,
            ) from error

    def _wait(self, operation: str) -> Callable[[RetryCallState], float]:
        jitter = wait_random_exponential(multiplier=1, max=60)
        seconds_per_call = 1 / self._account.limit(operation).rate

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, ThrottledError):
                # An empty bucket gives its next permit after 1/rate; asking sooner is wasted.
                floor = seconds_per_call if error.retry_after is None else error.retry_after
                return floor + jitter(state)
            return jitter(state)

        return wait


def user_agent(application_name: str | None) -> str:
    """Return the User-Agent in the form that Amazon asks for.

    :raises InvalidParameterError: it would be longer than the gateway accepts.
    """
    system = platform.system() or "unknown"
    name = application_name or "airflow-provider-amzbiz"
    text = f"{name}/{__version__} (Language=Python/{platform.python_version()};Platform={system})"
    if len(text) > _USER_AGENT_MOST or not text.isprintable() or not text.isascii():
        raise InvalidParameterError(
            f"application_name is {name!r}, but has to be printable ASCII that makes a User-Agent of at "
            f"most {_USER_AGENT_MOST} characters"
        )
    return text


def _had_no_effect(error: TransientError) -> bool:
    return isinstance(error, (ThrottledError, UnreachableError)) or error.operation == "token"


def _never_connected(error: requests.RequestException) -> bool:
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError, SSLError))


def _retry_after(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return Retry().parse_retry_after(header)
    except InvalidHeader:
        return None


def _say_why(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s; trying again in %.1f s", error, seconds)
