"""Only what fails for all reports of a connection concerns the connection."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.exceptions import AmazonBusinessError, AuthenticationError, ThrottledError
from airflow_provider_amzbiz.triggers.poll_round import PollRound
from airflow_provider_amzbiz.triggers.polled_connections import PolledConnection
from airflow_provider_amzbiz.triggers.subscriptions import Subscription

FAULT = AmazonBusinessError("503")


class Hook:
    amazon_business_conn_id = "amazon_business_default"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """The hooks whose connections are to be read again."""
    hooks = []
    monkeypatch.setattr("airflow_provider_amzbiz.triggers.polled_connections.forget", hooks.append)
    return hooks


@pytest.fixture
def connection():
    return PolledConnection(hook=Hook())


class Subscribed(Subscription):
    def __post_init__(self):
        super().__post_init__()
        self.updates = []
        self.on_update = self.updates.append


def subscribe(connection):
    subscription = Subscribed("1", "amazon_business_default", 15.0, 0.0)
    connection.subscriptions.add(subscription)
    return subscription


def test_one_failure_beside_a_poll_that_worked_concerns_its_report_alone(connection):
    failed, other = subscribe(connection), subscribe(connection)
    outcome = PollRound()
    outcome.failed(connection, FAULT, failed)
    outcome.worked(connection)
    outcome.apply()

    assert (connection.failures, connection.not_before) == (0, 0.0)
    assert (failed.failures, other.failures) == (1, 0)
    assert (len(failed.updates), len(other.updates)) == (1, 0)


def test_failures_of_all_delay_the_connection_and_count_for_no_report(connection):
    subscriptions = [subscribe(connection) for _ in range(3)]
    outcome = PollRound()
    for subscription in subscriptions:
        outcome.failed(connection, FAULT, subscription)
    outcome.apply()

    assert connection.failures == 1
    assert connection.not_before > 0
    assert [each.failures for each in subscriptions] == [0, 0, 0]
    # Everybody learns of it, and nobody's wait ends.
    assert [len(each.updates) for each in subscriptions] == [1, 1, 1]
    assert not any(each.finished for each in subscriptions)


def test_throttling_counts_for_no_report(connection):
    throttled = subscribe(connection)
    outcome = PollRound()
    outcome.failed(connection, ThrottledError("429"), throttled)
    outcome.worked(connection)
    outcome.apply()

    assert throttled.failures == 0


@pytest.mark.parametrize(
    ("errors", "finished"),
    [
        ([FAULT], False),
        ([FAULT, FAULT], False),
        ([FAULT, FAULT, FAULT], True),
        ([ThrottledError("429")], True),
        ([AmazonBusinessError("no token", operation="token")], True),
    ],
)
def test_a_round_ends_early_where_further_polls_are_useless(connection, errors, finished):
    outcome = PollRound()
    for error in errors:
        outcome.failed(connection, error, subscribe(connection))

    assert outcome.is_finished(connection) is finished


def test_a_poll_that_worked_keeps_the_round_going(connection):
    outcome = PollRound()
    outcome.worked(connection)
    for _ in range(10):
        outcome.failed(connection, FAULT, subscribe(connection))

    assert not outcome.is_finished(connection)


def test_rejected_credentials_end_the_waits_only_after_the_connection_was_read_again(connection, forgotten):
    subscription = subscribe(connection)
    error = AuthenticationError("invalid_grant")
    for _ in range(2):
        first, outcome = connection.hook, PollRound()
        outcome.rejected(connection, first, error)
        outcome.apply()
        assert not subscription.finished
        # The same connection again, as it was.
        assert forgotten == [first]
        connection.hook = first
        forgotten.clear()

    connection.hook, outcome = Hook(), PollRound()
    outcome.rejected(connection, connection.hook, error)
    assert outcome.is_finished(connection)
    outcome.apply()

    assert subscription.finished
    assert subscription.updates[-1] is error


def test_an_outdated_connection_is_read_again_after_the_round(connection, forgotten):
    hook, outcome = connection.hook, PollRound()
    outcome.outdated(connection, hook)
    assert connection.hook is hook

    outcome.apply()

    assert connection.hook is None
    assert forgotten == [hook]
