"""How long a batch takes at least under the account's limits."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_amzbiz.documents.units import duration
from airflow_provider_amzbiz.exceptions import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

log = logging.getLogger(__name__)

# Amazon keeps documents for 30 days (Amazon Business API changelog, March 2025).
_RETENTION = timedelta(days=30)


def check_time(operator: ReportsToS3Operator, requested: int, creates: int, stores: int) -> None:
    """Log how long the batch takes at least, and refuse what is too long."""
    minimum = min_seconds(operator, creates, stores)
    if minimum:
        log.info("%s requests: at least %s under the account's limits", requested, duration(minimum))
    for name, limit in (
        ("timeout", operator.timeout),
        ("the time that documents are kept", _RETENTION.total_seconds()),
    ):
        if minimum > limit:
            raise InvalidInputError(
                f"The batch takes at least {minimum:.0f} s under the account's limits, which is longer than "
                f"{name}, {limit:g} s; give it more time or fewer requests"
            )


def min_seconds(operator: ReportsToS3Operator, creates: int, stores: int) -> float:
    """Return the seconds that so many reports and documents take at least."""
    return max(
        operator.hook.token_bucket("createReport").limit.min_seconds(creates),
        operator.hook.token_bucket("getReportDocument").limit.min_seconds(stores),
    )
