"""Keys of documents: placeholders that the feed fills in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from airflow_provider_amzbiz.client.errors import InvalidParameterError

PLACEHOLDERS = ("marketplace_id", "year", "month", "document_type", "document_number", "order_id")
# What is known when the document arrives.
LATE = ("name", "report_id", "report_document_id")
_UNIQUE = ("document_number", "report_id", "report_document_id")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_UNKNOWN = "unknown"
_HASH_DIGITS = 8


def check_key(key: object) -> str:
    """Return the template of the keys.

    :raises InvalidParameterError: it has another placeholder, or nothing that tells one document from another.
    """
    if not isinstance(key, str) or not key:
        raise InvalidParameterError(f"s3_key is {key!r}, but must be a non-empty string")
    found = _PLACEHOLDER.findall(key)
    allowed = ", ".join(f"{{{name}}}" for name in (*PLACEHOLDERS, *LATE))
    for name in found:
        if name not in (*PLACEHOLDERS, *LATE):
            raise InvalidParameterError(
                f"s3_key {key!r} has the placeholder {{{name}}}, but may have only {allowed}"
            )
    if not set(found) & set(_UNIQUE):
        raise InvalidParameterError(
            f"s3_key {key!r} has no {{document_number}}, so that one document would replace another; put it in"
        )
    return key


def fill(key: str, values: Mapping[str, str | None]) -> str:
    """Fill in what the feed knows, and leave the rest to the batch.

    :param values: by placeholder; what is missing becomes ``unknown``.
    """
    return _PLACEHOLDER.sub(lambda match: safe(values[match[1]]) if match[1] in values else match[0], key)


def safe(value: str | None) -> str:
    """Return a value as a part of a key: letters, digits and ``. _ -``; different for different values."""
    if not value:
        return _UNKNOWN
    changed = _UNSAFE.sub("_", value)
    if changed == value and changed.strip("."):
        return value
    return f"{changed.strip('.')}-{hashlib.sha256(value.encode()).hexdigest()[:_HASH_DIGITS]}"
