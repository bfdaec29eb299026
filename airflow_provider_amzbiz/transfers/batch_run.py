"""A batch as one process of its task has it: the engine, which knows no Airflow, put together with the task."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch.running import RunningReport, pack
from airflow_provider_amzbiz.compat import AirflowSkipException
from airflow_provider_amzbiz.documents.units import duration
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    InvalidInputError,
    ReportNotFoundError,
    translated_errors,
)
from airflow_provider_amzbiz.hooks import supervisor
from airflow_provider_amzbiz.transfers.batch_place import KeyRules, owner_of, place_of
from airflow_provider_amzbiz.transfers.batch_time import check_time, min_seconds
from airflow_provider_amzbiz.triggers.batch import BatchReady, BatchTrigger

if TYPE_CHECKING:
    from airflow_provider_amzbiz.batch.attempt import Attempt
    from airflow_provider_amzbiz.batch.head import Head, Target
    from airflow_provider_amzbiz.batch.item import Item
    from airflow_provider_amzbiz.batch.plan import Place
    from airflow_provider_amzbiz.batch.record import Record, Stint
    from airflow_provider_amzbiz.batch.state import BatchState
    from airflow_provider_amzbiz.client.request import ReportRequest
    from airflow_provider_amzbiz.compat import Context
    from airflow_provider_amzbiz.transfers.batch_actions import Deliveries
    from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

log = logging.getLogger(__name__)

# Seconds of rest after a round in which nothing but faults happened.
REST_SECONDS = 60.0
# Seconds for a poll of all running reports that one trigger can hold, before others are waited for.
ROTATE_SECONDS = 300.0


class BatchRun:
    """One process's hold of a batch.

    :ivar s3: a boto3 client.
    :ivar place: where everything goes.
    """

    def __init__(
        self,
        operator: ReportsToS3Operator,
        s3: Any,
        place: Place,
        record: Record,
        stint: Stint,
        deliveries: Deliveries,
    ) -> None:
        self._operator = operator
        self.s3 = s3
        self.place = place
        self._record = record
        self._stint = stint
        self._deliveries = deliveries
        self._target = stint.head.target
        self._throttled: list[str] = []
        self._only_faults = False

    @classmethod
    def begin(cls, operator: ReportsToS3Operator, context: Context) -> BatchRun:
        """Begin an attempt, from scratch or from what is left of an earlier one."""
        from airflow_provider_amzbiz.batch.attempt import begin
        from airflow_provider_amzbiz.batch.object_store import ObjectStore
        from airflow_provider_amzbiz.batch.plan import plan_items
        from airflow_provider_amzbiz.batch.record import Record
        from airflow_provider_amzbiz.transfers.batch_actions import target_of

        with translated_errors():
            place = place_of(operator, context)
            planned = plan_items(
                operator.requests,
                place,
                parse=lambda where, given: _parsed(operator, where, given),
                keys=KeyRules,
            )
            if not planned and operator.skip_if_empty:
                raise AirflowSkipException("requests is empty, and skip_if_empty is set")
            operator._remember_attempt(context)
            s3, target = operator.s3_client(), target_of(operator.hook.config, place.bucket)
            settings = {
                "s3_key": place.key,
                "content_type": operator.content_type,
                "audit_key": place.audit_key,
                "ledger": operator.ledger,
            }
            owner = owner_of(context)
            deliveries = operator._deliveries(s3, operator.ledger, target.account, owner)
            record = Record(ObjectStore(s3, place.bucket, operator.extra_args), place.manifest_key, owner)
            stint = begin(
                record,
                _attempt(operator, planned, place, deliveries, target=target, settings=settings),
            )
        run = cls(operator, s3, place, record, stint, deliveries)
        if done := stint.state.counts.finished:
            log.info("Continuing from %s: %s of %s requests are done", run.uri, done, stint.state.requested)
        return run

    @classmethod
    def resume(cls, operator: ReportsToS3Operator, context: Context, where: Mapping[str, Any]) -> BatchRun:
        """Continue after a deferral.

        :param where: what :meth:`trigger` gave the trigger.
        :raises ManifestTakenError: another process has continued since.
        :raises ManifestError: the record cannot be used.
        """
        from airflow_provider_amzbiz.batch.attempt import resume
        from airflow_provider_amzbiz.batch.object_store import ObjectStore
        from airflow_provider_amzbiz.batch.plan import Place
        from airflow_provider_amzbiz.batch.record import Record

        operator._remember_attempt(context)
        with translated_errors():
            s3, owner = operator.s3_client(), owner_of(context)
            record = Record(ObjectStore(s3, where["bucket"], operator.extra_args), where["key"], owner)
            stint = resume(record, where["attempt"], where["stint"])
            stint.state.rotation = where["rotation"]
            head = stint.head
            settings = head.settings
            operator.content_type = settings["content_type"]
            place = Place(head.target.bucket, settings["s3_key"], record.key, settings["audit_key"])
            deliveries = operator._deliveries(s3, settings["ledger"], head.target.account, owner)
        return cls(operator, s3, place, record, stint, deliveries)

    @property
    def head(self) -> Head:
        """The record's head."""
        return self._stint.head

    @property
    def state(self) -> BatchState:
        """What the batch has come to."""
        return self._stint.state

    @property
    def uri(self) -> str:
        """Where the manifest lies."""
        return self._record.uri

    @property
    def deadline(self) -> float:
        """Unix time at which the attempt ends."""
        return self.head.deadline

    def work(self, event: BatchReady) -> None:
        """Use the permits that an event brings, and take in what it reports."""
        from airflow_provider_amzbiz.batch.round import Round
        from airflow_provider_amzbiz.batch.siblings import Siblings
        from airflow_provider_amzbiz.transfers.batch_actions import BatchActions
        from airflow_provider_amzbiz.transfers.batch_errors import wait_errors

        operator, permits = self._operator, event.permits
        # Of the round's requests and documents, which share the hooks.
        supervisor.serialize_threads()
        siblings = Siblings(self._record, self._stint)
        actions = BatchActions(operator, self.s3, self.place.bucket, self._deliveries, permits, siblings)
        self._check_account(actions.target)
        errors = wait_errors(event.errors, lambda: self._check_access(event))
        round_ = Round(self._record, self._stint, self.place, actions, stopped=lambda: operator._killed)
        with translated_errors():
            round_.run(permits, event.reports, errors)
        self._throttled = sorted(round_.throttled)
        self._only_faults = round_.faults > 0 and round_.progress == 0

    def _check_account(self, now: Target) -> None:
        """Stop before anything is created for another account.

        :raises ManifestError: the connection has become that of another one since the attempt began.
        """
        from airflow_provider_amzbiz.batch.attempt import check_account

        if now == self._target:
            return
        operator = self._operator
        # In a task that does not defer, they were made with the connection as it was.
        operator._forget_hooks()
        with translated_errors():
            check_account(self._stint, now, lambda each: _knows(operator, each), operator.amazon_business_conn_id)
        self._target = now

    def _check_access(self, event: BatchReady) -> None:
        """Find out whether access is denied to all reports of the batch, or only to some.

        :raises AccessDeniedError: to all of which it is known.
        """
        other = self._stint.newest_report(without=event.errors)
        if other is None:
            raise next(error for error in event.errors.values() if isinstance(error, AccessDeniedError))
        # Whether it is still known makes no difference.
        with suppress(ReportNotFoundError):
            self._operator.lookup_hook.get_report(other)

    def trigger(self) -> BatchTrigger:
        """Return what waits for the next work."""
        now, state, operator = time.time(), self.state, self._operator
        pending = state.pending()
        waiting = sorted(pending.running, key=lambda item: (item.index <= state.rotation, item.index))
        running, fitting = pack(
            RunningReport(item.report_id or "", item.report_type, item.sent_at or now, item.adopted)
            for item in waiting
        )
        # As of when the next process continues; until then, nothing is written.
        state.rotation = waiting[fitting - 1].index if fitting < len(waiting) else -1
        return BatchTrigger(
            amazon_business_conn_id=operator.amazon_business_conn_id,
            record={
                "bucket": self.place.bucket,
                "key": self._record.key,
                "attempt": self.head.attempt,
                "stint": self.head.stint,
                "rotation": state.rotation,
                "amazon_business_conn_id": operator.amazon_business_conn_id,
                "aws_conn_id": operator.aws_conn_id,
            },
            creates=pending.creates,
            running=running,
            documents=len(pending.to_store),
            poke_interval=operator.poke_interval,
            deadline=self.deadline,
            # Not before those of this turn were polled.
            rotate_at=now + operator.poke_interval + ROTATE_SECONDS if fitting < len(waiting) else None,
            not_before=now + REST_SECONDS if self._only_faults else 0.0,
            throttled=self._throttled,
            not_found_grace_until=now + durable_create.NOT_FOUND_GRACE,
        )

    def log_progress(self) -> None:
        """Log how far the batch is."""
        state, counts, pending = self.state, self.state.counts, self.state.pending()
        left = min_seconds(self._operator, pending.creates, state.unfinished)
        log.info(
            "%s requested: %s to create, %s running, %s to store, %s stored, %s delivered before, %s skipped, "
            "%s failed%s",
            state.requested,
            pending.creates,
            len(pending.running),
            len(pending.to_store),
            counts.stored,
            counts.already_delivered,
            counts.skipped,
            counts.failed,
            f"; at least {duration(left)} left" if left else "",
        )

    def finish(self) -> list[Item]:
        """Write the manifest, and return its items."""
        with translated_errors():
            items = self._stint.complete()
        self._deliveries.index(items)
        return items

    def write_audit(self, items: Iterable[Item]) -> str:
        """Write the table, and return its URI."""
        from airflow_provider_amzbiz.batch.table import audit_rows, write_rows

        task = {"account": self.head.target.account, **self._record.owner}
        # The table has no column for it.
        task.pop("loop", None)
        rows = (row for item in items for row in audit_rows(item.to_dict(), task))
        with translated_errors():
            stored = write_rows(
                rows,
                s3=self.s3,
                bucket=self.place.bucket,
                key=self.place.audit_key or "",
                extra_args=self._operator.extra_args,
            )
        return stored.uri


def _parsed(operator: ReportsToS3Operator, where: str, given: Mapping[str, Any]) -> ReportRequest:
    others = {name: value for name, value in given.items() if name != "report_type"}
    try:
        return operator.hook.report_request(given.get("report_type", ""), **others)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}", report_type=error.report_type) from None


def deliveries_of(
    operator: ReportsToS3Operator, s3: Any, uri: str | None, account: str, owner: Mapping[str, Any]
) -> Deliveries:
    """Return what was delivered before, and takes note of what is delivered now."""
    from airflow_provider_amzbiz.transfers.batch_actions import Deliveries

    ledger = None
    if uri is not None:
        from airflow_provider_amzbiz.batch.ledger import Ledger

        ledger = Ledger(s3, uri, account=account, request_args=operator.extra_args)
    by = "/".join(str(owner[name]) for name in ("dag_id", "run_id", "task_id"))
    return Deliveries(ledger, verify=operator.verify_delivered, by=by)


def _knows(operator: ReportsToS3Operator, report_id: str) -> bool:
    try:
        operator.lookup_hook.get_report(report_id)
    except ReportNotFoundError:
        return False
    return True


def _attempt(
    operator: ReportsToS3Operator, planned: Sequence[Item], place: Place, deliveries: Deliveries, **more: Any
) -> Attempt:
    from airflow_provider_amzbiz.batch.attempt import Attempt

    return Attempt(
        planned=planned,
        place=place,
        keys=KeyRules,
        deadline=time.time() + operator.timeout,
        is_same_account=lambda report_id: _knows(operator, report_id),
        delivered=deliveries.load,
        missing=deliveries.missing,
        check=lambda creates, stores: check_time(operator, len(planned), creates, stores),
        **more,
    )
