"""The sandbox's time, and its form in responses."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest


def test_times_have_the_recorded_form_and_the_window_defaults_to_the_creation(api):
    report = api.get(api.created()).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", report["createdTime"])
    assert report["dataStartTime"] == report["dataEndTime"] == report["createdTime"]


@pytest.mark.parametrize("time", ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00"])
def test_a_window_comes_back_in_utc(shared_api, time):
    report = shared_api.get(shared_api.created(dataStartTime=time, dataEndTime=time)).json()
    assert report["dataStartTime"] == report["dataEndTime"] == "2026-01-02T03:04:05+00:00"


def test_time_scale_makes_the_sandbox_run_faster(start):
    sandbox = start(time_scale=1_000_000)
    before = sandbox.clock.now()
    # Any two readings of the clock are far apart at this scale.
    assert sandbox.clock.now() - before > timedelta(seconds=0.01)
    assert sandbox.clock.now().tzinfo is not None


@pytest.mark.parametrize(
    ("time_format", "form"),
    [("+00:00", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"), (".sssZ", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")],
)
def test_times_come_in_either_recorded_form(start, caller, time_format, form):
    api = caller(start(time_format=time_format))
    report = api.get(api.created()).json()
    (listed,) = api.list().json()["reports"]
    times = {name: value for name, value in report.items() if name.endswith("Time")}
    assert len(times) == 5
    assert all(re.fullmatch(form, value) for value in times.values())
    assert {name: listed[name] for name in times} == times
