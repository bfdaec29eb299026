"""Errors of Python and of other libraries: as ours, and without the secrets in their messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow_provider_amzbiz.documents.errors import WorkerError

# Messages may contain a header or a parameter as it was given.
_SECRETS = (
    (
        re.compile(r"(Invalid (?:leading whitespace.*?|header value|return character.*?):? ).*", re.DOTALL),
        r"\1***",
    ),
    (re.compile(r"(parameter \S*SSECustomerKey\S*, value: ).*?(, type:)", re.DOTALL), r"\1***\2"),
    (re.compile(r"(https?://)[^/@\s]*@"), r"\1***@"),
    (re.compile(r"\?[^\s'\"]*(?:X-Amz-|Signature=)[^\s'\"]*", re.IGNORECASE), "?***"),
)


def without_secrets(message: str) -> str:
    """Return the message of another library's error without the secrets that it may contain."""
    for secret, rest in _SECRETS:
        message = secret.sub(rest, message)
    return message


def unless_secret(error: Exception) -> Exception | None:
    """Return an error as the cause of another, or None if its message contains a secret."""
    return error if without_secrets(str(error)) == str(error) else None


@contextmanager
def worker_errors(others: Sequence[Exception] = ()) -> Iterator[None]:
    """Turn a failure of the worker itself into a :class:`.WorkerError`.

    :param others: errors that pass through.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        if any(error is each for each in others):
            raise
        # A library's own message may contain the URL.
        message = without_secrets(str(error)) or "no reason is given"
        raise WorkerError(
            f"The transfer failed on the worker itself: {type(error).__name__}: {message}"
        ) from unless_secret(error)
