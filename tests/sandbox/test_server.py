"""The sandbox as an object: its settings, its start and its end."""

from __future__ import annotations

import re

import pytest


@pytest.mark.parametrize("setting", [{"plan": "2027"}, {"time_scale": 0}, {"time_scale": -1}])
def test_settings_that_make_no_sense_are_rejected(start, setting):
    with pytest.raises(ValueError):
        start(**setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"region": "us"},
        {"region": ""},
        {"time_format": "Z"},
        {"report_days": -1},
        {"document_days": -0.5},
        {"queue_seconds": -1},
        {"listing_lag_seconds": -1},
    ],
)
def test_a_setting_out_of_its_range_is_rejected_by_name(start, setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}, but must be")):
        start(**setting)
