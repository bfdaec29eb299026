"""The spec's rules for what a request may hold; every breach is a 400."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from airflow_provider_amzbiz.sandbox.answers import Refused, error, invalid

STATUSES = frozenset({"IN_QUEUE", "IN_PROGRESS", "DONE", "CANCELLED", "FATAL"})
INVOICE = "GET_AB_INVOICE_PDF"
ORDER_LINES = "SANDBOX_ORDER_LINES"
REPORT_TYPES = frozenset(
    {
        INVOICE,
        ORDER_LINES,
        "FEE_DISCOUNTS_REPORT",
        "GET_AFN_INVENTORY_DATA",
        "GET_MERCHANT_LISTINGS_ALL_DATA",
    }
)
_FILTERS = (
    "reportTypes",
    "processingStatuses",
    "marketplaceIds",
    "pageSize",
    "createdSince",
    "createdUntil",
)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_CONSTRAINT = "One or more parameters does not conform to the schema constraints."
_MISSING = "One or more required parameters missing"
# The service's clock and the caller's may differ by so much.
_SKEW = timedelta(seconds=60)


def list_query(query: str) -> dict[str, Any]:
    """Return the parameters of getReports, or only ``nextToken``."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    names = [name for name, _ in pairs]
    for name in given:
        if names.count(name) > 1:
            # Lists are comma separated; a repeated key is not understood.
            raise invalid(_CONSTRAINT, f"{name};")
        if name not in (*_FILTERS, "nextToken"):
            raise invalid(_CONSTRAINT, f"{name};")
    if "nextToken" in given:
        if len(given) > 1:
            others = "".join(f"{name};" for name in reversed(_FILTERS) if name in given)
            raise invalid("NextToken cannot be specified with other input parameters", others)
        return {"nextToken": given["nextToken"]}
    if not given.get("reportTypes"):
        raise invalid(_MISSING, "reportTypes;")
    types = _texts(given, "reportTypes", most=10)
    for each in types:
        if each not in REPORT_TYPES:
            raise invalid(f"Invalid Report Type {each}")
    statuses = _texts(given, "processingStatuses") if "processingStatuses" in given else []
    if not STATUSES.issuperset(statuses):
        raise invalid(_CONSTRAINT, "processingStatuses;")
    return {
        "reportTypes": types,
        "processingStatuses": statuses,
        "marketplaceIds": _texts(given, "marketplaceIds", most=10) if "marketplaceIds" in given else [],
        "pageSize": _page_size(given.get("pageSize", "10")),
        "createdSince": _time(given, "createdSince"),
        "createdUntil": _time(given, "createdUntil"),
    }


def no_query(query: str) -> None:
    """Refuse the query of an operation that has none."""
    if query:
        raise invalid(_CONSTRAINT, f"{query.split('&')[0].split('=')[0]};")


def create_body(body: bytes, now: datetime) -> dict[str, Any]:
    """Return the CreateReportSpecification."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("Invalid request body: not valid JSON", None) from None
    if not isinstance(given, dict):
        raise invalid("Invalid request body: not an object", None)
    allowed = {"reportOptions", "reportType", "dataStartTime", "dataEndTime", "marketplaceIds"}
    if unknown := sorted(set(given) - allowed):
        raise invalid(f"Invalid request body: [object has unknown properties {unknown}]", None)
    if not given.get("reportType"):
        raise invalid(_MISSING, "reportType;")
    if not isinstance(given["reportType"], str):
        raise invalid("Invalid request body: [reportType is no string]", None)
    if given["reportType"] not in REPORT_TYPES:
        raise invalid(f"Invalid Report Type {given['reportType']}")
    _check_marketplaces(given.get("marketplaceIds"))
    options = _options(given.get("reportOptions", {}))
    if given["reportType"] == INVOICE and not {"invoiceId", "orderId"} & set(options):
        raise invalid(_MISSING, "reportOptions;")
    for name in {"rows", "bytes"} & set(options):
        if given["reportType"] == ORDER_LINES and not _NUMBER.fullmatch(options[name]):
            raise invalid(_CONSTRAINT, f"reportOptions.{name};")
    start, end = _time(given, "dataStartTime"), _time(given, "dataEndTime")
    for name, time in (("dataStartTime", start), ("dataEndTime", end)):
        if time and time > now + _SKEW:
            raise invalid(_CONSTRAINT, f"{name};")
    if start and end and start > end:
        raise invalid(_CONSTRAINT, "dataStartTime;dataEndTime;")
    return {**given, "reportOptions": options, "window": (start, end)}


def headers(user_agent: str | None, content_type: str | None, *, has_body: bool) -> None:
    """Check the headers that Amazon requires."""
    if not user_agent or len(user_agent) > 500:
        raise invalid("Invalid user-agent header")
    if has_body and (content_type or "").split(";")[0].strip().lower() != "application/json":
        message = "The request's Content-Type header is invalid."
        raise Refused(error(415, "UnsupportedMediaType", message))


def _check_marketplaces(value: Any) -> None:
    if value is None:
        raise invalid(_MISSING, "marketplaceIds;")
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        kind = type(value).__name__
        raise invalid(f"Invalid request body: [marketplaceIds is no array of strings but {kind}]", None)
    if not 1 <= len(value) <= 25:
        raise invalid(_CONSTRAINT, "marketplaceIds;")


def _options(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise invalid("Invalid request body: [reportOptions is no object]", None)
    for each in value.values():
        if not isinstance(each, str):
            kind = {bool: "boolean", int: "integer", float: "number", list: "array"}.get(type(each), "object")
            raise invalid(
                f"Invalid request body: [instance type ({kind}) does not match any allowed primitive type "
                '(allowed: ["string"])]',
                None,
            )
    return dict(value)


def _texts(given: dict[str, str], name: str, *, most: int | None = None) -> list[str]:
    parts = given[name].split(",")
    if not all(parts) or (most is not None and len(parts) > most):
        raise invalid(_CONSTRAINT, f"{name};")
    return parts


def _page_size(value: str) -> int:
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= 100:
        raise invalid(_CONSTRAINT, "pageSize;")
    return int(value)


def _time(given: dict[str, Any], name: str) -> datetime | None:
    if name not in given:
        return None
    value = given[name]
    try:
        if isinstance(value, str) and _DATE_TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:
        # The form is right, but there is no such day or hour.
        raise invalid(_CONSTRAINT, f"{name};") from None
    raise invalid(_CONSTRAINT, f"{name};")
