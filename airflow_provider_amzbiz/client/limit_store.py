"""The server that holds the limits of all processes: one script call for each step of a wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from airflow_provider_amzbiz.client import limit_state
from airflow_provider_amzbiz.client.store_address import StoreAddress

log = logging.getLogger(__name__)

# Seconds to connect to the server, and to wait for its reply.
TIMEOUT = 1.0
# Seconds after a failure before the server is called again.
RETRY_SECONDS = 5.0
# Seconds between two warnings about one server.
_WARN_SECONDS = 60.0
# A caller that waits comes back when half of its time is over, because others may have left or been throttled; but
# at most so often, and at least so often.
_CHECK_SECONDS, _LONGEST_CHECK = 60.0, 300.0
# Seconds by which a caller may be late until it counts as dead.
GRACE = 30.0
# Seconds for which the keys of an operation are kept without a call.
_KEPT = 86400
# Seconds for which a user's limit applies to processes that do not know it.
_SET_SECONDS = 300
# What puts a place before all places that are times, in microseconds.
_FIRST = 2**52
_PREFIX = "amazon_business:limit"


class StoreUnavailableError(Exception):
    """The server cannot be used now."""


class Reply(NamedTuple):
    """What the server knows after a call.

    :ivar left: seconds until the ticket's permits are expected; 0 where they are given.
    :ivar place: the ticket's place in the queue, which it keeps.
    :ivar rate: permits per second at the moment.
    :ivar full: permits per second without a step down after a 429.
    :ivar burst: maximum permits at once.
    :ivar waiting: tickets in the queue.
    :ivar taken: permits that were taken at once.
    """

    left: float
    place: int
    rate: float
    full: float
    burst: int
    waiting: int
    taken: int


def check_after(left: float) -> float:
    """Return after how many seconds a caller comes back whose permits are expected in ``left`` seconds."""
    return min(left, max(left / 2, _CHECK_SECONDS), _LONGEST_CHECK)


@cache
def script() -> str:
    """Return the script that reserves permits, with the constants that this process uses, too."""
    constants = {
        "MARGIN": limit_state.MARGIN,
        "STEP": limit_state.STEP,
        "MIN_SHARE": limit_state.MIN_SHARE,
        "SLOWEST": limit_state.PLAUSIBLE_RATES[0],
        "RECOVERY": limit_state.RECOVERY,
        "MIN_BOUND": limit_state.MIN_BOUND,
        "MAX_PAUSE": limit_state.MAX_PAUSE,
        "CHECK_SECONDS": _CHECK_SECONDS,
        "LONGEST_CHECK": _LONGEST_CHECK,
        "GRACE": GRACE,
        "TTL": _KEPT,
        "SET_SECONDS": _SET_SECONDS,
        "FIRST": _FIRST,
    }
    head = "".join(f"local {name} = {value!r}\n" for name, value in constants.items())
    return head + files(__package__).joinpath("reserve_permits.lua").read_text()


class LimitStore:
    """A Redis or Valkey server; threads can share it.

    After a failure, it is called again after some seconds, by one caller; all others learn at once that it is
    unavailable, and use their process's own limits.

    :param address: where it is.
    :param connect: makes a client of redis-py.
    :ivar on_failure: called after each call that failed.
    """

    def __init__(self, address: StoreAddress, *, connect: Callable[[StoreAddress], Any] | None = None) -> None:
        self.address = address
        self.on_failure: Callable[[], None] = lambda: None
        self._connect = connect or _connect
        self._client: Any = None
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._failures = 0
        self._retry_at = float("-inf")
        self._warn_at = float("-inf")
        self._is_down = False

    @property
    def is_due(self) -> bool:
        """Whether a call would reach for the server, and not only learn that it was unavailable a moment ago."""
        return time.monotonic() >= self._retry_at

    def call(self, key: str, arguments: Sequence[object]) -> Reply:
        """Run the script.

        :param key: names the account and the operation, without secrets.
        :param arguments: see ``reserve_permits.lua``; None is passed as an empty string.
        :raises StoreUnavailableError: the server cannot be used now.
        """
        self._check_due()
        # The braces keep the keys of one operation together in a cluster.
        keys = [f"{_PREFIX}:{{{key}}}:{each}" for each in ("state", "queue", "leases", "counts")]
        try:
            reply = self._run(keys, ["" if each is None else each for each in arguments])
        except Exception as error:
            if not _is_of_server(error):
                raise
            self._failed(error)
        self._worked()
        left, place, rate, full, burst, waiting, taken = reply
        return Reply(float(left), int(place), float(rate), float(full), int(burst), int(waiting), int(taken))

    def check(self) -> None:
        """Connect, and run the script for an account that nobody has.

        :raises StoreUnavailableError: that does not work; the message says why.
        """
        self._retry_at = float("-inf")
        self.call("test", ["show", "", 0, 0, "", 1.0, 1, "", "", 0, ""])

    def _run(self, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        from redis.exceptions import NoScriptError

        failures = self._failures
        with self._connecting:
            if self._client is None:
                # A client of a cluster connects when it is made. Those that have waited need not try it again.
                if self._failures != failures:
                    raise StoreUnavailableError
                self._client = self._connect(self.address)
        try:
            return self._client.evalsha(_sha(), len(keys), *keys, *arguments)
        except NoScriptError:
            return self._client.eval(script(), len(keys), *keys, *arguments)

    def _check_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._retry_at:
                raise StoreUnavailableError
            if self._is_down:
                # Only this caller takes the time to find out.
                self._retry_at = now + RETRY_SECONDS

    def _failed(self, error: Exception) -> None:
        why = _reason(error, self.address)
        with self._lock:
            now = time.monotonic()
            self._is_down, self._retry_at = True, now + RETRY_SECONDS
            self._failures += 1
            is_to_warn = now >= self._warn_at
            if is_to_warn:
                self._warn_at = now + _WARN_SECONDS
        if is_to_warn:
            log.warning(
                "The rate limit store %r cannot be used (%s). Each process counts its own calls meanwhile, so "
                "some may be throttled. The store is used again as soon as possible",
                self.address.name,
                why,
            )
        self.on_failure()
        raise StoreUnavailableError(why) from None

    def _worked(self) -> None:
        if not self._is_down:
            return
        with self._lock:
            self._is_down, self._retry_at = False, float("-inf")
        log.info("The rate limit store %r is used again", self.address.name)


@cache
def limit_store(address: StoreAddress) -> LimitStore:
    """Return the process's one store at an address."""
    return LimitStore(address)


@cache
def _sha() -> str:
    import hashlib

    return hashlib.sha1(script().encode(), usedforsecurity=False).hexdigest()


def _is_of_server(error: Exception) -> bool:
    from redis.exceptions import RedisClusterException, RedisError

    # That of a cluster is no RedisError. Python raises UnicodeError for a host that cannot be a name of DNS.
    return isinstance(error, (RedisError, RedisClusterException, OSError, UnicodeError))


def _reason(error: Exception, address: StoreAddress) -> str:
    """Return an error's kind and text, without the password, on one line."""
    text = " ".join(str(error).split())[:200]
    if address.password:
        text = text.replace(address.password, "***")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _connect(address: StoreAddress) -> Any:
    from redis import Redis, RedisCluster, Sentinel
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode
    from redis.retry import Retry

    arguments: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "socket_connect_timeout": TIMEOUT,
        "socket_timeout": TIMEOUT,
        **dict(address.tls),
    }
    if address.cluster:
        hosts = ((address.host, address.port), *address.nodes)
        nodes = [ClusterNode(host, port) for host, port in hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **arguments)
    # The server may have closed a connection that was idle, or be busy for a moment. A repeated request gets the
    # same place, because it has the same name.
    arguments["retry"] = Retry(NoBackoff(), 1)
    if address.sentinel_master:
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            [(address.host, address.port), *address.nodes],
            socket_connect_timeout=TIMEOUT,
            socket_timeout=TIMEOUT,
            **dict(address.tls),
        )
        name = address.sentinel_master
        return sentinels.master_for(name, db=address.db, **arguments)  # type: ignore[no-untyped-call]
    return Redis(host=address.host, port=address.port, db=address.db, **arguments)
