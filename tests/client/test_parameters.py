from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from numbers import Integral

import pendulum
import pytest

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError

NOW = datetime.now(timezone.utc)


class Num:
    """An integer of another library, such as NumPy: no ``int``, but registered as one of its kind."""

    def __init__(self, value):
        self.value = value

    def __int__(self):
        return self.value

    def __eq__(self, other):
        return self.value == other

    __hash__ = None


Integral.register(Num)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["A"], ["A"]),
        (("A", "B"), ["A", "B"]),
        ("A,B", ["A", "B"]),
        (" A , B ", ["A", "B"]),
        ([str(number) for number in range(10)], [str(number) for number in range(10)]),
    ],
)
def test_report_types(given, expected):
    assert parameters.report_types(given) == expected


@pytest.mark.parametrize("given", [None, [], "", [str(number) for number in range(11)], [" "], [1]])
def test_report_types_out_of_range(given):
    with pytest.raises(InvalidParameterError, match="report_types"):
        parameters.report_types(given)


def test_marketplaces_25_on_create_and_10_on_list():
    assert len(parameters.created_marketplace_ids(["M"] * 25)) == 25
    assert len(parameters.listed_marketplace_ids(["M"] * 10)) == 10
    with pytest.raises(InvalidParameterError, match="marketplace_ids has 26 values.*1 to 25"):
        parameters.created_marketplace_ids(["M"] * 26)
    with pytest.raises(InvalidParameterError, match="marketplace_ids has 11 values.*1 to 10"):
        parameters.listed_marketplace_ids(["M"] * 11)


@pytest.mark.parametrize("given", [0, 101, True, "10", 1.5, None])
def test_page_size_out_of_range(given):
    with pytest.raises(InvalidParameterError, match="page_size.*1 to 100"):
        parameters.page_size(given)


@pytest.mark.parametrize("given", ["False", "true", "", 0, 1, None])
def test_what_is_no_boolean_is_refused(given):
    assert parameters.boolean("replace", True) is True
    with pytest.raises(InvalidParameterError, match=f"replace is {given!r}, but must be True or False"):
        parameters.boolean("replace", given)


def test_processing_statuses():
    assert parameters.processing_statuses("DONE,FATAL") == ["DONE", "FATAL"]
    with pytest.raises(InvalidParameterError, match="'READY'.*IN_QUEUE"):
        parameters.processing_statuses(["READY"])
    with pytest.raises(InvalidParameterError, match="processing_statuses has 0 values"):
        parameters.processing_statuses([])


@pytest.mark.parametrize(
    "given",
    [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1))),
        pendulum.datetime(2026, 1, 2, 3, 4, 5),
        # What "{{ data_interval_start }}", "{{ ts }}" and people write.
        str(pendulum.datetime(2026, 1, 2, 3, 4, 5)),
        "2026-01-02 03:04:05+00:00",
        "2026-01-02T03:04:05Z",
        "2026-01-02T04:04:05.000+01:00",
    ],
)
def test_a_time_in_any_form_is_sent_in_one(given):
    window = parameters.window(("data_start_time", given), ("data_end_time", None), past=True)

    assert window == ["2026-01-02T03:04:05.000Z", None]


@pytest.mark.parametrize("given", ["", "None", "yesterday", "2026-13-01T00:00:00Z", 5, "2026-01-02T03:04:05"])
def test_a_time_that_is_none_is_named(given):
    with pytest.raises(InvalidParameterError, match="data_start_time is "):
        parameters.window(("data_start_time", given), ("data_end_time", None), past=True)


def test_a_naive_time_is_rejected():
    with pytest.raises(InvalidParameterError, match="no UTC offset"):
        parameters.time("created_since", datetime(2026, 1, 2))


def test_a_window_in_the_future_is_rejected():
    with pytest.raises(InvalidParameterError, match=r"data_end_time is .* in the future"):
        parameters.window(("data_start_time", NOW), ("data_end_time", NOW + timedelta(hours=1)), past=True)


def test_a_clock_that_is_seconds_behind_is_no_error():
    assert parameters.past_time("data_end_time", NOW + timedelta(seconds=30))


def test_a_window_is_in_order():
    with pytest.raises(InvalidParameterError, match=r"created_since .* is after created_until"):
        parameters.window(("created_since", NOW), ("created_until", NOW - timedelta(seconds=1)), past=False)


def test_report_options_become_strings():
    given = {"invoiceId": " 1\n", "flag": True, "number": 5, "float": 7.0, "exact": Decimal(8), "numpy": Num(9)}

    assert parameters.report_options(given) == {
        "invoiceId": "1",
        "flag": "true",
        "number": "5",
        "float": "7",
        "exact": "8",
        "numpy": "9",
    }
    assert parameters.report_options('{"invoiceId": "1"}') == {"invoiceId": "1"}
    assert parameters.report_options(None) == {}


@pytest.mark.parametrize(
    "given",
    [[1], "text", '["a"]', {"a": None}, {"a": {}}, {"a": [1]}, {1: "a"}, "[" * 9999, '{"a": %s}' % ("1" * 5000)],
)
def test_report_options_of_another_shape_are_rejected(given):
    with pytest.raises(InvalidParameterError, match="report_options"):
        parameters.report_options(given)


@pytest.mark.parametrize("check", [parameters.report_types, partial(parameters.required_id, "report_id")])
def test_a_rendered_missing_value_is_rejected(check):
    with pytest.raises(InvalidParameterError, match="as a template renders a missing value"):
        check("None")


def test_the_error_for_a_rendered_list_names_the_remedy():
    with pytest.raises(InvalidParameterError, match="render_template_as_native_obj"):
        parameters.report_types("['GET_A', 'GET_B']")


@pytest.mark.parametrize(
    "value",
    [None, "None", "", " \n", "nan", "NaT", "inf", float("inf"), float("-inf"), float("nan"), 0.5, 1e22, b"1"],
)
def test_an_option_without_a_value_is_rejected_by_name(value):
    assert_rejected(value)


@pytest.mark.parametrize(
    "value", [Decimal("1.5"), Decimal("Infinity"), Decimal("sNaN"), [], {}, object(), "\ud800"]
)
def test_an_option_of_another_kind_is_rejected_by_name(value):
    assert_rejected(value)


def test_a_number_with_more_digits_than_python_prints_is_rejected():
    assert_rejected(10**5000)


def assert_rejected(value):
    with pytest.raises(InvalidParameterError, match=r"report_options\['invoiceId'\] is ") as caught:
        parameters.report_options({"invoiceId": value})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("key", [None, "None", "", " ", 1, 1.0, float("nan"), ("a",), "\ud800"])
def test_an_invalid_key_of_an_option_is_rejected(key):
    with pytest.raises(InvalidParameterError, match="report_options' key is "):
        parameters.report_options({key: "1"})


@pytest.mark.parametrize("given", [{"a": "1", " a": "2"}, '{"a": "1", "a": "2"}'])
def test_an_option_that_is_given_twice_is_rejected(given):
    with pytest.raises(InvalidParameterError, match="report_options has keys .* each once"):
        parameters.report_options(given)


@pytest.mark.parametrize(
    ("given", "text"),
    [(5, "5"), (5.0, "5"), (2.0**53 - 1, "9007199254740991"), (Num(5), "5"), (Decimal("5.0"), "5"), (" 5 ", "5")],
)
def test_an_id_that_is_a_number_is_its_digits(given, text):
    assert parameters.required_id("report_id", given) == text


@pytest.mark.parametrize(
    "given",
    [
        True,
        5.5,
        2.0**53,
        1e300,
        float("nan"),
        float("inf"),
        None,
        {"a": 1},
        [5],
        b"5",
        ".",
        "..",
        "\udcff",
    ],
)
def test_an_invalid_id_is_rejected_by_name(given):
    with pytest.raises(InvalidParameterError, match="report_id is "):
        parameters.required_id("report_id", given)


TEMPLATE = "{{ ti.xcom_pull('ids') }}"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (TEMPLATE, "x is "),
        ("a{% if b %}", "x is "),
        ([1, ["a", TEMPLATE]], r"x\[1\]\[1\] is "),
        ({"a": {"b": (TEMPLATE,)}}, r"x\['a'\]\['b'\]\[0\] is "),
        ({TEMPLATE: 1}, "x's key is "),
    ],
)
def test_a_template_that_was_not_rendered_is_rejected_with_its_place(value, place):
    with pytest.raises(
        InvalidParameterError, match=rf"^{place}.*not rendered.*renders a templated field only once"
    ):
        parameters.refuse_template("x", value)


def test_values_without_a_template_pass_whatever_they_are():
    for value in ("", "a } b { c", "{a}", None, 5, {"a": [1, {"b": "c"}]}, NOW, object()):
        parameters.refuse_template("x", value)


def test_what_is_nested_in_itself_is_an_error():
    endless = []
    endless.append(endless)
    with pytest.raises(InvalidParameterError, match="nested in itself"):
        parameters.refuse_template("x", endless)


@pytest.mark.parametrize(
    "check",
    [
        partial(parameters.required_id, "x"),
        partial(parameters.strings, "x", maximum=1),
        partial(parameters.time, "x"),
        parameters.report_options,
        lambda value: parameters.report_options({"invoiceId": value}),
    ],
)
def test_every_parameter_rejects_a_template(check):
    with pytest.raises(InvalidParameterError, match="not rendered"):
        check(TEMPLATE)


@pytest.mark.parametrize("given", [5, 5.0, {"A": 1}, b"A", True, object(), "('A', 'B')", "{'A'}", [None], [["A"]]])
def test_marketplaces_of_another_shape_are_rejected_by_name(given):
    with pytest.raises(InvalidParameterError, match="marketplace_ids"):
        parameters.created_marketplace_ids(given)


def test_endless_marketplaces_are_rejected():
    with pytest.raises(InvalidParameterError, match="marketplace_ids has 10000 values"):
        parameters.created_marketplace_ids("A" for _ in iter(int, 1))


@pytest.mark.parametrize(
    "given",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        "0001-01-01T00:00:00+10:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_a_time_outside_of_utcs_years_is_rejected(given):
    with pytest.raises(InvalidParameterError, match="created_since is .* year 9999 in UTC"):
        parameters.window(("created_since", given), ("created_until", None), past=False)
