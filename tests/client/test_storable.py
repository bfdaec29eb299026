"""What Airflow's database can store."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from airflow_provider_amzbiz.client.storable import odd_string, unstorable_part


def nested(levels):
    return json.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize(
    "value",
    [None, 10**400, -1e-300, Decimal("1.5"), "", "\u20ac\U0001f4a5\n", [], {}, {"a": [{"b": 1}]}, nested(51)],
)
def test_what_json_may_hold_can_be_stored(value):
    assert unstorable_part(value) is None


@pytest.mark.parametrize(
    ("value", "odd"),
    [
        (float("nan"), "a number that is not finite"),
        ([1, {"a": float("-inf")}], "a number that is not finite"),
        ("a\udc00", "a string that is not valid UTF-8"),
        ({"a\ud800": 1}, "a string that is not valid UTF-8"),
        (["\0"], "a string with a NUL character"),
        (nested(52), "values nested more than 50 levels deep"),
        (nested(900), "values nested more than 50 levels deep"),
    ],
)
def test_what_cannot_be_stored_is_named(value, odd):
    assert unstorable_part(value) == odd


def test_a_string_alone():
    assert odd_string("a\u20ac") is None
    assert odd_string("a\0") == "a string with a NUL character"
