"""Reading an Airflow connection, with errors that never show a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.compat import AirflowException, AirflowNotFoundException
from airflow_provider_amzbiz.exceptions import AmazonBusinessError, ConnectionNotFoundError
from airflow_provider_amzbiz.hooks import supervisor

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import Connection

# What Airflow raises when a stored connection cannot be parsed.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def read_connection(
    get_connection: Callable[[str], Connection], conn_id: str, *, shown: str, missing: str
) -> Connection:
    """Return an Airflow connection.

    :param get_connection: Airflow's function.
    :param shown: what messages call the connection.
    :param missing: the message if it does not exist.
    :raises ConnectionNotFoundError: it does not exist, or cannot be read for the moment.
    :raises InvalidParameterError: it is stored in a form that Airflow cannot read.
    :raises AmazonBusinessError: it cannot be read now.
    """
    try:
        with supervisor.turn():
            return get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConnectionNotFoundError(missing) from None
    except Exception as error:  # noqa: BLE001
        unreadable = isinstance(error, _UNREADABLE) and not isinstance(error, OSError)
        kind = type(error).__name__
        if not unreadable and type(error) is not AirflowException:
            # The database, the secrets backend or the API server may only be down for a while.
            raise AmazonBusinessError(f"{shown} cannot be read now ({kind})") from None
    # Not chained: Airflow's own message may hold a part of the connection, and so a secret.
    form = f"{shown} is stored in a form that Airflow cannot read ({kind})"
    if unreadable:
        raise InvalidParameterError(
            f"{form}, but must be valid JSON, a valid URI, or fields with a port that is a number"
        )
    raise AmazonBusinessError(f"{form}, or cannot be read now")
