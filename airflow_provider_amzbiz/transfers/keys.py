"""Keys of S3 objects: their placeholders, and what is certainly a mistake in one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents.s3_location import is_bucket
from airflow_provider_amzbiz.exceptions import InvalidInputError

# S3's own limit, in bytes of UTF-8.
_MAX_BYTES = 1024
# Bytes by which the keys of a batch's parts are longer than the manifest's.
_BESIDE_MANIFEST = 100
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
# What is left of a template that was not rendered, or that rendered to another template.
_LEFT_OVER = re.compile(r"\{\{|\}\}|\{%|%\}")
# What an f-string turns an argument into that is known only when the task runs.
_REPR = re.compile(r"(?:MappedArgument|XComArg|ExpandInput)\(|<Task\(|<[\w. ]+ at 0x[0-9a-fA-F]+>")
_NONE = re.compile(r"None(\.\w+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The placeholder whose value comes from the document. A file's name in a ZIP may have folders; it is safe already.
NAME = "name"


def render_key(key: str, values: Mapping[str, str | None]) -> str:
    """Fill in a key's placeholders.

    :param values: by the placeholders' names.
    :raises InvalidInputError: a value would change the key's folders or leave a part of it empty, or S3 does not
        accept the key.
    """
    filled = _PLACEHOLDER.sub(lambda match: _value(key, match[1], values), key)
    what = f"The key {filled!r}, from {key!r},"
    if bad := {"", ".", ".."} & set(filled.split("/")):
        raise InvalidInputError(f"{what} has the part {min(bad)!r}; no part may be empty, '.' or '..'")
    _check_length(what, filled)
    return filled


def _value(key: str, name: str, values: Mapping[str, str | None]) -> str:
    value = values[name] or ""
    if name == NAME:
        return value
    if not value.strip() or value in ("None", ".", "..") or "/" in value or _CONTROL.search(value):
        raise InvalidInputError(
            f"{{{name}}} in the key {key!r} is {value!r}, but must be non-empty, without a slash or a control "
            "character, and none of 'None', '.' and '..'"
        )
    return value


def placeholders(key: str) -> list[str]:
    """Return the names of a key's placeholders."""
    return _PLACEHOLDER.findall(key)


def strip_jinja(template: str) -> str:
    """Return a string without its templated parts, so that the rest can be checked at parsing."""
    return _JINJA.sub("", template)


def is_constant(given: Any) -> bool:
    """Whether a parameter is the same in each run and each mapped task: None, or nothing to be filled in."""
    if given is None:
        return True
    return isinstance(given, str) and strip_jinja(given) == given and not placeholders(given)


def key_prefix(key: str) -> str:
    """Return the key itself, or, if it has placeholders, the folder that it begins with."""
    fixed, brace, _ = key.partition("{")
    return fixed[: fixed.rfind("/") + 1] if brace else fixed


def check_placeholders(key: str, known: Iterable[str]) -> None:
    """Refuse a key with placeholders that cannot be filled in.

    :raises InvalidInputError: it has one that is not known.
    """
    for name in placeholders(key):
        if name not in known:
            raise InvalidInputError(
                f"The key {key!r} has the placeholder {{{name}}}, but may have only "
                f"{', '.join(f'{{{each}}}' for each in sorted(known))} here"
            )


def check_key_at_parsing(parameter: str, key: str) -> None:
    """Refuse a key that is wrong whatever its templates render.

    :param parameter: name of the parameter that holds the key.
    :raises InvalidInputError: it is certainly a mistake.
    """
    _check_repr(parameter, key)
    # Each template renders something.
    _check_parts(parameter, _JINJA.sub("x", key), given=key)


def check_key(parameter: str, key: str) -> None:
    """Refuse a rendered key that is certainly a mistake; its placeholders are filled in later.

    :param parameter: name of the parameter that holds the key.
    :raises InvalidInputError: it has an empty part or one that is ``None``, ``.`` or ``..``, a slash at an end, a
        control character, the rest of a template or the ``repr`` of an object, or is longer than S3 allows.
    """
    _check_repr(parameter, key)
    _check_parts(parameter, key)


def check_manifest_key(key: str) -> None:
    """Refuse a rendered key beside which a batch could not keep its record.

    :raises InvalidInputError: it is surely a mistake, or too long.
    """
    check_key("manifest_key", key)
    if (size := len(key.encode("utf-8", "surrogatepass"))) > _MAX_BYTES - _BESIDE_MANIFEST:
        raise InvalidInputError(
            f"manifest_key {key!r} has {size} bytes of UTF-8; with what the batch keeps beside the manifest, S3 "
            f"takes at most {_MAX_BYTES - _BESIDE_MANIFEST}. Set a shorter manifest_key"
        )


def check_bucket(parameter: str, bucket: str) -> None:
    """Refuse a name that can be neither a bucket nor an access point.

    :param parameter: name of the parameter that holds it.
    :raises InvalidInputError: it is no such name.
    """
    _check_repr(parameter, bucket)
    if bucket == "None" or not is_bucket(bucket):
        raise InvalidInputError(
            f"{parameter} is {bucket!r}, but must be the name of a bucket, without slashes, spaces and braces, or "
            "the alias or ARN of an access point"
        )


def check_bucket_at_parsing(parameter: str, bucket: str) -> None:
    """Refuse a bucket that is wrong whatever its templates render.

    :raises InvalidInputError: it is certainly a mistake.
    """
    _check_repr(parameter, bucket)
    if strip_jinja(bucket) == bucket:
        check_bucket(parameter, bucket)


def check_key_values(given: Any) -> dict[str, str]:
    """Return more placeholders and their values.

    :param given: a mapping, or a JSON object as a string, which is what a template renders; None is an empty one.
    :raises InvalidInputError: it is neither, or a name or value is not allowed.
    """
    try:
        values = parameters.report_options(given)
    except InvalidParameterError as error:
        raise InvalidInputError(str(error).replace("report_options", "key_values")) from None
    for name in values:
        if not re.fullmatch(r"\w+", name):
            raise InvalidInputError(
                f"key_values has the name {name!r}, but names must be letters, digits and underscores"
            )
        _check_value(f"key_values[{name!r}]", values[name])
    return values


def _check_repr(parameter: str, value: str) -> None:
    if _REPR.search(value):
        raise InvalidInputError(
            f"{parameter} is {value!r}: an f-string has an argument whose value is known only when the task runs. "
            "Use a template, or a placeholder such as {report_id}, whose braces an f-string needs doubled"
        )


def _check_value(parameter: str, value: str) -> None:
    """Refuse a placeholder's value that would be a mistake in the key itself."""
    _check_repr(parameter, value)
    if _CONTROL.search(value):
        raise InvalidInputError(
            f"{parameter} is {value!r}, but must have no control character, such as the end of a line"
        )
    if _NONE.fullmatch(value):
        raise InvalidInputError(
            f"{parameter} is {value!r}, but must not be 'None', as a template renders a missing value"
        )


def _check_parts(parameter: str, key: str, *, given: str | None = None) -> None:
    """Refuse a key that is certainly a mistake.

    :param given: what the message shows instead of the key.
    """
    what = f"{parameter} is {(key if given is None else given)!r}"
    if _LEFT_OVER.search(key):
        raise InvalidInputError(f"{what}, in which a part of a template is left; templates are rendered only once")
    if _CONTROL.search(key):
        raise InvalidInputError(f"{what}, but must have no control character, such as the end of a line")
    if key.startswith("/") or key.endswith("/"):
        raise InvalidInputError(f"{what}, but must neither begin nor end with a slash")
    for part in key.split("/"):
        if part in ("", ".", "..") or _NONE.fullmatch(part):
            raise InvalidInputError(
                f"{what}, which has the part {part!r}; no part may be empty, '.', '..' or 'None', as a template "
                "renders a missing value"
            )
    _check_length(f"{what}, which", key)


def _check_length(what: str, key: str) -> None:
    if (size := len(key.encode("utf-8", "surrogatepass"))) > _MAX_BYTES:
        raise InvalidInputError(f"{what} has {size} bytes of UTF-8; S3 allows at most {_MAX_BYTES}")
