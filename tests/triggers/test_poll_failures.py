"""The one classifier of failed polls."""

from __future__ import annotations

import time

import pytest

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AuthenticationError,
    ConnectionNotFoundError,
    InvalidInputError,
    ReportNotFoundError,
    ResponseLostError,
    ThrottledError,
)
from airflow_provider_amzbiz.triggers.poll_failures import PollFailure, classify, may_be_outdated

MEANINGS = [
    (AmazonBusinessError, PollFailure.TRANSIENT),
    (ThrottledError, PollFailure.TRANSIENT),
    (ResponseLostError, PollFailure.TRANSIENT),
    # Airflow reports this also while its database is out of reach.
    (ConnectionNotFoundError, PollFailure.TRANSIENT),
    (AuthenticationError, PollFailure.CREDENTIALS),
    (AccessDeniedError, PollFailure.DENIED),
    (ReportNotFoundError, PollFailure.REQUEST),
    (InvalidInputError, PollFailure.REQUEST),
]


@pytest.mark.parametrize(("kind", "meaning"), MEANINGS, ids=lambda each: getattr(each, "__name__", None))
def test_each_error_has_one_meaning(kind, meaning):
    assert classify(kind("some reason")) is meaning


def test_a_report_that_was_just_created_may_not_be_known_yet():
    error = ReportNotFoundError("no such report")

    assert classify(error, not_found_grace_until=time.time() + 60) is PollFailure.NOT_YET
    assert classify(error, not_found_grace_until=time.time() - 1) is PollFailure.REQUEST


@pytest.mark.parametrize(("kind", "meaning"), MEANINGS, ids=lambda each: getattr(each, "__name__", None))
def test_the_grace_changes_the_meaning_of_no_other_error(kind, meaning):
    if kind is not ReportNotFoundError:
        assert classify(kind("some reason"), not_found_grace_until=time.time() + 60) is meaning


def test_every_error_of_ours_is_classified():
    kinds = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, Exception)]
    ours = [each for each in kinds if issubclass(each, AmazonBusinessError)]

    assert len(ours) > 10
    assert all(isinstance(classify(kind("some reason")), PollFailure) for kind in ours)


def test_any_error_but_throttling_may_be_that_of_an_outdated_connection():
    outdated = [kind for kind, _ in MEANINGS if may_be_outdated(kind("some reason"))]

    assert outdated == [kind for kind, _ in MEANINGS if kind is not ThrottledError]
