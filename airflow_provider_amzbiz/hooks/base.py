"""From an Airflow connection to a client of its account: what the hook has before its first operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.config import is_loopback
from airflow_provider_amzbiz.client.parameters import required_string, seconds
from airflow_provider_amzbiz.compat import BaseHook
from airflow_provider_amzbiz.exceptions import translated_errors
from airflow_provider_amzbiz.hooks import supervisor
from airflow_provider_amzbiz.hooks.connection import config_from_connection
from airflow_provider_amzbiz.hooks.connection_check import SECRET_DAYS, SECRET_WARNING_DAYS, secret_age
from airflow_provider_amzbiz.hooks.rate_limit_store import rate_limit_store_of
from airflow_provider_amzbiz.hooks.reading import read_connection

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow_provider_amzbiz.client.config import ClientConfig
    from airflow_provider_amzbiz.client.reports import ReportsClient
    from airflow_provider_amzbiz.client.token_bucket import AnyBucket
    from airflow_provider_amzbiz.compat import Connection

_keep_first = threading.Lock()


class AmazonBusinessBaseHook(BaseHook):
    """Reads an ``amazon_business`` connection and makes the client of its account.

    The parameters are those of :class:`.AmazonBusinessHook`.
    """

    conn_name_attr = "amazon_business_conn_id"
    default_conn_name = "amazon_business_default"
    conn_type = "amazon_business"
    hook_name = "Amazon Business"
    _connection: Connection | None = None
    _client: ReportsClient | None = None

    def __init__(
        self,
        amazon_business_conn_id: str = default_conn_name,
        *,
        retry_for: timedelta | float = 120.0,
        max_throttle_wait: timedelta | float = 3600.0,
        mask_access_tokens: bool = True,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.amazon_business_conn_id = amazon_business_conn_id
        with translated_errors():
            self.retry_for = seconds("retry_for", retry_for, zero=True)
            self.max_throttle_wait = seconds("max_throttle_wait", max_throttle_wait, zero=True)
        self.mask_access_tokens = mask_access_tokens
        self.stopped = stopped

    @classmethod
    def with_time_limit(
        cls, amazon_business_conn_id: str, limit: float, *, mask_access_tokens: bool = True
    ) -> Self:
        """Return a hook for calls that must not take long.

        :param limit: seconds that one call may wait for its permit, and as many that it may repeat itself after a
            fault; 0 sends each request once and at once, or raises.
        """
        return cls(
            amazon_business_conn_id,
            retry_for=limit,
            max_throttle_wait=limit,
            mask_access_tokens=mask_access_tokens,
        )

    @classmethod
    def for_trigger(cls, amazon_business_conn_id: str) -> Self:
        """Return a hook for the triggerer: it neither sleeps nor retries, because its triggers do both.

        It leaves access tokens out of Airflow's masker, which never forgets one: a triggerer runs for weeks.
        """
        return cls.with_time_limit(amazon_business_conn_id, 0, mask_access_tokens=False)

    # Not functools.cached_property: before Python 3.12, it holds one lock for all hooks while it reads.
    @property
    def connection(self) -> Connection:
        """The Airflow connection, read once."""
        if self._connection is None:
            self._connection = self._read_connection()
        return self._connection

    @property
    def client(self) -> ReportsClient:
        """The client of the connection's account; it shares the access token and the limits of the account."""
        if self._client is None:
            made = self._make_client()
            # If two threads need it at a time, both get the same one, which may hold permits.
            with _keep_first:
                self._client = self._client or made
        return self._client

    @property
    def is_connected(self) -> bool:
        """Whether there is a client, so that nothing must be read for it."""
        return self._client is not None

    def _read_connection(self) -> Connection:
        with translated_errors():
            conn_id = required_string("amazon_business_conn_id", self.amazon_business_conn_id)
            return read_connection(
                self.get_connection,
                conn_id,
                shown=f"Connection {conn_id!r}",
                missing=f"There is no connection {conn_id!r}, or it cannot be read; add one of type "
                f"{self.conn_type!r}, or set another amazon_business_conn_id. An environment variable "
                f"AIRFLOW_CONN_{conn_id.upper()} must be exported and valid JSON or a "
                "valid URI; outside a task, Airflow 3 does not search its database",
            )

    def _make_client(self) -> ReportsClient:
        from airflow_provider_amzbiz.client.reports import ReportsClient
        from airflow_provider_amzbiz.metrics import CallMetrics

        with translated_errors():
            config = config_from_connection(self.connection)
            store = rate_limit_store_of(self.connection, self.get_connection)
            if store is not None:
                config = replace(config, rate_limit_store=store)
            _warn_of_old_secret(self.connection, self.log)
            return ReportsClient(
                config,
                retry_for=self.retry_for,
                max_throttle_wait=self.max_throttle_wait,
                on_token=supervisor.mask if self.mask_access_tokens else lambda _: None,
                listener=CallMetrics(),
                stopped=self.stopped,
            )

    def get_conn(self) -> ReportsClient:
        """Return the client."""
        return self.client

    @property
    def config(self) -> ClientConfig:
        """Where the connection calls the API, and as whom."""
        return self.client.config

    @property
    def is_local(self) -> bool:
        """Whether the API is one on this machine; its documents may be there too, by http or https."""
        return is_loopback(self.api_host)

    @property
    def api_host(self) -> str:
        """The host of the API's endpoint, a name or an address, which may serve documents by https."""
        return urlsplit(self.config.endpoint).hostname or ""

    @property
    def clock_offset(self) -> float:
        """Seconds by which the API's clock is ahead of this machine's, by its last response; 0 before one."""
        return self.client.clock_offset

    def api_time(self) -> datetime:
        """Return the API's time, aware, by its last response; where there was none, a token is requested."""
        with translated_errors():
            return self.client.transport.now()

    def token_bucket(self, operation: str) -> AnyBucket:
        """Return the token bucket of the account for an operation, such as ``createReport``.

        It is the process's own, or shares the connection's limit store with other processes.
        """
        from airflow_provider_amzbiz.client.token_bucket import token_buckets

        return token_buckets(self.config)[operation]

    def grant(self, operation: str, permits: int = 1) -> None:
        """Give this hook's next calls of an operation permits that are already acquired, so that none queues.

        :param operation: operation id of the API, such as ``createReport``.
        """
        self.client.grant(operation, permits)


def _warn_of_old_secret(connection: Connection, log: Any) -> None:
    """Warn in time before the client secret expires.

    :raises InvalidParameterError: ``client_secret_created_on`` is no ISO date, or is in the future.
    """
    age = secret_age(connection)
    if age is not None and age >= SECRET_WARNING_DAYS:
        log.warning(
            "The client secret of connection %r is %s days old; Amazon expires it after %s. Rotate it in time",
            connection.conn_id,
            age,
            SECRET_DAYS,
        )
