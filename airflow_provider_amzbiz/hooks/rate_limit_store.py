"""Reading ``rate_limit_store``: the Airflow connection of the server that all processes share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.store_address import StoreAddress
from airflow_provider_amzbiz.hooks.connection import extra_string, naming, parse_extra, port_of, shape
from airflow_provider_amzbiz.hooks.reading import read_connection

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Connection

_FIELD = "rate_limit_store"
# Connection types; the second one is what Airflow makes of a URI that begins with rediss://.
_TYPES = ("redis", "rediss")
_CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,200}")
_PORT, _SENTINEL_PORT = 6379, 26379
_TLS_FLAGS = ("ssl", "ssl_check_hostname")
_TLS_STRINGS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_keyfile", "ssl_certfile")
_CERT_REQS = ("required", "optional", "none")
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}


def rate_limit_store_of(
    connection: Connection, get_connection: Callable[[str], Connection]
) -> StoreAddress | None:
    """Return the server that an ``amazon_business`` connection names in its extra ``rate_limit_store``.

    The named connection is of Airflow's type ``redis``, and its fields and extras are those of the Redis provider:
    host, port, login, password, ``db``, ``ssl`` and what begins with ``ssl_``, ``cluster``, ``startup_nodes``; and
    ``sentinel_master`` with ``sentinels``.

    :param get_connection: reads a connection by its id.
    :return: None if the extra is missing or blank.
    :raises InvalidParameterError: the value, or a field of the named connection, is not allowed.
    :raises ConnectionNotFoundError: there is no such connection, or it cannot be read for the moment.
    :raises AmazonBusinessError: it cannot be read now.
    """
    with naming(connection):
        conn_id = extra_string(parse_extra(connection), _FIELD, "the id of an Airflow connection of type redis")
        if conn_id is None:
            return None
        _check_id(conn_id)
        if find_spec("redis") is None:
            raise InvalidParameterError(
                f"{_FIELD} is set, but the Python package redis is not installed; install it with "
                "pip install 'airflow-provider-amzbiz[redis]', on workers and triggerers alike"
            )
    # The id is not shown, because it may be a secret in the wrong field.
    shown = f"The {_FIELD} of connection {connection.conn_id!r}"
    store = read_connection(
        get_connection,
        conn_id,
        shown=shown,
        missing=f"{shown} does not exist, or cannot be read; add a connection of type 'redis' and name it, or "
        "leave the field empty",
    )
    with naming(connection):
        if store.conn_type not in _TYPES:
            raise InvalidParameterError(
                f"{_FIELD} names a connection of another type, but must name one of type 'redis', for Redis or "
                "Valkey"
            )
    with naming(store):
        return _address(store, parse_extra(store))


def _check_id(conn_id: str) -> None:
    if "://" in conn_id:
        raise InvalidParameterError(
            f"{_FIELD} is a URL, but must be the id of an Airflow connection of type redis: a URL may hold a "
            "password, and Airflow shows extras in its forms. Put the URL into a connection of its own, such as "
            "AIRFLOW_CONN_REDIS_DEFAULT, and name that"
        )
    if not _CONN_ID.fullmatch(conn_id):
        raise InvalidParameterError(
            f"{_FIELD} is {shape(conn_id)}, but must be the id of an Airflow connection of type redis, such as "
            "redis_default"
        )


def _address(store: Connection, extra: Mapping[str, Any]) -> StoreAddress:
    host = (store.host or "").strip()
    if not host:
        raise InvalidParameterError("host is missing, but must be the host of a Redis or Valkey server")
    master, cluster = extra_string(extra, "sentinel_master"), _flag(extra, "cluster")
    db = _db(store, extra)
    if cluster and (db or master):
        raise InvalidParameterError(
            "cluster is set together with db or sentinel_master, but a cluster has only database 0, and no "
            "sentinels"
        )
    further, port = ("sentinels", _SENTINEL_PORT) if master else ("startup_nodes", _PORT)
    password = store.password if str(store.password).lower() not in ("none", "false", "") else None
    return StoreAddress(
        name=str(store.conn_id),
        host=host,
        port=port_of(store) or port,
        username=store.login or None,
        password=password,
        db=db,
        tls=_tls(store, extra),
        nodes=_nodes(extra, further, port),
        cluster=cluster,
        sentinel_master=master,
    )


def _flag(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name)
    if isinstance(value, bool) or value is None:
        return bool(value)
    flag = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None
    if flag is None:
        raise InvalidParameterError(f"{name} is {shape(value)}, but must be true or false")
    return flag


def _db(store: Connection, extra: Mapping[str, Any]) -> int:
    """Return the number of the database, which a URI has as its path."""
    value: Any = extra.get("db")
    if value in (None, ""):
        value = (store.schema or "").strip() or 0
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidParameterError(f"db is {shape(value)}, but must be an integer of at least 0")
    return value


def _tls(store: Connection, extra: Mapping[str, Any]) -> tuple[tuple[str, str | bool], ...]:
    flags = {name: _flag(extra, name) for name in _TLS_FLAGS if extra.get(name) is not None}
    if store.conn_type == "rediss":
        flags["ssl"] = True
    if not flags.get("ssl"):
        return ()
    strings = {name: extra_string(extra, name) for name in _TLS_STRINGS}
    if strings["ssl_cert_reqs"] not in (*_CERT_REQS, None):
        raise InvalidParameterError(
            f"ssl_cert_reqs is {shape(strings['ssl_cert_reqs'])}, but must be one of {sorted(_CERT_REQS)}"
        )
    return (*flags.items(), *((name, value) for name, value in strings.items() if value is not None))


def _nodes(extra: Mapping[str, Any], name: str, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for entry in (extra_string(extra, name) or "").split(","):
        host, _, port = entry.strip().partition(":")
        if port and not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
            raise InvalidParameterError(
                f"{name} has a node with a port that is not an integer from 1 to 65535, but must be a "
                "comma-separated string such as host-1:6379,host-2:6379"
            )
        if host:
            found.append((host, int(port or default_port)))
    return tuple(found)
