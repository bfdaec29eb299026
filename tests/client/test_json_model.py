"""Dataclasses that read themselves from JSON: every type of field, and every value that it may have to bear."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from airflow_provider_amzbiz.client.errors import UnavailableError
from airflow_provider_amzbiz.client.json_model import JsonModel, read_exact_json


@dataclass(frozen=True)
class Part(JsonModel):
    part_name: str | None = None


@dataclass(frozen=True)
class Thing(JsonModel):
    text: str | None = None
    number: int | None = None
    amount: Decimal | None = None
    made_at: datetime | None = None
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    notes: Mapping[str, str | None] = field(default_factory=dict, hash=False)


def read(**values):
    return Thing.from_api(read_exact_json(json.dumps(values).encode()))


@pytest.mark.parametrize("missing", [{}, None, ""])
def test_missing_null_and_the_empty_string_are_the_same(missing):
    names = ("text", "number", "amount", "madeAt", "part", "parts", "notes")
    given = {} if missing == {} else dict.fromkeys(names, missing)

    assert read(**given) == Thing()


def test_every_type_is_read():
    found = read(
        text="a", number=2, amount="5.99", madeAt="2020-04-03T16:59:18.768Z", part={"partName": "b"},
        parts=[{"partName": "c"}], notes={"GL code": "535", "Used?": "", "n": 1},
    )  # fmt: skip

    assert found == Thing(
        text="a",
        number=2,
        amount=Decimal("5.99"),
        made_at=datetime(2020, 4, 3, 16, 59, 18, 768000, timezone.utc),
        part=Part("b"),
        parts=(Part("c"),),
        notes={"GL code": "535", "Used?": None, "n": "1"},
    )


@pytest.mark.parametrize(
    ("wire", "amount"),
    [
        ('"0.1"', "0.1"),
        ("0.1", "0.1"),
        ("1751", "1751"),
        ('"1751.00"', "1751.00"),
        ("-2.99", "-2.99"),
        ("12345678901234567890.12", "12345678901234567890.12"),
        ('" 5.99 "', "5.99"),
        ("1e2", "1E+2"),
    ],
)
def test_an_amount_is_exactly_what_was_written(wire, amount):
    found = Thing.from_api(read_exact_json(b'{"amount": %s}' % wire.encode())).amount

    assert isinstance(found, Decimal)
    assert str(found) == amount


def test_unknown_fields_are_kept_as_they_came():
    found = read(text="a", newField={"x": [0.1]})

    assert found.extra == {"newField": {"x": [Decimal("0.1")]}}
    assert found.to_dict()["extra"] == {"newField": {"x": ["0.1"]}}


@pytest.mark.parametrize(
    ("wire", "hours"),
    [("2026-01-01T00:00:00", 0), ("2026-01-01T00:00:00+02:00", 2), ({"date": "2026-01-01T00:00:00Z"}, 0)],
)
def test_every_time_is_aware(wire, hours):
    assert read(madeAt=wire).made_at == datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=hours)))


def test_a_nul_character_is_kept():
    found = read(text="a\0b", newField={"c": "\0"})

    assert (found.text, found.extra) == ("a\0b", {"newField": {"c": "\0"}})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("text", True, "Thing.text of the response is a bool, but must be a string"),
        ("text", {}, "Thing.text of the response is a dict"),
        ("text", "\ud800", "Thing.text of the response is a string that is not valid UTF-8"),
        ("newField", ["\ud800"], "A Thing of the response holds a string that is not valid UTF-8"),
        ("number", "1.5", "Thing.number of the response is a str, but must be an integer"),
        ("number", [], "must be a number or a string that holds one"),
        ("amount", "NaN", "must be a finite number"),
        ("amount", "1_000", "must be a finite number"),
        ("amount", "\u0661", "must be a finite number"),
        ("amount", "1,5", "must be a finite number"),
        ("amount", "1e999", "must be a finite number"),
        ("amount", True, "Thing.amount of the response is a bool"),
        ("madeAt", "yesterday", "must be an ISO 8601 time"),
        ("madeAt", 1, "must be an ISO 8601 time"),
        ("madeAt", {"day": 1}, "must be an ISO 8601 time"),
        ("part", [], "holds a list where a Part must be"),
        ("parts", {}, "must be a list"),
        ("parts", [None], "Thing.parts of the response is a list with empty entries, but must have none"),
        ("parts", [""], "a list with empty entries"),
        ("parts", [1], "holds a int where a Part must be"),
        ("notes", [], "must be an object"),
        ("notes", {"a": []}, "Thing.notes['a'] of the response is a list"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_field(name, value, said):
    with pytest.raises(UnavailableError) as caught:
        read(**{name: value})

    assert said in str(caught.value)


@pytest.mark.parametrize("body", [b"[NaN]", b"[Infinity]", b"[1e999999999]", b"[1.1e99999999999999999999]", b"{"])
def test_what_is_no_json_or_no_number_is_refused(body):
    with pytest.raises(ValueError, match=".*"):
        read_exact_json(body)


def test_a_dict_of_it_is_json():
    found = read(amount=0.10, madeAt="2026-01-01T00:00:00Z", parts=[{"partName": "c"}], notes={"a": "b"})

    assert json.loads(json.dumps(found.to_dict())) == {
        "extra": {},
        "text": None,
        "number": None,
        "amount": "0.1",
        "made_at": "2026-01-01T00:00:00+00:00",
        "part": None,
        "parts": [{"extra": {}, "part_name": "c"}],
        "notes": {"a": "b"},
    }


def test_it_can_be_hashed_and_not_changed():
    found = read(notes={"a": "b"}, extraField=[])

    assert {found}
    with pytest.raises(FrozenInstanceError):
        found.text = "b"
