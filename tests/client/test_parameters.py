from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import partial

import pendulum
import pytest

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError

NOW = datetime.now(timezone.utc)


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
def test_a_time_in_every_form_goes_out_in_one(given):
    window = parameters.window(("data_start_time", given), ("data_end_time", None), past=True)

    assert window == ["2026-01-02T03:04:05.000Z", None]


@pytest.mark.parametrize("given", ["", "None", "yesterday", "2026-13-01T00:00:00Z", 5, "2026-01-02T03:04:05"])
def test_a_time_that_is_none_is_named(given):
    with pytest.raises(InvalidParameterError, match="data_start_time is "):
        parameters.window(("data_start_time", given), ("data_end_time", None), past=True)


def test_a_naive_time_is_refused():
    with pytest.raises(InvalidParameterError, match="no UTC offset"):
        parameters.time("created_since", datetime(2026, 1, 2))


def test_a_window_in_the_future_is_refused():
    with pytest.raises(InvalidParameterError, match=r"data_end_time is .* in the future"):
        parameters.window(("data_start_time", NOW), ("data_end_time", NOW + timedelta(hours=1)), past=True)


def test_a_clock_that_is_seconds_behind_is_no_error():
    assert parameters.past_time("data_end_time", NOW + timedelta(seconds=30))


def test_a_window_is_in_order():
    with pytest.raises(InvalidParameterError, match=r"created_since .* is after created_until"):
        parameters.window(("created_since", NOW), ("created_until", NOW - timedelta(seconds=1)), past=False)


def test_report_options_become_texts():
    given = {"invoiceId": "1", "flag": True, "number": 5, "share": 0.5}

    assert parameters.report_options(given) == {
        "invoiceId": "1",
        "flag": "true",
        "number": "5",
        "share": "0.5",
    }
    assert parameters.report_options('{"invoiceId": "1"}') == {"invoiceId": "1"}
    assert parameters.report_options(None) == {}


@pytest.mark.parametrize("given", [[1], "text", '["a"]', {"a": None}, {"a": {}}, {"a": [1]}, {1: "a"}])
def test_report_options_of_another_shape_are_refused(given):
    with pytest.raises(InvalidParameterError, match="report_options"):
        parameters.report_options(given)


@pytest.mark.parametrize("check", [parameters.report_types, partial(parameters.required_id, "report_id")])
def test_the_rendering_of_a_missing_value_is_no_value(check):
    with pytest.raises(InvalidParameterError, match="as a template renders a value that is missing"):
        check("None")


def test_the_rendering_of_a_list_says_what_to_do():
    with pytest.raises(InvalidParameterError, match="render_template_as_native_obj"):
        parameters.report_types("['GET_A', 'GET_B']")
