"""What may be sent: the spec's bounds, checked before any call, and values in their wire form.

Every function takes the parameter's name first, for the error, and what the user gave, and returns what goes
on the wire. All of them raise :class:`.InvalidParameterError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.models import ProcessingStatus

# A scheduler and a worker may disagree by seconds, and a data interval ends at the scheduler's "now".
CLOCK_SKEW = timedelta(seconds=60)


def required_text(name: str, value: object) -> str:
    """Return a non-empty text."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameterError(f"{name} is {value!r}, but has to be a text that is not empty")
    if value.strip() == "None":
        raise InvalidParameterError(
            f"{name} is 'None', as a template renders a value that is missing, such as the XCom of a skipped task"
        )
    return value.strip()


def required_id(name: str, value: object) -> str:
    """Return an id; a whole number, as natively rendered templates give it, becomes a text."""
    return required_text(name, str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def texts(name: str, value: str | Iterable[str] | None, *, most: int) -> list[str]:
    """Return 1 to ``most`` texts, from a sequence or from one comma-separated text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        raise InvalidParameterError(
            f"{name} is {value!r}, as a template renders a list; join it with commas, or set the DAG's "
            "render_template_as_native_obj=True"
        )
    parts = value.split(",") if isinstance(value, str) else list(value or ())
    cleaned = [required_text(f"{name}[{index}]", part) for index, part in enumerate(parts) if part != ""]
    if not 1 <= len(cleaned) <= most:
        raise InvalidParameterError(f"{name} has {len(cleaned)} values {cleaned!r}, but has to have 1 to {most}")
    return cleaned


def refuse_template(name: str, value: object) -> None:
    """Refuse what still holds a template, in mappings and sequences too."""
    if isinstance(value, str):
        if "{{" in value or "{%" in value:
            raise InvalidParameterError(
                f"{name} is {value!r}, which still holds a template: Airflow renders a value only once, so that a "
                "template that comes in by a mapped argument, an XCom or a variable is not rendered"
            )
    elif isinstance(value, Mapping):
        for key, each in value.items():
            refuse_template(f"{name}[{key!r}]", each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            refuse_template(name, each)


def report_types(value: str | Iterable[str] | None) -> list[str]:
    """1 to 10 report types (spec, getReports)."""
    return texts("report_types", value, most=10)


def created_marketplace_ids(value: str | Iterable[str] | None) -> list[str]:
    """1 to 25 marketplaces for createReport (spec, CreateReportSpecification; bound of Amazon's model)."""
    return texts("marketplace_ids", value, most=25)


def listed_marketplace_ids(value: str | Iterable[str]) -> list[str]:
    """1 to 10 marketplaces for getReports (spec, getReports)."""
    return texts("marketplace_ids", value, most=10)


def processing_statuses(value: str | Iterable[str]) -> list[str]:
    """At least one of the spec's processing statuses (spec, getReports)."""
    allowed = [status.value for status in ProcessingStatus]
    statuses = texts("processing_statuses", value, most=len(allowed))
    for status in statuses:
        if status not in allowed:
            raise InvalidParameterError(f"processing_statuses has {status!r}, which is none of {allowed}")
    return [str(status) for status in statuses]


def page_size(value: int) -> int:
    """1 to 100 (spec, getReports)."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
        raise InvalidParameterError(f"page_size is {value!r}, but has to be a whole number from 1 to 100")
    return value


def time(name: str, value: datetime | str) -> datetime:
    """Return an aware time from an aware datetime or an ISO 8601 text.

    ``str()`` of a datetime is such a text, so what ``{{ data_interval_start }}`` renders fits.
    """
    expected = "an aware datetime or an ISO 8601 text with an offset, such as 2026-10-31T00:00:00+00:00"
    parsed: object = value
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            parsed = None
    if not isinstance(parsed, datetime):
        raise InvalidParameterError(f"{name} is {value!r}, but has to be {expected}")
    if parsed.utcoffset() is None:
        raise InvalidParameterError(f"{name} is {value!r}, which has no UTC offset; it has to be {expected}")
    return parsed


def past_time(name: str, value: datetime | str) -> datetime:
    """Return an aware time that is not after now (spec, CreateReportSpecification)."""
    parsed = time(name, value)
    now = datetime.now(timezone.utc)
    if parsed > now + CLOCK_SKEW:
        raise InvalidParameterError(
            f"{name} is {value!s}, which is in the future; it has to be at or before {wire_time(now)}"
        )
    return parsed


def window(
    start: tuple[str, datetime | str | None], end: tuple[str, datetime | str | None], *, past: bool
) -> list[str | None]:
    """Check two times and their order; return them in wire form, None where not given.

    :param start: name and value of the earlier one.
    :param end: name and value of the later one.
    :param past: whether both have to be at or before now.
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
    """Return a map of texts (spec, ReportOptions): the API refuses every other type of value.

    Numbers and booleans become their JSON text (``True`` becomes ``"true"``). A text has to be a JSON
    object, as a template renders it.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise InvalidParameterError(f"report_options is {value!r}, but has to be a mapping of names to texts")
    return {required_text("report_options' key", key): _option(key, each) for key, each in value.items()}


def _option(key: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise InvalidParameterError(
        f"report_options[{key!r}] is {value!r}, but has to be a text, a number or a boolean"
    )
