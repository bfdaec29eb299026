"""What a task waits before its retry, by what went wrong."""

from __future__ import annotations

import importlib
import sys

import airflow
import pytest

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.client.errors import ThrottledError as ClientThrottledError

AIRFLOW_3_3 = tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 3)
MODULE = "airflow_provider_amzbiz.retry_policy"


@pytest.fixture
def policy():
    if not AIRFLOW_3_3:
        pytest.skip("retry policies are new in Airflow 3.3")
    from airflow_provider_amzbiz.retry_policy import amazon_business_retry_policy

    made = amazon_business_retry_policy()
    # As the worker gets it, after the DAG was stored.
    return type(made).deserialize(made.serialize())


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (exceptions.ThrottledError("429"), 150),
        (exceptions.ResponseLostError("lost"), 120),
        (exceptions.ReportNotReadyError("IN_PROGRESS"), 300),
        (exceptions.DocumentError("broken off"), 10),
        (exceptions.TaskKilledError("SIGTERM"), 0),
        (exceptions.AmazonBusinessError("503"), 300),
    ],
)
def test_the_delay_fits_the_error(policy, error, seconds):
    decision = policy.evaluate(error, 1, 3)

    assert decision.action.value == "retry"
    assert decision.retry_delay.total_seconds() == seconds


def test_a_task_that_was_ended_is_not_said_to_have_an_api_that_is_unavailable(policy):
    assert "ended" in policy.evaluate(exceptions.TaskKilledError("SIGTERM"), 1, 3).reason
    assert "unavailable" in policy.evaluate(exceptions.AmazonBusinessError("503"), 1, 3).reason


@pytest.mark.parametrize("error", [KeyError("other"), ClientThrottledError("inside")])
def test_other_errors_keep_the_task_s_own_delay(policy, error):
    assert policy.evaluate(error, 1, 3).action.value == "default"


@pytest.mark.skipif(AIRFLOW_3_3, reason="this Airflow has retry policies")
def test_an_older_airflow_names_what_is_needed():
    sys.modules.pop(MODULE, None)
    with pytest.raises(ImportError, match=f"needs Airflow 3.3 or newer, but this is {airflow.__version__}"):
        importlib.import_module(MODULE)
