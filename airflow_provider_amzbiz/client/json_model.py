"""Frozen dataclasses that read themselves from JSON objects of the API, by the types of their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from airflow_provider_amzbiz.client.errors import UnavailableError

# No amount has more digits. A number such as 1e999999 would fill the memory of whoever prints it.
_MAX_DIGITS = 38
# Levels of an unknown field: whoever writes it as JSON again needs a call for each.
_MAX_DEPTH = 50
# Reading the types of a class takes longer than reading an object by them.
_schemas: dict[type, tuple[tuple[str, str, Any], ...]] = {}


def read_exact_json(content: bytes) -> Any:
    """Parse JSON with its fractions as ``Decimal``: a float would change amounts of money.

    :raises ValueError: it is no JSON, or holds NaN, Infinity or a number out of all bounds.
    """
    return json.loads(content, parse_float=_decimal, parse_constant=_refuse_constant)


@dataclass(frozen=True)
class JsonModel:
    """Base of the models. Every field is optional, because the API leaves out what its schema requires.

    What is missing, null or ``""`` is None, and an empty tuple or mapping where there may be several.

    :ivar extra: fields that this version does not know, by the API's names, as they came.
    """

    extra: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False, kw_only=True)

    @classmethod
    def from_api(cls, value: Any) -> Self:
        """Read an object of the API.

        :raises UnavailableError: it is no object, or a field has a value that its type cannot hold; such a
            response is a temporary fault, so a later call may succeed.
        """
        if not isinstance(value, Mapping):
            raise UnavailableError(f"The response holds a {type(value).__name__} where a {cls.__name__} must be")
        left = dict(value)
        read = {
            name: _read(f"{cls.__name__}.{wire_name}", kind, left.pop(wire_name, None))
            for name, wire_name, kind in _fields_of(cls)
        }
        if _is_deeper(left, _MAX_DEPTH):
            raise UnavailableError(
                f"A {cls.__name__} of the response is nested more than {_MAX_DEPTH} levels deep"
            )
        return cls(**read, extra=left)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict: attributes by name, amounts as strings, times in ISO 8601 with their offset."""
        return {each.name: _json_safe(getattr(self, each.name)) for each in fields(self)}


def _fields_of(cls: type[JsonModel]) -> tuple[tuple[str, str, Any], ...]:
    """Return each field's name, its name in the API, and its type."""
    if cls not in _schemas:
        hints = get_type_hints(cls)
        names = [each.name for each in fields(cls) if each.name != "extra"]
        _schemas[cls] = tuple((name, _camel(name), hints[name]) for name in names)
    return _schemas[cls]


def _is_deeper(value: Any, levels: int) -> bool:
    here = [value]
    for _ in range(levels):
        inside = [each for each in here if isinstance(each, (dict, list))]
        here = [part for each in inside for part in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, (dict, list)) for each in here)


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def _read(where: str, kind: Any, value: Any) -> Any:
    """Return a value as a field of this type holds it.

    :param where: the field, for the error.
    """
    origin = get_origin(kind)
    missing = value is None or value == ""
    if origin is tuple:
        return () if missing else _read_list(where, get_args(kind)[0], value)
    if origin is Mapping:
        return {} if missing else _read_map(where, value)
    if origin in (Union, UnionType):
        kind = get_args(kind)[0]
    if missing:
        return None
    if issubclass(kind, JsonModel):
        return kind.from_api(value)
    return _SCALARS[kind](where, value)


def _read_list(where: str, kind: Any, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    found = tuple(_read(f"{where}[{index}]", kind, each) for index, each in enumerate(value))
    if None in found:
        raise _wrong(where, None, "a list without empty entries")
    return found


def _read_map(where: str, value: Any) -> dict[str, str | None]:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    # The account defines the keys, with blanks and signs as a person typed them.
    return {
        _read_text(f"{where}'s key", key): _read(f"{where}[{key!r}]", str | None, each)
        for key, each in value.items()
    }


def _read_text(where: str, value: Any) -> str:
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        # Ids and rates are numbers in some of Amazon's sibling APIs.
        return str(value)
    if not isinstance(value, str):
        raise _wrong(where, value, "a string")
    # JSON can hold half a character, which no database, log or URL takes.
    if value.encode("utf-8", "replace").decode() != value:
        raise UnavailableError(f"{where} of the response is not valid UTF-8")
    return value


def _read_decimal(where: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise _wrong(where, value, "a number or a string that holds one")
    try:
        return _decimal(value)
    except ValueError:
        raise _wrong(where, value, f"a finite number of at most {_MAX_DIGITS} digits") from None


def _read_integer(where: str, value: Any) -> int:
    number = _read_decimal(where, value)
    if number != number.to_integral_value():
        raise _wrong(where, value, "an integer")
    return int(number)


def _read_time(where: str, value: Any) -> datetime:
    if isinstance(value, Mapping):
        # The sibling Reporting API wraps its times in an object of this one field.
        value = value.get("date")
    if not isinstance(value, str):
        raise _wrong(where, value, "an ISO 8601 time")
    try:
        parsed = datetime.fromisoformat(value)
        # Amazon Business means UTC where it does not say otherwise.
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
        aware.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise _wrong(where, value, "an ISO 8601 time") from None
    return aware


_SCALARS = {str: _read_text, int: _read_integer, Decimal: _read_decimal, datetime: _read_time}


def _decimal(value: int | str | Decimal) -> Decimal:
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?[0-9.]+([eE][+-]?[0-9]+)?\s*", value):
        # Decimal itself also takes underscores, digits of other scripts and NaN.
        raise ValueError(value)
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(value) from None
    if (
        not number.is_finite()
        or len(number.as_tuple().digits) > _MAX_DIGITS
        or abs(number.adjusted()) > _MAX_DIGITS
    ):
        raise ValueError(value)
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _wrong(where: str, value: object, expected: str) -> UnavailableError:
    return UnavailableError(f"{where} of the response is a {type(value).__name__}, but must be {expected}")


def _json_safe(value: Any) -> Any:
    if isinstance(value, JsonModel):
        return value.to_dict()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _json_safe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(each) for each in value]
    return value
