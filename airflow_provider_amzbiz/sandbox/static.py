"""Amazon's own static sandbox: ten requests, each with its response, and nothing else."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from airflow_provider_amzbiz.sandbox.responses import ApiResponse, error

_CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("static_cases.json").read_text())

# The sibling Selling Partner API's static sandbox also accepts the default.
_DEFAULT_PAGE_SIZE = ("pageSize", "10")


def static_response(method: str, path: str, query: str, body: bytes) -> ApiResponse:
    """Return the response of the case that matches in every parameter, or the error for all others."""
    pairs = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair != _DEFAULT_PAGE_SIZE]
    try:
        request = json.loads(body) if body else None
    except ValueError:
        request = None
    for case in _CASES:
        expected = (case["method"], sorted(case["query"].items()), case["request"])
        # A star stands for any id; the case with the exact id comes before it.
        if fnmatchcase(path, case["path"]) and expected == (method, sorted(pairs), request):
            return _response(case)
    return error(400, "InvalidInput", "Could not match input arguments")


def _response(case: dict[str, Any]) -> ApiResponse:
    if case["answer"] is None:
        return ApiResponse(case["status"])
    # Compact, with a line end: the form recorded from the sibling Selling Partner API's sandbox.
    return ApiResponse(case["status"], json.dumps(case["answer"], separators=(",", ":")).encode() + b"\n")
