"""Sizes and speeds as people read them in a log."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_amzbiz.documents.units import duration, size, transferred, utc


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (50_049, "50.0 KB"),
        (999_949, "999.9 KB"),
        (999_950, "1.0 MB"),
        (1_500_000, "1.5 MB"),
        (1024**3, "1.1 GB"),
        (12_345_000_000_000, "12345.0 GB"),
    ],
)
def test_sizes_have_units(count, expected):
    assert size(count) == expected


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [
        (0, 0.0, "0 bytes"),
        (817, 0.01, "817 bytes"),
        (50_000, 0.1, "50.0 KB (50000 bytes)"),
        (50_000, 12.34, "50.0 KB (50000 bytes) in 12.3 s"),
        (20_971_520, 0.8, "21.0 MB (20971520 bytes) in 0.8 s, 26.2 MB/s"),
        (2_000_000, 400.0, "2.0 MB (2000000 bytes) in 400.0 s, 5.0 KB/s"),
        (2_000_000_000, 0.0, "2.0 GB (2000000000 bytes) in 0.0 s, 2000.0 GB/s"),
    ],
)
def test_time_and_speed_are_shown_unless_they_are_negligible(count, seconds, expected):
    assert transferred(count, seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1, "1 s"),
        (89.4, "89 s"),
        (90, "2 minutes"),
        (850, "14 minutes"),
        (7199, "120 minutes"),
        (7200, "2.0 hours"),
        (9840, "2.7 hours"),
        (172_800, "2.0 days"),
    ],
)
def test_durations_have_the_unit_that_a_person_would_choose(seconds, expected):
    assert duration(seconds) == expected


def test_times_are_those_of_utc():
    assert utc(1_800_000_000.9) == "2027-01-15 08:00:00 UTC"


def test_a_small_document_is_logged_without_a_speed(host, copy, caplog):
    caplog.set_level(logging.INFO)
    host.content = b"x" * 1234
    copy()
    (line,) = [each.message for each in caplog.records if each.message.startswith("Stored")]
    assert line.endswith("/document: 1.2 KB (1234 bytes)")
