"""What a user may choose for the objects of a transfer: S3's own parameters, and their content type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_amzbiz.client.parameters import shown
from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.transfers.keys import strip_jinja

# Parameters of S3 that ``extra_args`` may not have, because the transfer sets them.
_RESERVED_ARGS = frozenset(
    {
        "Body", "Bucket", "ChecksumAlgorithm", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME",
        "ChecksumSHA1", "ChecksumSHA256", "ChecksumType", "ContentLength", "ContentMD5",
        "ContentType", "IfMatch", "IfNoneMatch", "Key", "WriteOffsetBytes",
    }
)  # fmt: skip
# Any other type may be what Airflow replaces by a value when the task runs, such as an XComArg.
_PLAIN = (bool, int, float, bytes, list, tuple, set, frozenset, Mapping)


def check_extra_args(given: Any) -> Mapping[str, Any] | None:
    """Return S3's own parameters for the objects; no message shows a value, which may be an encryption key.

    :param given: a mapping, or a JSON object as a string, which is what a template renders; None is no parameter,
        and so is an empty string, as a template renders a missing value.
    :raises InvalidInputError: it is neither, or has a name that is not allowed.
    """
    if given is None or given == "":
        return None
    args = _json(given) if isinstance(given, str) else given
    if not isinstance(args, Mapping):
        kind = "a string without a JSON object" if isinstance(given, str) else f"of type {type(given).__name__}"
        raise InvalidInputError(
            f"extra_args is {kind}, but must be a mapping of S3's parameters to their values, or a JSON object as "
            "a string; to have a template render a mapping, set the DAG's render_template_as_native_obj=True"
        )
    for name in args:
        if not isinstance(name, str):
            kind = type(name).__name__
            raise InvalidInputError(f"extra_args has a name of type {kind}, but names must be strings")
        if name in _RESERVED_ARGS:
            raise InvalidInputError(f"extra_args has {name!r}, but may have none of {sorted(_RESERVED_ARGS)}")
    return args


def check_content_type(given: Any) -> None:
    """Refuse what is no content type.

    :param given: None or an empty string, as a template renders a missing value, derives it from the document.
    :raises InvalidInputError: it is not a media type.
    """
    from airflow_provider_amzbiz.documents.content import is_media_type

    if given is None or given == "":
        return
    if not isinstance(given, str) or not is_media_type(given):
        raise InvalidInputError(
            f"content_type is {shown(given)}, but must be a media type, such as 'text/csv' or "
            "'text/csv; charset=UTF-8'"
        )


def is_known_at_parsing(given: Any) -> bool:
    """Whether a templated parameter is what the task will have: no template, and nothing that Airflow replaces."""
    return strip_jinja(given) == given if isinstance(given, str) else isinstance(given, _PLAIN)


def _json(given: str) -> Any:
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return None
