"""Creates of this task and of others, for tests of which report is whose."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator

LINES = "SANDBOX_ORDER_LINES"
INVOICE = "GET_AB_INVOICE_PDF"
WINDOW = {"data_start_time": "2026-01-01T00:00:00Z", "data_end_time": "2026-01-02T00:00:00Z"}


def create(**arguments):
    return CreateReportOperator(task_id="create", **{"report_type": LINES, "poke_interval": 0.1, **arguments})


def dated(**arguments):
    """A create with a window of data."""
    return create(**{**WINDOW, **arguments})


def by_a_stranger(sandbox, *, seconds_ago=0.0, **arguments):
    """Create a report as another application of the same customer; the fixture ``stranger`` has its connection."""
    report_id = AmazonBusinessHook("stranger").create_report(LINES, **WINDOW, **arguments)
    sandbox.reports[report_id].created_time -= timedelta(seconds=seconds_ago)
    return report_id
