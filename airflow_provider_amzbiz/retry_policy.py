"""How long to wait before a retry, by what went wrong: a ``retry_policy`` for Airflow 3.3 and newer."""

from __future__ import annotations

from datetime import timedelta

import airflow

try:
    from airflow_provider_amzbiz.compat import ExceptionRetryPolicy, RetryRule
except (ImportError, AttributeError) as error:
    raise ImportError(
        f"airflow_provider_amzbiz.retry_policy needs Airflow 3.3 or newer, but this is {airflow.__version__}; set "
        "retries and retry_delay instead"
    ) from error

from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    DocumentError,
    ReportNotReadyError,
    ResponseLostError,
    TaskKilledError,
    ThrottledError,
)

_CREATE = USAGE_PLAN["createReport"]


def amazon_business_retry_policy() -> ExceptionRetryPolicy:
    """Return a retry policy for this API; the number of retries is still the task's ``retries``.

    No policy retries a task that fails with a permanent error (see :mod:`airflow_provider_amzbiz.exceptions`), and
    other errors than this provider's keep the task's ``retry_delay``.
    """
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=ThrottledError,
                retry_delay=timedelta(seconds=_CREATE.burst / _CREATE.rate),
                reason="The account's limit is used up; by then its bucket is full again",
            ),
            RetryRule(
                exception=ResponseLostError,
                retry_delay=timedelta(minutes=2),
                reason="A report may have been created; by then the listing shows it",
            ),
            RetryRule(
                exception=ReportNotReadyError,
                retry_delay=timedelta(minutes=5),
                reason="The report is not finished yet",
            ),
            RetryRule(
                exception=DocumentError,
                retry_delay=timedelta(seconds=10),
                reason="The transfer was interrupted; there is no object of it in S3",
            ),
            RetryRule(
                exception=TaskKilledError,
                retry_delay=timedelta(0),
                reason="The task was ended from outside; nothing failed, so there is nothing to wait for",
            ),
            RetryRule(
                exception=AmazonBusinessError,
                retry_delay=timedelta(minutes=5),
                reason="The API is unavailable, and the call was already repeated for some minutes",
            ),
        ]
    )
