"""The minimum time of many calls."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit


@pytest.mark.parametrize(("calls", "seconds"), [(0, 0), (15, 0), (16, 10), (1000, 9850)])
def test_the_burst_takes_no_time_and_the_rest_the_rate(calls, seconds):
    assert Limit(0.1, 15).min_seconds(calls) == pytest.approx(seconds)


def test_a_thousand_invoices_take_more_than_two_and_a_half_hours():
    assert USAGE_PLAN["createReport"].min_seconds(1000) == pytest.approx(9850)
    assert USAGE_PLAN["getReportDocument"].min_seconds(1000) == pytest.approx(9850)
