"""One call of one operation: the token, the permit, the request, the response, and when it is repeated."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_amzbiz import __version__
from airflow_provider_amzbiz.client.api_clock import clock_offset_of
from airflow_provider_amzbiz.client.auth import access_tokens
from airflow_provider_amzbiz.client.call_listener import CallListener
from airflow_provider_amzbiz.client.config import ClientConfig
from airflow_provider_amzbiz.client.errors import (
    ApiError,
    InvalidParameterError,
    StoppedError,
    ThrottledError,
    TokenRefusedError,
    TransientError,
    UnavailableError,
    UnreachableError,
    error_from_response,
    redacted,
    rejected_token,
)
from airflow_provider_amzbiz.client.limit_store import limit_store
from airflow_provider_amzbiz.client.permit_queue import PermitQueue, PermitWait
from airflow_provider_amzbiz.client.sleeping import interruptible_sleep
from airflow_provider_amzbiz.client.token_bucket import token_buckets

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

# Seconds to connect, and between two bytes of the response.
TIMEOUT = (10.0, 60.0)
# Connections to one host that are kept open: as many as there are threads in a triggerer.
_CONNECTIONS = 64
# The gateway rejects a longer User-Agent.
_MAX_USER_AGENT = 500
# Status codes that carry a reliable rate; on others the header may be missing or stale.
_RATE_STATUSES = (200, 202, 400, 404)


class _Request(NamedTuple):
    operation: str
    method: str
    path: str
    body: dict[str, Any] | None
    read: Callable[[bytes], Any]
    on_sending: Callable[[], None] | None


class Transport:
    """Calls operations for one account.

    :param config: where and as whom.
    :param retry_for: seconds for which a call may be repeated after a fault; 0 sends it once.
    :param max_throttle_wait: seconds that a call may wait for its permits; 0 calls at once or raises.
    :param on_token: receives each access token before it is first used, so that it can be masked in logs.
    :param listener: receives what happens, for metrics.
    :param stopped: called before each request, and at least once a second while a call waits; when it returns
        True, the call raises :class:`.StoppedError`. A request in progress is finished first. By default never.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        retry_for: float,
        max_throttle_wait: float,
        on_token: Callable[[str], None],
        listener: CallListener,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._retry_for = retry_for
        self._on_token = on_token
        self._listener = listener
        self._stopped = stopped
        self._tokens = access_tokens(config)
        self._buckets = token_buckets(config)
        if config.rate_limit_store is not None:
            limit_store(config.rate_limit_store).on_failure = listener.on_store_failure
        self._permits = PermitQueue(self._buckets, max_wait=max_throttle_wait, sleep=self.sleep, listener=listener)
        self._announced: str | None = None
        self._clock_offset: float | None = None
        self._session = _session(config.application_name)

    def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: str = "",
        body: dict[str, Any] | None = None,
        repeatable: bool | Callable[[TransientError], bool] = True,
        read: Callable[[bytes], Any] = json.loads,
        on_sending: Callable[[], None] | None = None,
    ) -> Any:
        """Call an operation and return its parsed body, repeating it while that can help.

        Every request first takes a permit of the account's limit, and waits for it. After a fault the pauses grow
        exponentially with full jitter.

        :param query: the encoded query string.
        :param repeatable: whether a second call is harmless where the first may have had its effect; or a
            function that returns this for an error.
        :param read: parses the body of a successful response; raises ValueError if it cannot.
        :param on_sending: called right before each HTTP request of the operation, when it has its permit and its
            token; not for requests of a token.
        :raises StoppedError: ``stopped`` returned True; nothing was sent after that.
        :raises ApiError: the error of the last attempt, with the number of attempts.
        """
        request = _Request(operation, method, path + query, body, read, on_sending)
        wait = PermitWait(self._permits, operation)
        retrying = self._retrying(operation, wait, repeatable=repeatable)
        try:
            return retrying(self._attempt, request, wait)
        except ApiError as error:
            error.attempts = retrying.statistics["attempt_number"]
            raise

    def _retrying(
        self, operation: str, wait: PermitWait, *, repeatable: bool | Callable[[TransientError], bool]
    ) -> Retrying:
        """Return the retries of a call: after a fault only, because a 429 queues again for its permit."""

        def should_retry(error: BaseException) -> bool:
            if not isinstance(error, TransientError) or isinstance(error, ThrottledError):
                return False
            harmless = repeatable(error) if callable(repeatable) else repeatable
            return harmless or _had_no_effect(error)

        def is_over(state: RetryCallState) -> bool:
            # Time in the queue is no fault, so it does not count.
            return (state.seconds_since_start or 0) + state.upcoming_sleep - wait.seconds > self._retry_for

        return Retrying(
            retry=retry_if_exception(should_retry),
            wait=wait_random_exponential(multiplier=1, max=60),
            stop=is_over if self._retry_for > 0 else stop_after_attempt(1),
            before_sleep=_log_retry,
            sleep=lambda seconds: self.sleep(operation, seconds),
            reraise=True,
        )

    def wait_longer(self, max_throttle_wait: float) -> None:
        """Let later calls wait so many seconds for their permits."""
        self._permits.max_wait = max_throttle_wait

    def grant(self, operation: str, permits: int) -> None:
        """Take over permits that were acquired elsewhere: as many calls do not queue again."""
        self._permits.grant(operation, permits)

    def token(self) -> str:
        """Return the current access token, requesting one where there is none."""
        self._check_stopped("token")
        token = self._tokens.current(self._session, lambda: self._check_stopped("token"))
        if token != self._announced:
            self._on_token(token)
            self._announced = token
        return token

    @property
    def clock_offset(self) -> float:
        """Seconds by which the API's clock is ahead, by its last response, else by that for the token, else 0."""
        return self._tokens.clock_offset if self._clock_offset is None else self._clock_offset

    def now(self) -> datetime:
        """Return the API's time, aware, to a second; requests a token where there was no response yet."""
        self.token()
        return datetime.now(timezone.utc) + timedelta(seconds=self.clock_offset)

    def sleep(self, operation: str, seconds: float) -> None:
        """Sleep before the next request of an operation.

        :raises StoppedError: ``stopped`` returned True meanwhile.
        """
        interruptible_sleep(seconds, lambda: self._check_stopped(operation))

    def _check_stopped(self, operation: str) -> None:
        if self._stopped():
            raise StoppedError(f"{operation} was not sent, because its caller was stopped", operation=operation)

    def _attempt(self, request: _Request, wait: PermitWait) -> Any:
        with wait:
            while True:
                self._check_stopped(request.operation)
                # Before the permit, which should be used as soon as it is there.
                self.token()
                wait.acquire()
                try:
                    return self._call_once(request)
                except ThrottledError as error:
                    wait.rejoin(error)

    def _call_once(self, request: _Request) -> Any:
        operation = request.operation
        # A token may have expired in transit or been revoked: one fresh token, one replay.
        for _ in range(2):
            token = self.token()
            self._check_stopped(operation)
            if request.on_sending is not None:
                request.on_sending()
            response = self._send(request, token)
            if not rejected_token(response.status_code, response.content):
                break
            self._tokens.discard(token, lambda: self._check_stopped(operation))
        self._listener.on_response(operation, response.status_code)
        self._learn(operation, response)
        request_id = response.headers.get("x-amzn-RequestId")
        # 3xx counts as a failure: following it would give the access token to another host.
        if not 200 <= response.status_code < 300:
            raise error_from_response(
                operation,
                response.status_code,
                redacted(response.content, token, self._config.refresh_token, self._config.client_secret),
                request_id=request_id,
                retry_after=_retry_after(response.headers.get("Retry-After")),
            )
        try:
            return request.read(response.content)
        except (ValueError, RecursionError):
            what = "an unreadable body" if response.content else "an empty body"
            raise UnavailableError(
                f"{operation} returned {response.status_code} with {what} [request id {request_id}]",
                operation=operation,
                status=response.status_code,
                request_id=request_id,
            ) from None

    def _send(self, request: _Request, token: str) -> requests.Response:
        from airflow_provider_amzbiz.client.connection_failures import never_connected, no_response_errors, reason

        kind: type[TransientError]
        try:
            return self._session.request(
                request.method,
                self._config.endpoint.rstrip("/") + request.path,
                json=request.body,
                headers={"x-amz-access-token": token, "Accept": "application/json"},
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except no_response_errors() as error:
            kind, why = UnreachableError if never_connected(error) else UnavailableError, reason(error)
        # Raised outside the except block, because the error of requests holds the token.
        raise kind(
            f"{request.operation} got no response from {self._config.endpoint} ({why})",
            operation=request.operation,
        )

    def _learn(self, operation: str, response: requests.Response) -> None:
        """Learn the API's time from a response, and its rate where that is reliable (spec, response headers)."""
        offset = clock_offset_of(response.headers)
        if offset is not None:
            self._clock_offset = offset
        rate = response.headers.get("x-amzn-RateLimit-Limit")
        if rate is None or response.status_code not in _RATE_STATUSES:
            return
        with suppress(ValueError):
            self._buckets[operation].learn(float(rate))


def user_agent(application_name: str | None) -> str:
    """Return the User-Agent in the form that Amazon asks for.

    :raises InvalidParameterError: it would be longer than the gateway accepts.
    """
    system = platform.system() or "unknown"
    name = application_name or "airflow-provider-amzbiz"
    agent = f"{name}/{__version__} (Language=Python/{platform.python_version()};Platform={system})"
    if len(agent) > _MAX_USER_AGENT or not agent.isprintable() or not agent.isascii():
        raise InvalidParameterError(
            f"application_name is a string of {len(name)} characters, but must be printable ASCII that makes a "
            f"User-Agent of at most {_MAX_USER_AGENT} characters"
        )
    return agent


def _session(application_name: str | None) -> requests.Session:
    import requests

    session = requests.Session()
    # A triggerer's threads share the session: with fewer, each call beyond them would open a connection of its own
    # and log a warning.
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    # Without this, requests adds an Authorization header from .netrc: the password of another service would be
    # sent, and Login with Amazon would take it for the client's credentials. Proxies and REQUESTS_CA_BUNDLE still
    # apply.
    session.auth = _no_authorization
    session.headers["User-Agent"] = user_agent(application_name)
    return session


def _no_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _had_no_effect(error: TransientError) -> bool:
    harmless = (ThrottledError, TokenRefusedError, UnreachableError)
    return isinstance(error, harmless) or error.operation == "token"


def _retry_after(header: str | None) -> float | None:
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    if header is None:
        return None
    # A date that no calendar has, or a number that no float can hold, counts as no header.
    with suppress(InvalidHeader, ValueError, TypeError, OverflowError, OSError):
        return float(Retry().parse_retry_after(header))
    return None


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s; retrying in %.1f s", error, seconds)
