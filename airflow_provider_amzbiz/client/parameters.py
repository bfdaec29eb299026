"""What may be sent: the spec's bounds, checked before any call, and values in their wire form.

Every function takes the parameter's name, for the error, and the user's value, and returns what goes on the wire.
All of them raise :class:`.InvalidParameterError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from numbers import Integral, Real
from typing import Any

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.models import ProcessingStatus

# The clocks of scheduler and worker may differ by seconds, and a data interval ends at the scheduler's "now".
CLOCK_SKEW = timedelta(seconds=60)
# No wait needs more, and Python has no time for a deadline from year 10000 on.
MAX_SECONDS = 3650 * 86400.0
# What Jinja and pandas render for a missing value; no id and no option looks like it.
_RENDERED_MISSING = frozenset({"None", "nan", "NaN", "NaT", "<NA>", "inf", "-inf", "Infinity", "-Infinity"})
# Maximum characters of a value in an error, values of a list that are read, and levels of nesting.
_MAX_SHOWN = 300
_MAX_LISTED = 10_000
_MAX_NESTED = 50


def required_string(name: str, value: object) -> str:
    """Return a non-empty string, without the blanks around it."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameterError(f"{name} is {shown(value)}, but must be a non-empty string")
    refuse_template(name, value)
    stripped = value.strip()
    if stripped in _RENDERED_MISSING:
        raise InvalidParameterError(
            f"{name} is {stripped!r}, as a template renders a missing value, such as the XCom of a skipped task, "
            "but must be a value"
        )
    if not _is_encodable(stripped):
        raise InvalidParameterError(
            f"{name} is {shown(stripped)}, which has half a character, but must be valid UTF-8"
        )
    return stripped


def required_id(name: str, value: object) -> str:
    """Return an id; an integer, as natively rendered templates give it, becomes a string.

    :raises InvalidParameterError: also for a float that is too large to have kept its last digits.
    """
    identifier = required_string(name, _digits(name, value) if _is_number(value) else value)
    if identifier in (".", ".."):
        raise InvalidParameterError(
            f"{name} is {identifier!r}, which stands for a folder in a URL, but must be an id"
        )
    return identifier


def refuse_template(name: str, value: object) -> None:
    """Reject a value that still contains a template, in strings and in mappings and sequences of any depth.

    :param name: the parameter; the error adds the place in it.
    :raises InvalidParameterError: a string contains ``{{`` or ``{%``, so it was not rendered.
    """
    found = _template_in(name, value, set())
    if found is not None:
        place, template = found
        raise InvalidParameterError(
            f"{place} is {shown(template)}, which is a template that was not rendered, but must be a value. "
            "Airflow renders a templated field only once: a template that comes from an XCom, a mapped argument "
            "or another template stays as it is"
        )


def shown(value: object) -> str:
    """Return the repr of a value for an error, cut to a readable length."""
    try:
        plain = repr(value)
    except (RecursionError, ValueError):
        # Nested too deeply, or a number with more digits than Python prints.
        return f"a {type(value).__name__}"
    plain = plain.encode("utf-8", "backslashreplace").decode()
    return plain if len(plain) <= _MAX_SHOWN else f"{plain[:_MAX_SHOWN]}... ({len(plain)} characters)"


def strings(name: str, value: str | Iterable[str] | None, *, maximum: int) -> list[str]:
    """Return 1 to ``maximum`` strings, from an iterable or from one comma-separated string."""
    refuse_template(name, value)
    if isinstance(value, str) and value.lstrip().startswith(("[", "(", "{")):
        raise InvalidParameterError(
            f"{name} is {shown(value)}, as a template renders a list, but must be a list of strings or a "
            "comma-separated string; join it with commas, or set the DAG's render_template_as_native_obj=True"
        )
    if isinstance(value, str):
        parts: list[Any] = list(value.split(","))
    elif value is None:
        parts = []
    elif isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes, bytearray)):
        # An endless iterable must not be read to its end.
        parts = list(islice(value, _MAX_LISTED))
    else:
        raise InvalidParameterError(
            f"{name} is {shown(value)}, but must be a list of strings or a comma-separated string"
        )
    cleaned = [required_string(f"{name}[{index}]", part) for index, part in enumerate(parts) if part != ""]
    if not 1 <= len(cleaned) <= maximum:
        raise InvalidParameterError(
            f"{name} has {len(cleaned)} values {shown(cleaned)}, but must have 1 to {maximum}"
        )
    return cleaned


def report_types(value: str | Iterable[str] | None) -> list[str]:
    """1 to 10 report types (spec, getReports)."""
    return strings("report_types", value, maximum=10)


def created_marketplace_ids(value: str | Iterable[str] | None) -> list[str]:
    """1 to 25 marketplaces for createReport (spec, CreateReportSpecification; bound of Amazon's model)."""
    return strings("marketplace_ids", value, maximum=25)


def listed_marketplace_ids(value: str | Iterable[str]) -> list[str]:
    """1 to 10 marketplaces for getReports (spec, getReports)."""
    return strings("marketplace_ids", value, maximum=10)


def processing_statuses(value: str | Iterable[str]) -> list[str]:
    """At least one of the spec's processing statuses (spec, getReports)."""
    allowed = [status.value for status in ProcessingStatus]
    statuses = strings("processing_statuses", value, maximum=len(allowed))
    for status in statuses:
        if status not in allowed:
            raise InvalidParameterError(f"processing_statuses has {status!r}, but must have only {allowed}")
    return [str(status) for status in statuses]


def page_size(value: int) -> int:
    """1 to 100 (spec, getReports)."""
    return positive_integer("page_size", value, maximum=100)


def positive_integer(name: str, value: Any, *, maximum: int | None = None) -> int:
    """Return an integer of at least 1."""
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else 0
    if number < 1 or (maximum is not None and number > maximum):
        allowed = "above 0" if maximum is None else f"from 1 to {maximum}"
        raise InvalidParameterError(f"{name} is {shown(value)}, but must be an integer {allowed}")
    return number


def boolean(name: str, value: object) -> bool:
    """Return True or False; a string such as ``"False"`` would count as True."""
    if not isinstance(value, bool):
        raise InvalidParameterError(f"{name} is {shown(value)}, but must be True or False")
    return value


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Return the seconds of a timedelta or a number, up to :data:`MAX_SECONDS`.

    :param zero: whether 0 is allowed.
    """
    given: Any = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(given, Real) and not isinstance(given, bool)
    # Every comparison with NaN is False.
    if not is_number or not 0 <= given <= MAX_SECONDS or (given == 0 and not zero):
        minimum = "0 or more" if zero else "above 0"
        raise InvalidParameterError(
            f"{name} is {shown(value)}, but must be a timedelta or seconds, {minimum} and at most "
            f"{MAX_SECONDS:.0f} (ten years)"
        )
    return float(given)


def time(name: str, value: datetime | str) -> datetime:
    """Return an aware time from an aware datetime or an ISO 8601 string.

    ``str()`` of a datetime is such a string, so ``{{ data_interval_start }}`` renders one.
    """
    expected = "an aware datetime or an ISO 8601 string with an offset, such as 2026-10-31T00:00:00+00:00"
    refuse_template(name, value)
    parsed: object = value
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            parsed = None
    if not isinstance(parsed, datetime):
        raise InvalidParameterError(f"{name} is {shown(value)}, but must be {expected}")
    if parsed.utcoffset() is None:
        raise InvalidParameterError(f"{name} is {shown(value)}, which has no UTC offset, but must be {expected}")
    try:
        parsed.astimezone(timezone.utc)
    except (OverflowError, ValueError):
        raise InvalidParameterError(
            f"{name} is {shown(value)}, but must be from year 1 to year 9999 in UTC"
        ) from None
    return parsed


def past_time(name: str, value: datetime | str) -> datetime:
    """Return an aware time that is not after now (spec, CreateReportSpecification)."""
    parsed = time(name, value)
    now = datetime.now(timezone.utc)
    if parsed > now + CLOCK_SKEW:
        raise InvalidParameterError(
            f"{name} is {value!s}, which is in the future, but must be at or before {wire_time(now)}"
        )
    return parsed


def window(
    start: tuple[str, datetime | str | None], end: tuple[str, datetime | str | None], *, past: bool
) -> list[str | None]:
    """Check two times and their order; return them in wire form, None where not given.

    :param start: name and value of the earlier one.
    :param end: name and value of the later one.
    :param past: whether both must be at or before now.
    """
    check = past_time if past else time
    times = [None if value is None else check(name, value) for name, value in (start, end)]
    if times[0] and times[1] and times[0] > times[1]:
        raise InvalidParameterError(f"{start[0]} {start[1]!s} is after {end[0]} {end[1]!s}")
    return [wire_time(each) if each else None for each in times]


def wire_time(value: datetime) -> str:
    """Return ``2019-12-10T20:11:24.000Z``: the one form that Amazon's own sandbox matches."""
    return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def report_options(value: Mapping[str, Any] | str | None) -> dict[str, str]:
    """Return a map of strings (spec, ReportOptions): the API rejects every other type of value.

    Integers become their digits and booleans ``"true"`` and ``"false"``. Blanks around a string are dropped,
    because no value begins or ends with one. A string for the whole map must be a JSON object, as a template
    renders it.

    :raises InvalidParameterError: an option is missing (None, blank, or what a template renders for a missing
        value), infinite, not an integer, or of another type; the message names it.
    """
    if value is None:
        return {}
    refuse_template("report_options", value)
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, Mapping):
        hint = ""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            hint = "; to have a template render a mapping, set the DAG's render_template_as_native_obj=True"
        raise InvalidParameterError(
            f"report_options is {shown(value)}, but must be a mapping of names to values, or a JSON object{hint}"
        )
    pairs = [(required_string("report_options' key", key), key, each) for key, each in value.items()]
    options = {name: _option(name, each) for name, _, each in pairs}
    if len(options) < len(pairs):
        raise InvalidParameterError(
            f"report_options has keys {shown([each[1] for each in pairs])}, but must have each once"
        )
    return options


def _option(key: str, value: object) -> str:
    name = f"report_options[{key!r}]"
    if isinstance(value, bool):
        return json.dumps(value)
    if _is_number(value):
        return _digits(name, value)
    if isinstance(value, str):
        return required_string(name, value)
    raise InvalidParameterError(
        f"{name} is {shown(value)}, but must be a non-empty string, an integer or a boolean"
    )


def _json(value: str) -> Any:
    """Return the value of a JSON document, or the string itself where it is none."""
    try:
        return json.loads(value, object_pairs_hook=_unique_keys)
    except InvalidParameterError:
        raise
    except (ValueError, RecursionError):
        return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise InvalidParameterError(f"report_options has keys {shown(keys)}, but must have each once")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (Real, Decimal)) and not isinstance(value, bool)


def _digits(name: str, value: Any) -> str:
    """Return the digits of an integer, or of a float without a fraction."""
    try:
        integer = int(value)
        # A float that equals itself plus one has lost its last digits, and with them the id.
        exact = integer == value and (isinstance(value, (Integral, Decimal)) or value + 1 != value)
        digits = str(integer)
    except (ValueError, OverflowError, ArithmeticError):
        exact, digits = False, ""
    if not exact:
        raise InvalidParameterError(
            f"{name} is {shown(value)}, but must be an integer; one of more than 15 digits must be a string, "
            "because a float loses the last ones"
        )
    return digits


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _template_in(place: str, value: object, above: set[int]) -> tuple[str, str] | None:
    """Return the place of a template, and its string; None if there is none."""
    if isinstance(value, str):
        return (place, value) if "{{" in value or "{%" in value else None
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return None
    if id(value) in above or len(above) > _MAX_NESTED:
        raise InvalidParameterError(f"{place} is nested in itself or too deeply, but must be a value")
    inside = above | {id(value)}
    if isinstance(value, Mapping):
        parts = [(f"{place}'s key", key) for key in value]
        parts += [(f"{place}[{shown(key)}]", each) for key, each in value.items()]
    else:
        parts = [(f"{place}[{index}]", each) for index, each in enumerate(value)]
    return next((found for part in parts if (found := _template_in(*part, inside))), None)
