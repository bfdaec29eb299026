"""Frozen dataclasses that read themselves from JSON objects of the API, by the types of their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from functools import partial
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from airflow_provider_amzbiz.client.errors import UnavailableError
from airflow_provider_amzbiz.client.storable import odd_string, unstorable_part

# No amount has more digits. A number such as 1e999999 would fill the memory of whoever prints it.
_MAX_DIGITS = 38
# Each field: its name, its name in the API, and what reads its value.
_Schema = tuple[tuple[str, str, Callable[[Any], Any]], ...]
# Reading the types of a class takes longer than reading an object by them.
_schemas: dict[type, _Schema] = {}


class _UnreadableError(Exception):
    """A value is of another type than its field; the message names both.

    :ivar place: where in the field.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


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

        :raises UnavailableError: it is no object, or a field has a value that its type cannot hold, is not valid
            UTF-8, or is nested too deeply; such a response is a temporary fault, so a later call may succeed.
        """
        if not isinstance(value, Mapping):
            raise UnavailableError(f"The response holds a {type(value).__name__} where a {cls.__name__} must be")
        left = dict(value)
        found = {}
        for name, wire_name, read in _schema_of(cls):
            given = left.pop(wire_name, None)
            if given is None or given == "":
                continue
            try:
                found[name] = read(given)
            except _UnreadableError as error:
                where = f"{cls.__name__}.{wire_name}{error.place}"
                raise UnavailableError(f"{where} of the response is {error}") from None
        if left and (odd := unstorable_part(left, allow_nul=True)):
            raise UnavailableError(f"A {cls.__name__} of the response holds {odd}")
        return cls(**found, extra=left)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict: attributes by name, amounts as strings, times in ISO 8601 with their offset."""
        return {each.name: _json_safe(getattr(self, each.name)) for each in fields(self)}


def _schema_of(cls: type[JsonModel]) -> _Schema:
    if cls not in _schemas:
        hints = get_type_hints(cls)
        names = [each.name for each in fields(cls) if each.name != "extra"]
        _schemas[cls] = tuple((name, _camel(name), _reader(hints[name])) for name in names)
    return _schemas[cls]


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return what reads a value that is not missing for a field of this type."""
    origin = get_origin(kind)
    if origin is tuple:
        return partial(_read_list, _reader(get_args(kind)[0]))
    if origin is Mapping:
        return _read_map
    if origin in (Union, UnionType):
        kind = get_args(kind)[0]
    if issubclass(kind, JsonModel):
        from_api: Callable[[Any], Any] = kind.from_api
        return from_api
    return _SCALARS[kind]


def _read_list(read: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(value, "a list")
    if None in value or "" in value:
        raise _UnreadableError("a list with empty entries, but must have none")
    return tuple(map(read, value))


def _read_map(value: Any) -> dict[str, str | None]:
    if not isinstance(value, Mapping):
        raise _wrong(value, "an object")
    found: dict[str, str | None] = {}
    for key, each in value.items():
        try:
            # The account defines the keys, with blanks and signs as a person typed them.
            found[_read_string(key)] = None if each is None or each == "" else _read_string(each)
        except _UnreadableError as error:
            raise _UnreadableError(str(error), f"[{key!a}]") from None
    return found


def _read_string(value: Any) -> str:
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        # Ids and rates are numbers in some of Amazon's sibling APIs.
        return str(value)
    if not isinstance(value, str):
        raise _wrong(value, "a string")
    # One odd title must not hold up a whole feed, which goes to files.
    if odd := odd_string(value, allow_nul=True):
        raise _UnreadableError(odd)
    return value


def _read_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise _wrong(value, "a number or a string that holds one")
    try:
        return _decimal(value)
    except ValueError:
        raise _wrong(value, f"a finite number of at most {_MAX_DIGITS} digits") from None


def _read_integer(value: Any) -> int:
    number = _read_decimal(value)
    if number != number.to_integral_value():
        raise _wrong(value, "an integer")
    return int(number)


def _read_time(value: Any) -> datetime:
    # The sibling Reporting API wraps its times in an object of this one field.
    written = value.get("date") if isinstance(value, Mapping) else value
    if not isinstance(written, str):
        raise _wrong(value, "an ISO 8601 time")
    try:
        parsed = datetime.fromisoformat(written)
        # Amazon Business means UTC unless stated otherwise.
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
        aware.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise _wrong(value, "an ISO 8601 time") from None
    return aware


_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    str: _read_string,
    int: _read_integer,
    Decimal: _read_decimal,
    datetime: _read_time,
}


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


def _wrong(value: object, expected: str) -> _UnreadableError:
    return _UnreadableError(f"a {type(value).__name__}, but must be {expected}")


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
