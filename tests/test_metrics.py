"""The names and units of the metrics."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz import metrics
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import Fault


class Recorder:
    """Stands in for Airflow's metrics backend."""

    def __init__(self):
        self.counts, self.timings = [], []

    def incr(self, name):
        self.counts.append(name)

    def timing(self, name, value):
        self.timings.append((name, value))


@pytest.fixture
def stats(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(metrics, "Stats", recorder)
    return recorder


@pytest.mark.main_path
def test_calls_429s_and_waits_are_counted_by_operation(sandbox, stats):
    sandbox.inject(Fault("getReport", "status", status=429))

    AmazonBusinessHook().get_report(sandbox.add_report())

    assert stats.counts == [
        "amazon_business.calls.getReport",
        "amazon_business.throttled.getReport",
        "amazon_business.calls.getReport",
    ]
    assert [name for name, _ in stats.timings] == ["amazon_business.permit_wait.getReport"] * 2


def test_timers_are_in_milliseconds(stats):
    metrics.poll_lag(1.5)
    metrics.CallMetrics().on_permit_wait("getReport", 0.25)

    assert stats.timings == [
        ("amazon_business.poll_lag", 1500),
        ("amazon_business.permit_wait.getReport", 250),
    ]


def test_reports_are_counted_by_their_status(stats):
    metrics.report_ended("DONE")

    assert stats.counts == ["amazon_business.reports.done"]
