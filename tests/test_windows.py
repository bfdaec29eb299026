"""Windows of time: what they cover, in any zone, and what a run without an interval gets."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.windows import data_interval_of, report_windows
from tests.fuzzing import bounded

UTC = timezone.utc
# Clocks that change at midnight, by half an hour, and one that has left out a day.
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia"]
times = st.datetimes(
    datetime(2008, 1, 1), datetime(2030, 1, 1), timezones=st.sampled_from([*map(ZoneInfo, ZONES)])
)


def edges(windows):
    return [
        (datetime.fromisoformat(each["data_start_time"]), datetime.fromisoformat(each["data_end_time"]))
        for each in windows
    ]


@bounded()
@given(
    start=times,
    length=st.timedeltas(timedelta(0), timedelta(days=100)),
    every=st.one_of(st.sampled_from(["day", "month"]), st.timedeltas(timedelta(hours=1), timedelta(days=40))),
    zone=st.sampled_from(ZONES),
    holdback=st.timedeltas(timedelta(0), timedelta(days=10)),
    age=st.timedeltas(timedelta(0), timedelta(days=120)),
)
def test_windows_cover_the_range_once_and_nothing_of_the_future(start, length, every, zone, holdback, age):
    first = start.astimezone(UTC)
    last, now = first + length, first + age

    whole = edges(report_windows(first, last, every=every, timezone=zone, now=last))
    found = edges(report_windows(first, last, every=every, timezone=zone, holdback=holdback, now=now))

    assert all(begin.timestamp() < end.timestamp() for begin, end in whole)
    cuts = [begin.astimezone(UTC) for begin, _ in whole] + ([whole[-1][1].astimezone(UTC)] if whole else [])
    assert cuts == ([first, *(end.astimezone(UTC) for _, end in whole)] if length else [])
    assert not whole or cuts[-1] == last
    # What is held back is a whole window, and nothing else is missing.
    limit = now - holdback
    assert found == [each for each in whole if each[1] <= limit]


@bounded()
@given(start=times, zone=st.sampled_from(ZONES))
def test_days_begin_with_the_day(start, zone):
    windows = edges(
        report_windows(start, start + timedelta(days=20), timezone=zone, now=datetime(2031, 1, 1, tzinfo=UTC))
    )

    for begin, _ in windows[1:]:
        local = begin.astimezone(ZoneInfo(zone))
        # One moment earlier it was another day; where midnight does not exist, the day begins at one o'clock.
        assert (begin.astimezone(UTC) - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).date() < local.date()


def test_days_have_23_and_25_hours_where_the_clocks_change():
    spring = edges(
        report_windows("2026-03-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00", timezone="Europe/Berlin")
    )
    autumn = edges(
        report_windows("2026-10-24T00:00:00+02:00", "2026-10-27T00:00:00+01:00", timezone="Europe/Berlin")
    )

    assert [(end - begin).total_seconds() / 3600 for begin, end in spring] == [24, 23, 24]
    assert [(end - begin).total_seconds() / 3600 for begin, end in autumn] == [24, 25, 24]


def test_months_and_ragged_ends():
    assert report_windows("2026-01-15T12:00:00Z", "2026-03-02T00:00:00Z", every="month") == [
        {"data_start_time": "2026-01-15T12:00:00+00:00", "data_end_time": "2026-02-01T00:00:00+00:00"},
        {"data_start_time": "2026-02-01T00:00:00+00:00", "data_end_time": "2026-03-01T00:00:00+00:00"},
        {"data_start_time": "2026-03-01T00:00:00+00:00", "data_end_time": "2026-03-02T00:00:00+00:00"},
    ]


def test_late_data_is_waited_for_in_whole_windows():
    now = datetime(2026, 6, 10, 13, 30, tzinfo=UTC)
    windows = report_windows("2026-06-05T00:00:00Z", "2026-06-10T00:00:00Z", holdback=timedelta(days=3), now=now)

    assert windows[-1]["data_end_time"] == "2026-06-07T00:00:00+00:00"
    assert report_windows("2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z", now=now) == []


def test_a_window_is_a_request_that_the_client_takes():
    (window,) = report_windows(
        "2026-06-05T00:00:00Z", "2026-06-06T00:00:00Z", timezone="Asia/Tokyo", every=timedelta(days=1)
    )

    body = ReportRequest.of("SANDBOX_ORDER_LINES", "ATVPDKIKX0DER", **window).body
    assert (body["dataStartTime"], body["dataEndTime"]) == ("2026-06-05T00:00:00.000Z", "2026-06-06T00:00:00.000Z")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"start": datetime(2026, 1, 1)}, "start is .*no UTC offset"),
        ({"end": "tomorrow"}, "end is 'tomorrow'"),
        ({"end": "2025-01-01T00:00:00Z"}, "is after end"),
        ({"every": "week"}, "every is 'week'"),
        ({"every": timedelta(seconds=1)}, "every is .* at least a minute and at most 3650 days"),
        ({"every": timedelta.max}, "every is .* at least a minute and at most 3650 days"),
        ({"timezone": "Berlin"}, "timezone is 'Berlin'"),
        ({"timezone": ""}, "timezone is ''"),
        ({"holdback": timedelta(days=-1)}, "holdback is .* 0 or more and at most 3650 days"),
        ({"holdback": timedelta(days=3651)}, "holdback is .* 0 or more and at most 3650 days"),
        ({"holdback": timedelta.max}, "holdback is .* 0 or more and at most 3650 days"),
        (
            {"start": "0001-01-01T00:00:00Z", "timezone": "America/New_York"},
            "start is 0001-01-01 00:00:00.00:00, but must be from year 1 to year 9999 in America/New_York",
        ),
        ({"now": datetime(2026, 1, 1)}, "now is"),
    ],
)
def test_what_is_not_allowed_is_named(arguments, expected):
    with pytest.raises(InvalidInputError, match=expected):
        report_windows(**{"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", **arguments})


def test_an_end_that_the_time_zone_cannot_show_is_named_once_a_window_reaches_it():
    end = "9999-12-31T23:00:00Z"
    assert report_windows("2026-01-01T00:00:00Z", end, timezone="Asia/Tokyo", now=datetime(2026, 1, 3, tzinfo=UTC))

    with pytest.raises(InvalidInputError, match="end is 9999-12-31 23:00:00.* to year 9999 in Asia/Tokyo"):
        report_windows(
            "9999-12-30T00:00:00Z", end, timezone="Asia/Tokyo", now=datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
        )


@pytest.mark.parametrize("every", ["day", "month", timedelta(days=1), timedelta(days=400)])
def test_the_last_year_has_windows_too(every):
    now = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
    windows = report_windows("9999-12-30T00:00:00Z", "9999-12-31T23:00:00Z", every=every, now=now)

    assert windows[0]["data_start_time"] == "9999-12-30T00:00:00+00:00"
    assert windows[-1]["data_end_time"] == "9999-12-31T23:00:00+00:00"


def test_before_anything_can_be_held_back_there_is_no_window():
    now = datetime(1, 1, 3, tzinfo=UTC)
    windows = report_windows("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z", holdback=timedelta(days=9), now=now)

    assert windows == []


START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def run_context(**values):
    return {"dag_run": SimpleNamespace(run_id="manual__1", run_after=END), "logical_date": None, **values}


def test_the_interval_of_a_run():
    context = run_context(data_interval_start=START, data_interval_end=END)
    assert data_interval_of(context) == data_interval_of(context, fallback=timedelta(hours=1)) == (START, END)


@pytest.mark.parametrize(
    "interval",
    [
        {},
        {"data_interval_start": None, "data_interval_end": None},
        {"data_interval_start": END, "data_interval_end": END},
    ],
)
def test_a_run_without_an_interval_is_an_error_or_gets_the_fallback(interval):
    context = run_context(**interval)

    with pytest.raises(InvalidInputError, match=r"'manual__1' has no data interval \(logical_date is None\)"):
        data_interval_of(context)
    assert data_interval_of(context, fallback=timedelta(days=1)) == (START, END)
    for wrong in (timedelta(0), timedelta(days=3651), timedelta.max):
        with pytest.raises(InvalidInputError, match="fallback is .* above 0 and at most 3650 days, or None"):
            data_interval_of(context, fallback=wrong)
