"""From requests to items, and from one list to the next."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.batch.plan import Place, check_keys, is_late, plan_items, reconcile, symbolic
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.transfers.batch_place import KeyRules
from tests.batch.engine import request_of


def plan(*numbers, key="d/{n}.pdf", given=None):
    requests = (
        [{"report_type": "T", "report_options": {"n": each}} for each in numbers] if given is None else given
    )
    place = Place("bucket", key, "m.json")
    return plan_items(requests, place, parse=lambda _, each: request_of(each), keys=KeyRules)


def indexes(items):
    return {item.request.options["n"]: item.index for item in items}


def test_an_index_is_the_position_in_the_first_list():
    assert indexes(plan("a", "b", "a", "c")) == {"a": 0, "b": 1, "c": 3}


def test_equal_requests_are_one_item_that_says_where_they_stood():
    first, second = plan("a", "b", "a", "a")

    assert first.positions == [0, 2, 3]
    assert second.positions is None


def test_items_are_known_again_by_content_and_new_ones_get_new_indexes():
    known = plan("a", "b", "c", key="d/{index}.pdf")
    known[1].report_id = "r-b"

    found = reconcile(plan("x", "b", "a", "y", key="d/{index}.pdf"), known, 3)

    assert indexes(found.items) == {"x": 3, "b": 1, "a": 0, "y": 4}
    assert found.items[1].report_id == "r-b"
    assert indexes(found.dropped) == {"c": 2}
    assert found.next_index == 5


def test_a_known_item_of_another_key_is_another_item():
    found = reconcile(plan("a", key="new/{n}.pdf"), plan("a"), 1)

    assert [item.index for item in found.items] == [1]
    assert [item.index for item in found.dropped] == [0]


def test_the_same_key_written_in_another_way_is_the_same():
    (known,) = plan("a")

    assert reconcile(plan("a", key="d/a.pdf"), [known], 1).items == [known]


def test_no_two_items_have_one_key_also_where_they_come_from_two_lists():
    known = plan("a", "b", key="d/{index}.pdf")
    given = [
        {"report_type": "T", "report_options": {"n": "b"}},
        {"report_type": "T", "report_options": {"n": "x"}, "s3_key": "d/1.pdf"},
    ]
    planned = plan(given=given, key="d/{index}.pdf")
    found = reconcile(planned, known, 2)

    with pytest.raises(InvalidParameterError, match=r"\(n=x\) would write the key 'd/1.pdf', as would .*\(n=b\)"):
        check_keys(found.items, Place("bucket", "d/{index}.pdf", "m.json"), KeyRules)


@pytest.mark.parametrize("key", ["m.json", "m.json.parts/{n}", "t.jsonl"])
def test_the_places_of_the_record_and_the_table_are_reserved(key):
    items = plan("a", key=key)

    with pytest.raises(InvalidParameterError, match="where the batch keeps its manifest or its table"):
        check_keys(items, Place("bucket", key, "m.json", "t.jsonl"), KeyRules)


@pytest.mark.parametrize("placeholder", ["report_id", "report_document_id", "name"])
def test_what_is_known_late_is_left_in_the_key(placeholder):
    (item,) = plan("a", key=f"d/{{n}}/{{index}}/{{{placeholder}}}")

    assert is_late(item)
    assert symbolic(item) == f"d/a/{{index}}/{{{placeholder}}}"


@pytest.mark.parametrize("given", [None, "text", b"bytes", {"a": 1}, 7])
def test_what_is_no_list_is_refused(given):
    with pytest.raises(InvalidParameterError, match="must be a list of dicts"):
        plan_items(given, Place("b", "k", "m"), parse=lambda _, each: request_of(each), keys=KeyRules)


def test_any_iterable_is_a_list():
    given = ({"report_type": "T", "report_options": {"n": each}} for each in "ab")

    assert len(plan(given=given)) == 2


@pytest.mark.parametrize("key", ["d/{n}.pdf", "d/{n}-{report_id}.pdf", "d/{n}/{name}"])
@pytest.mark.parametrize("value", [".", "..", "a/b", "a\nb", "\x7f", "x" * 1025])
def test_a_value_that_a_key_cannot_take_is_refused_before_anything_is_created(key, value):
    with pytest.raises(InvalidInputError, match=r"requests\[1\]: "):
        plan("a", value, key=key)


@pytest.mark.parametrize("field", ["bucket", "key", "manifest_key", "audit_key"])
@pytest.mark.parametrize("value", [7, "", b"x", 1.5])
def test_what_a_native_template_has_made_no_string_is_named(field, value):
    given = {"bucket": "b", "key": "k", "manifest_key": "m", "audit_key": "a", field: value}
    name = {"bucket": "s3_bucket", "key": "s3_key"}.get(field, field)

    with pytest.raises(InvalidParameterError, match=f"{name} is {value!r}.* must be a non-empty string"):
        Place(**given)


def test_a_key_that_s3_would_not_take_names_its_parameter():
    with pytest.raises(InvalidInputError, match="s3_key is 'd//x'"):
        plan("a", key="d//x")
