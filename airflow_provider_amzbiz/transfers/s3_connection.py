"""A boto3 client from an Airflow connection: with the credentials of that connection, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_amzbiz.compat import AirflowNotFoundException
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ConnectionNotFoundError,
    InvalidInputError,
)
from airflow_provider_amzbiz.hooks import supervisor

# The extras of an AWS connection that are not secret, so that an error may show them.
_PUBLIC = frozenset(
    {
        "assume_role_method", "config_kwargs", "endpoint_url", "region_name", "role_arn", "service_config",
        "verify",
    }
)  # fmt: skip
# Shorter values are no secrets, and replacing them would garble a message.
_MIN_SECRET_LENGTH = 6


def s3_client(aws_conn_id: str | None) -> Any:
    """Return a boto3 client for S3.

    :param aws_conn_id: the Airflow connection, None for boto3's own credential chain.
    :raises InvalidInputError: it is empty, or needs the extra ``amazon``.
    :raises ConnectionNotFoundError: there is no such connection; boto3's own chain is never used instead.
    :raises AmazonBusinessError: no client could be created from it.
    """
    secrets: list[str] = []
    try:
        return _boto3_client() if aws_conn_id is None else _client_of_connection(aws_conn_id, secrets)
    except AmazonBusinessError:
        raise
    except Exception as error:  # noqa: BLE001
        failure = _failure(aws_conn_id, error, secrets)
    # Not raised in the except block: the other error would become its context, and may contain a secret.
    raise failure


def _boto3_client() -> Any:
    import boto3

    return boto3.client("s3")


def _client_of_connection(aws_conn_id: str, secrets: list[str]) -> Any:
    """Return the client, and add the connection's secrets to ``secrets``."""
    if not isinstance(aws_conn_id, str) or not aws_conn_id.strip():
        raise InvalidInputError(
            f"aws_conn_id is {aws_conn_id!r}, but must be the id of an Airflow connection, or None for boto3's "
            "own credential chain"
        )
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    except ImportError:
        raise InvalidInputError(
            f"aws_conn_id is {aws_conn_id!r}, which needs the extra 'amazon': pip install "
            "'airflow-provider-amzbiz[amazon]', or set aws_conn_id=None for boto3's own credential chain"
        ) from None

    class ConnectionHook(AwsGenericHook[Any]):
        # AwsGenericHook's own method would fall back to boto3's chain, and so to somebody else's credentials.
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            try:
                with supervisor.turn():
                    connection = super().get_connection(conn_id)
            except (AirflowNotFoundException, ImportError):
                raise ConnectionNotFoundError(
                    f"There is no connection {conn_id!r}, or it cannot be read; add it, or set another "
                    "aws_conn_id, or aws_conn_id=None for boto3's own credential chain"
                ) from None
            secrets.extend(_secrets(connection))
            return connection

    return ConnectionHook(aws_conn_id=aws_conn_id, client_type="s3").conn


def _failure(aws_conn_id: str | None, error: Exception, secrets: list[str]) -> AmazonBusinessError:
    from airflow_provider_amzbiz.documents.foreign_errors import without_secrets

    message = without_secrets(str(error))
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "***")
    # Python's own errors mean a wrong value, which stays wrong; credentials may be missing for a moment only.
    wrong = isinstance(error, (ValueError, TypeError, LookupError, AttributeError, NotImplementedError))
    kind = AmazonBusinessPermanentError if wrong else AmazonBusinessError
    return kind(
        f"Could not create an S3 client from aws_conn_id {aws_conn_id!r}: {type(error).__name__}: {message}"
    )


def _secrets(connection: Any) -> Iterator[str]:
    """Yield the values of an AWS connection that no error may show."""
    if connection.password:
        yield connection.password
    for name, value in connection.extra_dejson.items():
        if name not in _PUBLIC:
            yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) >= _MIN_SECRET_LENGTH:
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
