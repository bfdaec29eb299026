"""Sleeping where the caller may be asked to stop."""

from __future__ import annotations

import time

import pytest

from airflow_provider_amzbiz.client.sleeping import interruptible_sleep


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(("seconds", "checks"), [(0.0, 1), (-1.0, 1), (0.1, 2), (1.1, 4)])
def test_it_checks_at_first_twice_a_second_and_at_the_end(seconds, checks):
    checked = []
    start = time.monotonic()
    interruptible_sleep(seconds, lambda: checked.append(True))

    assert time.monotonic() - start >= seconds
    assert len(checked) == checks


@pytest.mark.parametrize("stops_at", [1, 2])
def test_the_error_of_a_check_ends_it(stops_at):
    checked = []

    def check():
        checked.append(True)
        if len(checked) == stops_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        interruptible_sleep(3600, check)
