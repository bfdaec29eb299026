"""What a subscription passes on to its trigger, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.listing import Created
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

REPORT = Report("1", "SANDBOX_ORDER_LINES", "IN_QUEUE", datetime(2026, 1, 1, tzinfo=timezone.utc))
ERROR = AmazonBusinessError("some reason")


@pytest.fixture
def updates():
    return []


@pytest.fixture
def subscription(updates):
    return Subscription("1", "amazon_business_default", 15.0, 0.0, on_update=updates.append)


def with_status(status):
    return replace(REPORT, processing_status=status)


def test_each_status_is_passed_on_once(subscription, updates):
    statuses = ["IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "IN_PROGRESS", "DONE"]
    for status in statuses:
        subscription.notify(with_status(status))

    assert [report.processing_status for report in updates] == ["IN_QUEUE", "IN_PROGRESS", "DONE"]


@pytest.mark.parametrize("status", ["DONE", "CANCELLED", "FATAL"])
def test_nothing_follows_a_terminal_status(subscription, updates, status):
    subscription.notify(with_status(status))
    subscription.notify(ERROR)
    subscription.notify(with_status("FATAL"))

    assert subscription.finished
    assert [report.processing_status for report in updates] == [status]


def test_an_error_ends_the_wait_only_where_it_is_the_last(subscription, updates):
    subscription.notify(ERROR)
    assert not subscription.finished
    subscription.notify(ERROR, last=True)
    assert subscription.finished
    subscription.notify(with_status("DONE"))

    assert updates == [ERROR, ERROR]


def test_a_status_that_is_not_known_does_not_end_the_wait(subscription, updates):
    subscription.notify(with_status("PAUSED"))

    assert not subscription.finished
    assert subscription.status == "PAUSED"


def test_a_poll_shows_what_the_listing_needs(subscription):
    subscription.notify(REPORT)

    assert subscription.report_type == "SANDBOX_ORDER_LINES"
    assert subscription.created == Created.at(REPORT.created_time)


def test_of_failures_in_a_row_the_first_one_is_passed_on(subscription, updates):
    for _ in range(3):
        subscription.failed(ERROR)

    assert subscription.failures == 3
    assert [str(each) for each in updates] == ["some reason"]
    assert not subscription.finished


def test_a_poll_interval_of_zero_does_not_keep_the_loop_busy():
    assert Subscription("1", "amazon_business_default", 0.0, 0.0).poke_interval > 0
