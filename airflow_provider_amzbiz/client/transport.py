"""One call of one operation: the token, the request, the answer, and when it is worth repeating."""

from __future__ import annotations

import json
import logging
import platform
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_amzbiz import __version__
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
    rejected_token,
)
from airflow_provider_amzbiz.client.token_bucket import token_buckets

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

# Seconds to connect, and between two bytes of the answer.
TIMEOUT = (10.0, 60.0)
# Seconds after which a call that sleeps asks again whether it should stop.
_STOP_SECONDS = 0.5
# Connections to one host that are kept open: as many as there are threads in a triggerer.
_CONNECTIONS = 32
# A longer User-Agent is refused by the gateway.
_USER_AGENT_MOST = 500
# Seconds between two lines about a wait for a permit.
_SAY_SECONDS = 120.0
# Seconds by which the API's clock may differ from this machine's. A Date that is further off is a fault of the
# server or of a proxy, by which no report should be looked for.
MAX_CLOCK_OFFSET = 86400.0
# Answers that tell the rate; on others it may be missing or stale (facts, 4).
_TELL_RATE = (200, 202, 400, 404)


class Transport:
    """Calls operations for one account.

    :param config: where and as whom.
    :param retry_for: seconds that a call may go on repeating itself after a fault; 0 tries once.
    :param max_throttle_wait: seconds that a call may wait for its permits; 0 calls at once or not at all.
    :param on_token: told each access token before it is first used, so that it can be masked in logs.
    :param listener: told what happens, for metrics.
    :param stopped: asked before each request, and at least once a second while a call waits; when it returns
        True, the call raises :class:`.StoppedError`. A request under way is finished first. By default never.
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
        self._max_throttle_wait = max_throttle_wait
        self._on_token = on_token
        self._listener = listener
        self._stopped = stopped
        self._tokens = access_tokens(config)
        self._buckets = token_buckets(config)
        self._granted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._announced: str | None = None
        self.clock_offset = 0.0
        import requests

        self._session = requests.Session()
        # A triggerer's threads share the session: with fewer, each call beyond them would open a connection of its
        # own and log a warning.
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
        # Without this, requests adds an Authorization header from .netrc, so that the password of another service
        # leaves, and Login with Amazon takes it for the client's credentials. Proxies and REQUESTS_CA_BUNDLE stay.
        self._session.auth = _no_authorization
        self._session.headers["User-Agent"] = user_agent(config.application_name)

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

        Every request takes a permit of the account's limit first, and waits for it. After a fault the waits grow
        exponentially with full jitter.

        :param query: the encoded query string.
        :param repeatable: whether a second call is harmless where the first may have had its effect, or of which
            errors that is true.
        :param read: parses the body of a successful response; raises ValueError where it is not what it must be.
        :param on_sending: called right before each HTTP request of the operation, with its permit and its token
            at hand; not for requests of a token.
        :raises StoppedError: ``stopped`` returned True; nothing was sent after that.
        :raises ApiError: the last try's error, which knows how many tries there were.
        """

        # Waiting in the queue is no fault, so it does not use up the time for those.
        queued = 0.0
        until = time.monotonic() + self._max_throttle_wait

        def once() -> Any:
            nonlocal queued
            refusals = 0
            place: _Place | None = None
            try:
                while True:
                    self._check_stopped(operation)
                    # Before the permit, which should be used as soon as it is given.
                    self.token()
                    queued += self._queue(operation, until, place)
                    place = None
                    try:
                        return self._call_once(operation, method, path + query, body, read, on_sending)
                    except ThrottledError as error:
                        refusals += 1
                        place = self._after_refusal(operation, error, refusals, until)
            finally:
                if place is not None:
                    self._buckets[operation].leave(place.ticket)

        def worth_repeating(error: BaseException) -> bool:
            if not isinstance(error, TransientError) or isinstance(error, ThrottledError):
                return False
            harmless = repeatable(error) if callable(repeatable) else repeatable
            return harmless or _had_no_effect(error)

        def over(state: RetryCallState) -> bool:
            return (state.seconds_since_start or 0) + state.upcoming_sleep - queued > self._retry_for

        retrying = Retrying(
            retry=retry_if_exception(worth_repeating),
            wait=wait_random_exponential(multiplier=1, max=60),
            stop=over if self._retry_for > 0 else stop_after_attempt(1),
            before_sleep=_say_why,
            sleep=lambda seconds: self.sleep(operation, seconds),
            reraise=True,
        )
        try:
            return retrying(once)
        except ApiError as error:
            error.tries = retrying.statistics["attempt_number"]
            raise

    def grant(self, operation: str, count: int) -> None:
        """Hand over permits that somebody else queued for: so many calls do not queue again."""
        with self._lock:
            self._granted[operation] += count

    def token(self) -> str:
        """Return the current access token, getting one where there is none."""
        self._check_stopped("token")
        token = self._tokens.current(self._session)
        if token != self._announced:
            self._on_token(token)
            self._announced = token
        return token

    def sleep(self, operation: str, seconds: float) -> None:
        """Sleep before something more is sent for an operation.

        :raises StoppedError: ``stopped`` returned True meanwhile.
        """
        until = time.monotonic() + seconds
        while True:
            self._check_stopped(operation)
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _STOP_SECONDS))

    def _check_stopped(self, operation: str) -> None:
        if self._stopped():
            raise StoppedError(f"{operation} was not sent, because its caller was stopped", operation=operation)

    def _call_once(
        self,
        operation: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[bytes], Any],
        on_sending: Callable[[], None] | None,
    ) -> Any:
        # A token may have run out on the way or been revoked: one fresh token, one replay.
        for _ in range(2):
            token = self.token()
            self._check_stopped(operation)
            if on_sending is not None:
                on_sending()
            answer = self._send(operation, method, path, body, token)
            if not rejected_token(answer.status_code, answer.content):
                break
            self._tokens.discard(token)
        self._listener.on_response(operation, answer.status_code)
        self._learn(operation, answer)
        request_id = answer.headers.get("x-amzn-RequestId")
        # 3xx counts as a failure: following it would hand the access token to another host.
        if not 200 <= answer.status_code < 300:
            raise error_from_response(
                operation,
                answer.status_code,
                answer.content,
                request_id=request_id,
                retry_after=_retry_after(answer.headers.get("Retry-After")),
            ).hide(token, self._config.refresh_token, self._config.client_secret)
        try:
            return read(answer.content)
        except (ValueError, RecursionError):
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
        from airflow_provider_amzbiz.client.connection_failures import never_connected, no_response_errors, reason

        kind: type[TransientError]
        try:
            return self._session.request(
                method,
                self._config.endpoint.rstrip("/") + path,
                json=body,
                headers={"x-amz-access-token": token, "Accept": "application/json"},
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except no_response_errors() as error:
            kind, why = UnreachableError if never_connected(error) else UnavailableError, reason(error)
        # Not raised where the error of requests is being handled, because that holds the token.
        raise kind(f"{operation} got no answer from {self._config.endpoint} ({why})", operation=operation)

    def _learn(self, operation: str, answer: requests.Response) -> None:
        """Take the time from an answer, and the rate where it may be trusted with it (spec, response headers)."""
        with suppress(ValueError, TypeError, OverflowError, OSError):
            offset = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() - time.time()
            if abs(offset) <= MAX_CLOCK_OFFSET:
                self.clock_offset = offset
        said = answer.headers.get("x-amzn-RateLimit-Limit")
        if said is None or answer.status_code not in _TELL_RATE:
            return
        with suppress(ValueError):
            self._buckets[operation].learn(float(said))

    def _queue(self, operation: str, until: float, place: _Place | None) -> float:
        """Take a permit, or wait for it; return the seconds that took.

        :param place: that of a call which was throttled; None joins the end of the queue.
        :raises ThrottledError: that would take too long; nothing was sent.
        """
        bucket = self._buckets[operation]
        with self._lock:
            granted = self._granted[operation] > 0
            self._granted[operation] -= granted
        if granted:
            if place is not None:
                bucket.leave(place.ticket)
            return 0.0
        start = said = time.monotonic()
        ticket, earliest = place or _Place(bucket.join(), start)
        try:
            while left := max(earliest - time.monotonic(), 0.0) or bucket.claim(ticket):
                now = time.monotonic()
                if now + left > until:
                    raise ThrottledError(
                        f"{operation} may be called again in {left:.0f} s: the account's limit is used up",
                        operation=operation,
                    )
                if left >= 1 and now >= said:
                    said = now + _SAY_SECONDS
                    log.info(
                        "%s waits for its turn, about %.0f s: the account's limit is used up", operation, left
                    )
                self.sleep(operation, bucket.pause(left))
        finally:
            bucket.leave(ticket)
        waited = time.monotonic() - start
        self._listener.on_permit_wait(operation, waited)
        return waited

    def _after_refusal(self, operation: str, error: ThrottledError, refusals: int, until: float) -> _Place:
        """Make the next call wait; return this call's place in the queue, before all that came later."""
        bucket = self._buckets[operation]
        bucket.refused(error.retry_after)
        # Others who were refused at the same moment should not come back at the same moment.
        pause = random.uniform(0, min(2.0**refusals, 60.0))  # noqa: S311
        if time.monotonic() + pause + 1 / bucket.rate > until:
            raise error
        log.warning("%s; queueing again", error)
        return _Place(bucket.join(first=True), time.monotonic() + pause)


class _Place(NamedTuple):
    """Where a call stands in the queue: its ticket, and the monotonic time before which it does not call."""

    ticket: int
    earliest: float


def user_agent(application_name: str | None) -> str:
    """Return the User-Agent in the form that Amazon asks for.

    :raises InvalidParameterError: it would be longer than the gateway accepts.
    """
    system = platform.system() or "unknown"
    name = application_name or "airflow-provider-amzbiz"
    text = f"{name}/{__version__} (Language=Python/{platform.python_version()};Platform={system})"
    if len(text) > _USER_AGENT_MOST or not text.isprintable() or not text.isascii():
        raise InvalidParameterError(
            f"application_name is a string of {len(name)} characters, but must be printable ASCII that makes a "
            f"User-Agent of at most {_USER_AGENT_MOST} characters"
        )
    return text


def _had_no_effect(error: TransientError) -> bool:
    harmless = (ThrottledError, TokenRefusedError, UnreachableError)
    return isinstance(error, harmless) or error.operation == "token"


def _retry_after(header: str | None) -> float | None:
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    if header is None:
        return None
    # Dates that no calendar has and numbers that no float holds are as good as none.
    with suppress(InvalidHeader, ValueError, TypeError, OverflowError, OSError):
        return float(Retry().parse_retry_after(header))
    return None


def _no_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _say_why(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s; trying again in %.1f s", error, seconds)
