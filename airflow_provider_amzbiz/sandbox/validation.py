"""The spec's rules for requests; every violation is a 400."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from airflow_provider_amzbiz.sandbox import invoices
from airflow_provider_amzbiz.sandbox.invoices import INVOICE
from airflow_provider_amzbiz.sandbox.marketplaces import are_served
from airflow_provider_amzbiz.sandbox.responses import CONSTRAINT, MISSING, ErrorResponse, error, invalid

STATUSES = frozenset({"IN_QUEUE", "IN_PROGRESS", "DONE", "CANCELLED", "FATAL"})
ORDER_LINES = "SANDBOX_ORDER_LINES"
# Types of the sibling Selling Partner API in Amazon's static sandbox; no Amazon Business account can have such a
# report.
SIBLING_TYPES = frozenset({"FEE_DISCOUNTS_REPORT", "GET_AFN_INVENTORY_DATA", "GET_MERCHANT_LISTINGS_ALL_DATA"})
REPORT_TYPES = frozenset({INVOICE, ORDER_LINES}) | SIBLING_TYPES
_LISTS = ("reportTypes", "processingStatuses", "marketplaceIds")
_FILTERS = (*_LISTS, "pageSize", "createdSince", "createdUntil")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
# As documented: App/Version (Language=...;Platform=...), where Language is required.
_USER_AGENT = re.compile(r"[^/].*/.*\S \((?=.*\bLanguage=)[^=;]+=[^=;]+(;[^=;]+=[^=;]+)*\)")
# The sandbox's clock and the system's may drift apart by less than this.
_SKEW = timedelta(seconds=1)


def list_query(query: str, region: str) -> dict[str, Any]:
    """Return the parameters of getReports, or only ``nextToken``; unknown ones are ignored.

    :param region: that of the host, or ``any``.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    given = _single_values(pairs)
    if "nextToken" in given:
        if len({name for name, _ in pairs}) > 1:
            others = "".join(f"{name};" for name in reversed(_FILTERS) if name in given)
            raise invalid("NextToken cannot be specified with other input parameters", others)
        return {"nextToken": given["nextToken"]}
    if not given.get("reportTypes"):
        raise invalid(MISSING, "reportTypes;")
    types = _strings(given, "reportTypes", maximum=10)
    for each in types:
        if each not in REPORT_TYPES:
            raise invalid(f"Invalid Report Type {each}")
    statuses = _strings(given, "processingStatuses") if "processingStatuses" in given else []
    if not STATUSES.issuperset(statuses):
        raise invalid(CONSTRAINT, "processingStatuses;")
    marketplaces = _strings(given, "marketplaceIds", maximum=10) if "marketplaceIds" in given else []
    if marketplaces and not are_served(marketplaces, region):
        raise invalid(CONSTRAINT, "marketplaceIds;")
    return {
        "reportTypes": types,
        "processingStatuses": statuses,
        "marketplaceIds": marketplaces,
        "pageSize": _page_size(given.get("pageSize", "10")),
        "createdSince": _time(given, "createdSince"),
        "createdUntil": _time(given, "createdUntil"),
    }


def create_body(body: bytes, now: datetime, region: str) -> dict[str, Any]:
    """Return the CreateReportSpecification; unknown fields are ignored.

    :param region: that of the host, or ``any``.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("Invalid request body: not valid JSON", None) from None
    if not isinstance(given, dict):
        raise invalid("Invalid request body: not an object", None)
    if not given.get("reportType"):
        raise invalid(MISSING, "reportType;")
    if not isinstance(given["reportType"], str):
        raise invalid("Invalid request body: [reportType is no string]", None)
    if given["reportType"] not in REPORT_TYPES:
        raise invalid(f"Invalid Report Type {given['reportType']}")
    _check_marketplaces(given.get("marketplaceIds"), region)
    options = _options(given.get("reportOptions", {}))
    if given["reportType"] == INVOICE:
        invoices.check(given["marketplaceIds"], options)
    for name in {"rows", "bytes"} & set(options):
        if given["reportType"] == ORDER_LINES and not _NUMBER.fullmatch(options[name]):
            raise invalid(CONSTRAINT, f"reportOptions.{name};")
    return {**given, "reportOptions": options, "window": _window(given, now)}


def headers(user_agent: str | None, content_type: str | None, *, has_body: bool) -> None:
    """Check the headers; a request without a User-Agent is not known to be rejected."""
    if user_agent and (len(user_agent) > 500 or not _USER_AGENT.fullmatch(user_agent)):
        raise invalid("Invalid user-agent header")
    if has_body and (content_type or "").split(";")[0].strip().lower() != "application/json":
        message = "The request's Content-Type header is invalid."
        raise ErrorResponse(error(415, "UnsupportedMediaType", message))


def _single_values(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return one value per name: a list may also come as a repeated key, anything else may not."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given and name in _FILTERS:
            if name not in _LISTS:
                raise invalid(CONSTRAINT, f"{name};")
            value = f"{given[name]},{value}"
        given[name] = value
    return given


def _window(given: dict[str, Any], now: datetime) -> tuple[datetime | None, datetime | None]:
    start, end = _time(given, "dataStartTime"), _time(given, "dataEndTime")
    for name, time in (("dataStartTime", start), ("dataEndTime", end)):
        if time and time > now + _SKEW:
            raise invalid(CONSTRAINT, f"{name};")
    if start and end and start > end:
        raise invalid(CONSTRAINT, "dataStartTime;dataEndTime;")
    return start, end


def _check_marketplaces(value: Any, region: str) -> None:
    if value is None:
        raise invalid(MISSING, "marketplaceIds;")
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        kind = type(value).__name__
        raise invalid(f"Invalid request body: [marketplaceIds is no array of strings but {kind}]", None)
    if not 1 <= len(value) <= 25 or not are_served(value, region):
        raise invalid(CONSTRAINT, "marketplaceIds;")


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


def _strings(given: dict[str, str], name: str, *, maximum: int | None = None) -> list[str]:
    parts = given[name].split(",")
    if not all(parts) or (maximum is not None and len(parts) > maximum):
        raise invalid(CONSTRAINT, f"{name};")
    return parts


def _page_size(value: str) -> int:
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= 100:
        raise invalid(CONSTRAINT, "pageSize;")
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
        raise invalid(CONSTRAINT, f"{name};") from None
    raise invalid(CONSTRAINT, f"{name};")
