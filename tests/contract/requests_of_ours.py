"""Whether a request that reached the sandbox is one that the API's contract allows."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl

import yaml
from jsonschema import Draft202012Validator, FormatChecker

_CONTRACT = yaml.safe_load((Path(__file__).resolve().parent / "reports_api.openapi.yaml").read_text())
# How our client names itself, by an application's name; tests that send what nobody should have others.
_OURS = re.compile(r".+/\S+ \(Language=Python/.+;Platform=.+\)")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_formats = FormatChecker(())


@_formats.checks("date-time", ValueError)
def _is_date_time(value):
    return _DATE_TIME.fullmatch(value) is not None and bool(datetime.fromisoformat(value))


def breaches(call):
    """Return what the contract does not allow in a call of our client, in words."""
    found = _operation(call.operation)
    if found is None or not _OURS.fullmatch(call.headers.get("user-agent", "")):
        return []
    path, method, parameters, body = found
    wrong = []
    if call.method.lower() != method or not re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), call.path):
        wrong.append(f"{call.method} {call.path} is not {method.upper()} {path}")
    if not call.headers.get("x-amz-access-token"):
        wrong.append("there is no access token")
    wrong += [f"query: {each}" for each in _wrong_query(call.query, parameters)]
    if body:
        wrong += [f"body: {each.message}" for each in body.iter_errors(json.loads(call.body))]
    elif call.body:
        wrong.append("there is a body")
    return [f"{call.operation}: {each}" for each in wrong]


def _wrong_query(query, parameters):
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    given = dict(pairs)
    if len(given) < len(pairs):
        yield f"a parameter is repeated in {query}"
    if "nextToken" in given and len(given) > 1:
        yield "nextToken is not alone"
    if parameters and not {"nextToken", "reportTypes"} & set(given):
        yield "there is neither nextToken nor reportTypes"
    for name, text in given.items():
        if name not in parameters:
            yield f"{name} is no parameter"
            continue
        kind, validator = parameters[name]
        value = text.split(",") if kind == "array" else int(text) if kind == "integer" else text
        yield from (f"{name}: {error.message}" for error in validator.iter_errors(value))


@cache
def _operation(operation_id):
    """Return path, method, parameters of the query and validator of the body, or None for what is no operation."""
    for path, methods in _CONTRACT["paths"].items():
        for method, operation in methods.items():
            if method != "parameters" and operation["operationId"] == operation_id:
                parameters = {
                    each["name"]: (each["schema"]["type"], _validator(each["schema"]))
                    for each in operation.get("parameters", ())
                }
                body = operation.get("requestBody")
                schema = body and body["content"]["application/json"]["schema"]
                return path, method, parameters, schema and _validator(schema)
    return None


def _validator(schema):
    return Draft202012Validator({**schema, "components": _CONTRACT["components"]}, format_checker=_formats)
