"""Errors of Python and of other libraries: as ours, and without the secrets that their texts may show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from airflow_provider_amzbiz.documents.errors import WorkerError

# Texts of errors may show a header or a parameter as it was given.
_SECRETS = (
    (
        re.compile(r"(Invalid (?:leading whitespace.*?|header value|return character.*?):? ).*", re.DOTALL),
        r"\1***",
    ),
    (re.compile(r"(parameter \S*SSECustomerKey\S*, value: ).*?(, type:)", re.DOTALL), r"\1***\2"),
    (re.compile(r"(https?://)[^/@\s]*@"), r"\1***@"),
    (re.compile(r"\?[^\s'\"]*(?:X-Amz-|Signature=)[^\s'\"]*", re.IGNORECASE), "?***"),
)


def without_secrets(text: str) -> str:
    """Return the text of another library's error without the secrets that it may show."""
    for secret, rest in _SECRETS:
        text = secret.sub(rest, text)
    return text


def unless_secret(error: Exception) -> Exception | None:
    """Return an error to be the cause of another, or None where its own text would show a secret."""
    return error if without_secrets(str(error)) == str(error) else None


@contextmanager
def worker_errors(others: Sequence[Exception] = ()) -> Iterator[None]:
    """Turn what the worker's own machine is to blame for into an error of ours.

    :param others: errors that pass through.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        if any(error is each for each in others):
            raise
        # A library's own text may show the URL that it failed with.
        text = without_secrets(str(error)) or "no reason is given"
        raise WorkerError(
            f"The transfer failed on the worker itself: {type(error).__name__}: {text}"
        ) from unless_secret(error)
