"""One trigger's interest in one report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.triggers.listing import Created

# Minimum seconds between two polls: a poll that fails without a call would otherwise keep the event loop busy.
_SHORTEST_PAUSE = 0.05


@dataclass(eq=False)
class Subscription:
    """One trigger's interest in one report.

    :ivar poke_interval: seconds between two polls.
    :ivar first_poll: seconds until the first one; None for ``poke_interval``.
    :ivar not_found_grace_until: Unix time until which "no such report" may mean "not yet".
    :ivar created: when the report was created, if known. Without it and ``report_type``, the report is never found
        in the listing.
    :ivar on_update: called with the report at each change of its status, or with an error.
    :ivar status: the status at the last poll that worked.
    :ivar due: when the next poll is due, in monotonic seconds.
    :ivar failures: polls that failed for this report alone since the last one that worked.
    :ivar missed: whether access to the report was denied, or the report not found, at its last poll.
    :ivar ended_by: the update that has ended the wait, None before. Who receives updates through a queue compares
        them with it: after an error that ends nothing, the wait may have ended before the error is received.
    """

    report_id: str
    amazon_business_conn_id: str
    poke_interval: float
    not_found_grace_until: float
    report_type: str | None = None
    created: Created | None = None
    first_poll: float | None = None
    on_update: Callable[[Report | AmazonBusinessError], None] = lambda _: None
    status: str | None = None
    due: float = 0.0
    failures: int = 0
    missed: bool = False
    ended_by: Report | AmazonBusinessError | None = None

    def __post_init__(self) -> None:
        self.poke_interval = max(self.poke_interval, _SHORTEST_PAUSE)

    @property
    def finished(self) -> bool:
        """Whether the wait has ended."""
        return self.ended_by is not None

    def notify(self, update: Report | AmazonBusinessError, *, last: bool = False) -> None:
        """Pass an update on, unless the status is unchanged or the wait has ended.

        :param last: whether an error ends the wait; a terminal status always does.
        """
        if self.finished:
            return
        if isinstance(update, Report):
            self.report_type, self.created = update.report_type, Created.at(update.created_time)
            if update.processing_status == self.status:
                return
            self.status = update.processing_status
        if last or (isinstance(update, Report) and update.is_terminal):
            self.ended_by = update
        self.on_update(update)

    def failed(self, error: AmazonBusinessError) -> None:
        """Count a poll that failed for this report alone; pass the first error on."""
        self.failures += 1
        if self.failures == 1:
            self.notify(AmazonBusinessError(str(error)))
