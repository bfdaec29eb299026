"""Parsing the fields of an Airflow connection; errors name the field, but never show its value.

Whatever a user enters may be a secret in the wrong field. So a message names the field, what it allows and what
kind of value it has, but not the value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client.config import LWA_TOKEN_URL, REGION_ENDPOINTS, ClientConfig, normalized_url
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from airflow_provider_amzbiz.hooks import supervisor

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Connection

# No secret is so short.
_HARMLESS_LENGTH = 4
_MARKETPLACE_ID = re.compile(r"[A-Za-z0-9]{1,20}")


def config_from_connection(connection: Connection) -> ClientConfig:
    """Read an ``amazon_business`` connection.

    Blanks and newlines around each field are dropped.

    :raises InvalidParameterError: a field is missing or not allowed; the message names it.
    """
    # Imported late, because it loads the HTTP client's modules.
    from airflow_provider_amzbiz.client.transport import user_agent

    extra = read_extra(connection)
    with naming(connection):
        application_name = extra_string(extra, "application_name")
        user_agent(application_name)
        login, password = (_field(connection, name) for name in ("login", "password"))
        if not connection.conn_type and not login:
            raise InvalidParameterError(
                "it has no type and no login; a URI must begin with amazon-business://, because the scheme of a "
                "URI cannot contain an underscore"
            )
        # Airflow masks the password as stored, which may be with a newline.
        if password and password != connection.password:
            supervisor.mask(password)
        region = (extra_string(extra, "region") or "na").lower()
        if region not in REGION_ENDPOINTS:
            raise InvalidParameterError(
                f"region is {shape(region)}, but must be one of {sorted(REGION_ENDPOINTS)}"
            )
        return ClientConfig(
            client_id=login or "",
            client_secret=password or "",
            refresh_token=extra_string(extra, "refresh_token") or "",
            endpoint=_endpoint(connection) or REGION_ENDPOINTS[region],
            token_url=extra_string(extra, "token_url") or LWA_TOKEN_URL,
            application_name=application_name,
            rate_limits=_rate_limits(extra.get("rate_limits")),
            source=str(connection.conn_id),
        )


def read_extra(connection: Connection) -> dict[str, Any]:
    """Return the extras, and have Airflow mask the refresh token in logs.

    :raises InvalidParameterError: they are not a JSON object.
    """
    extra = parse_extra(connection)
    if isinstance(token := extra.get("refresh_token"), str) and token.strip():
        supervisor.mask(token.strip())
    return extra


def parse_extra(connection: Connection) -> dict[str, Any]:
    """Return the extras; each secret that is masked is a request to Airflow, so once for a connection is enough.

    :raises InvalidParameterError: they are not a JSON object.
    """
    try:
        extra = json.loads(connection.extra or "{}")
    except (ValueError, TypeError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise InvalidParameterError(f"Connection {connection.conn_id!r}: extra must be a JSON object")
    return extra


def marketplace_ids_of(connection: Connection) -> list[str] | None:
    """Return the connection's marketplaces, from a comma-separated string or a list; None if there are none.

    :raises InvalidParameterError: they have another type, or are not ids.
    """
    extra = read_extra(connection)
    value = extra.get("marketplace_ids")
    allowed = "a comma-separated string or a list of ids such as ATVPDKIKX0DER"
    with naming(connection):
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            parts = value
        else:
            parts = (extra_string(extra, "marketplace_ids", allowed) or "").split(",")
        ids = [part.strip() for part in parts if part.strip()]
        if not all(_MARKETPLACE_ID.fullmatch(each) for each in ids):
            raise InvalidParameterError(f"marketplace_ids is {shape(value)}, but must be {allowed}")
    return ids or None


def extra_string(extra: Mapping[str, Any], name: str, allowed: str = "a string") -> str | None:
    """Return an extra without the blanks around it; None if it is missing or blank.

    :raises InvalidParameterError: it is not a string.
    """
    return _stripped(name, extra.get(name), allowed)


def shape(value: object) -> str:
    """Describe a value that may be a secret in the wrong field: shown only if it is too short for one."""
    if isinstance(value, str):
        shown = len(value) <= _HARMLESS_LENGTH and value.isprintable()
        return repr(value) if shown else f"a string of {len(value)} characters"
    return f"a {type(value).__name__}"


@contextmanager
def naming(connection: Connection) -> Iterator[None]:
    """Prefix the messages of errors with the connection's id."""
    try:
        yield
    except InvalidParameterError as error:
        raise InvalidParameterError(f"Connection {connection.conn_id!r}: {error}") from None


def _field(connection: Connection, name: str) -> str | None:
    return _stripped(name, getattr(connection, name))


def _stripped(name: str, value: object, allowed: str = "a string") -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidParameterError(f"{name} is {shape(value)}, but must be {allowed}")
    return (value or "").strip() or None


def _endpoint(connection: Connection) -> str | None:
    """Return the base URL: as given, or joined from the parts into which a URI or a form has split it."""
    host, port = _field(connection, "host"), port_of(connection)
    if host is None:
        if port not in (None, 443):
            raise InvalidParameterError(f"port is {port}, but there is no Endpoint (host) to which it belongs")
        return None
    if "://" not in host:
        with suppress(ValueError):
            # The host of a URI is stored without its brackets.
            host = f"[{IPv6Address(host)}]"
        host = f"{_field(connection, 'schema') or 'https'}://{host}"
    url = normalized_url("endpoint", host)
    if port is None:
        return url
    parts = urlsplit(url)
    # The normalized URL has no default port, but the field may have named it.
    given = urlsplit(host).port
    if given not in (None, port):
        raise InvalidParameterError(
            f"port is {port}, but must be {given} or empty, because the Endpoint (host) has port {given}"
        )
    shown = parts.netloc if parts.port else f"{parts.netloc}:{port}"
    return f"{parts.scheme}://{shown}{parts.path}"


def port_of(connection: Connection) -> int | None:
    """Return the port field; None if it is empty, or 0, which some versions of Airflow require.

    :raises InvalidParameterError: it is no port.
    """
    value: Any = connection.port
    if isinstance(value, str):
        value = value.strip() or None
        if value is not None and value.isascii() and value.isdecimal() and len(value) <= 5:
            value = int(value)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise InvalidParameterError(f"port is {shape(value)}, but must be an integer from 1 to 65535, or empty")
    return value


def _rate_limits(value: Any) -> dict[str, Limit]:
    """Read ``{"createReport": [0.1, 15], ...}``, as a JSON string or as the object itself."""
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _no_limits("not valid JSON") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _no_limits(shape(value))
    return {_operation(name): _limit(name, each) for name, each in value.items()}


def _operation(name: object) -> str:
    if name not in USAGE_PLAN:
        raise _no_limits("an object that names another operation")
    return str(name)


def _limit(name: str, value: Any) -> Limit:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise _no_limits(f"an object whose {name} is {shape(value)}")
    rate, burst = value
    for number in value:
        if isinstance(number, bool) or not isinstance(number, (int, float, str)):
            raise _no_limits(f"an object whose {name} has {shape(number)} in it")
    try:
        limit = Limit(float(rate), int(burst))
        whole = limit.burst == float(burst)
    except (ValueError, OverflowError):
        raise _no_limits(f"an object whose {name} has no number, or one that is infinite or too large") from None
    if not (0 < limit.rate < math.inf) or limit.burst < 1 or not whole:
        raise _no_limits(
            f"an object whose {name} has a rate of 0 or less, or a burst that is not an integer above 0"
        )
    return limit


def _no_limits(what: str) -> InvalidParameterError:
    return InvalidParameterError(
        f'rate_limits is {what}, but must be a JSON object such as {{"createReport": [0.1, 15]}}: an operation of '
        f"{sorted(USAGE_PLAN)} to requests per second (a finite number above 0) and burst (an integer "
        "of at least 1)"
    )
