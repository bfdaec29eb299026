"""What a task remembers of the report that it created, so that a retry continues with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import AmazonBusinessError

if TYPE_CHECKING:
    from airflow_provider_amzbiz.client.request import ReportRequest

log = logging.getLogger(__name__)

# Unix times between which a request was in progress; the second is None while it is, or if its process died.
Sent = list[float | None]


class CreateRecord:
    """A task's record of its report; it survives retries in Airflow's task state store (3.3 and newer).

    The record is a dict of ``fingerprint``, ``report_id`` (None while it is not known), ``sent`` (a list of
    :data:`Sent`, one for each request that may have created a report), ``lookups`` (how often the listing was
    searched for it), ``from_previous_attempt`` (whether a previous attempt of the task created it), ``adopted``
    (whether it was found in a listing), ``waiting_since`` (Unix time from which the task's timeout counts) and
    ``handed_on`` (None, or what :func:`_clears` was when the task returned the report id).

    :param context: the task's context; without a store, the record lasts for this process and its deferrals only.
    :param durable: whether to keep a record at all.
    :param carried: the record that a deferral has brought along.
    """

    KEY = "amazon_business_report"

    def __init__(
        self, context: Mapping[str, Any], *, durable: bool, carried: Mapping[str, Any] | None = None
    ) -> None:
        self.durable = durable
        self._store = context.get("task_state_store") if durable else None
        self._record: Mapping[str, Any] | None = carried if durable else None
        self._adopted = False
        self._clears = _clears(context)

    def load(self, request: ReportRequest) -> dict[str, Any] | None:
        """Return the record of an equal request, None where there is none.

        :raises AmazonBusinessError: the store cannot be read.
        """
        return self._load("fingerprint", request.fingerprint)

    def load_of(self, report_id: str) -> dict[str, Any] | None:
        """Return the record of a report, None where there is none.

        :raises AmazonBusinessError: the store cannot be read.
        """
        return self._load("report_id", report_id)

    def _load(self, name: str, value: str) -> dict[str, Any] | None:
        record = self._record
        if self._store is not None:
            with _store_errors("read"):
                record = self._store.get(self.KEY)
        return dict(record) if isinstance(record, Mapping) and record.get(name) == value else None

    def is_adopted(self, request: ReportRequest) -> bool:
        """Return whether the report was found in a listing, so that it may belong to somebody else."""
        return self._adopted or bool((self.load(request) or {}).get("adopted"))

    def save(self, request: ReportRequest, **values: Any) -> None:
        """Write these values; those of an equal request's record that are not given stay.

        :raises AmazonBusinessError: the store cannot be read or written.
        """
        # Known here even where the store fails: nothing that was adopted may be cancelled.
        self._adopted = values.get("adopted", self._adopted)
        if not self.durable:
            return
        self.write({**_empty(), **(self.load(request) or {}), **values, "fingerprint": request.fingerprint})

    def write(self, record: dict[str, Any]) -> None:
        """Write a whole record, such as one that :meth:`load_of` has returned.

        :raises AmazonBusinessError: the store cannot be written.
        """
        if self._store is not None:
            with _store_errors("written"):
                self._store.set(self.KEY, record)
        self._record = record

    def clear(self) -> None:
        """Delete the record, so that the next attempt creates a report.

        :raises AmazonBusinessError: the store cannot be written.
        """
        if self._store is not None:
            with _store_errors("written"):
                self._store.delete(self.KEY)
        self._record, self._adopted = None, False

    def hand_on(self, request: ReportRequest, report_id: str, *, own: bool) -> None:
        """Remember that the task returns the id of its report, or forget all about one that it has reused.

        Airflow stores that success later. If the worker is lost meanwhile, the retry needs the record; but if a
        user clears the task, it creates a new report. A store that fails is only logged: failing the task could
        lose the id.

        :param own: whether the task created the report, in this attempt or a previous one.
        :raises AmazonBusinessError: it was reused, and the store cannot be written.
        """
        if not own:
            self.clear()
            return
        try:
            self.save(request, report_id=report_id, handed_on=self._clears)
        except AmazonBusinessError as error:
            log.warning("%s. If this task is cleared, it may continue with report %s", error, report_id)

    def hand_on_ended(self, report_id: str) -> None:
        """Remember that the task returns the id of a report that has ended; see :meth:`hand_on`.

        A store that fails is only logged, whoever created the report: the task has succeeded.
        """
        try:
            if saved := self.load_of(report_id):
                self.write({**saved, "handed_on": self._clears})
            else:
                self.clear()
        except AmazonBusinessError as error:
            log.warning("%s. If this task is cleared, it may continue with report %s", error, report_id)

    def log_if_forgetful(self, context: Mapping[str, Any], *, retries: int | None) -> None:
        """Log what the task cannot remember without a store: a warning in an attempt to which that matters.

        :param retries: of the task.
        """
        if not self.durable or self._store is not None:
            return
        if getattr(context.get("ti"), "try_number", 1) > 1:
            log.warning(
                "This Airflow has no task state store (3.3 has), so nothing is known of previous attempts: if one "
                "of them created a report, this attempt creates another one"
            )
        elif retries:
            log.info(
                "This Airflow has no task state store (3.3 has), so a retry cannot continue with the report of "
                "this attempt, and creates another one"
            )

    def begin_attempt(self, request: ReportRequest) -> None:
        """Forget what was handed on before a user cleared the task, and let a lost report be looked up again.

        :raises AmazonBusinessError: the store cannot be read or written.
        """
        record = self.load(request)
        if record is None:
            return
        if record.get("handed_on") not in (None, self._clears):
            self.clear()
        elif not record.get("report_id"):
            self.save(request, lookups=0)


def _empty() -> dict[str, Any]:
    return {
        "report_id": None,
        "sent": [],
        "lookups": 0,
        "from_previous_attempt": False,
        "adopted": False,
        "waiting_since": None,
        "handed_on": None,
    }


def _clears(context: Mapping[str, Any]) -> list[int | None]:
    """Return what changes when a user clears the task, but not with a retry.

    Airflow raises ``max_tries`` by the tries of the task, so that it stays the same for a task with fewer retries
    than before, and for one that is cleared while it runs. ``clear_number`` counts the clears of any task of the
    run.
    """
    return [getattr(context.get("ti"), "max_tries", None), getattr(context.get("dag_run"), "clear_number", None)]


@contextmanager
def _store_errors(done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001
        # The task fails before it sends a request, so that no report is created without a record.
        raise AmazonBusinessError(f"Airflow's task state store could not be {done}: {error}") from None
