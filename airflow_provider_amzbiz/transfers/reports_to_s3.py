"""Many reports to S3 in one task."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.documents.upload_options import MAX_BYTES
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    InvalidInputError,
    ManifestTakenError,
    ReportTimeoutError,
    TaskKilledError,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import S3ConsoleLink
from airflow_provider_amzbiz.operators.base import log_deferral
from airflow_provider_amzbiz.report_status import check_on_cancelled
from airflow_provider_amzbiz.transfers.base import DocumentToS3Operator
from airflow_provider_amzbiz.transfers.batch_run import BatchRun, deliveries_of
from airflow_provider_amzbiz.transfers.keys import check_bucket_at_parsing, check_key_at_parsing, key_prefix
from airflow_provider_amzbiz.transfers.object_options import check_extra_args
from airflow_provider_amzbiz.transfers.rendering import PlainStrings
from airflow_provider_amzbiz.triggers.batch import BatchReady
from airflow_provider_amzbiz.triggers.events import read_event
from airflow_provider_amzbiz.triggers.reports import BACKSTOP

if TYPE_CHECKING:
    from airflow_provider_amzbiz.batch.item import Item
    from airflow_provider_amzbiz.compat import Context
    from airflow_provider_amzbiz.transfers.batch_actions import Deliveries


class ReportsToS3Operator(PlainStrings, DocumentToS3Operator):
    """Creates many reports and stores their documents in S3, in one task that holds a worker slot for seconds.

    This is the tool for a list of invoices. The limits allow six reports a minute, so a thousand take at least 164
    minutes, however they are requested. The task creates a handful, defers until the next handful may be created,
    stores what is finished meanwhile, and so on.

    The first process of an attempt freezes the list, the keys and the account. Templates that render differently
    when the task resumes change nothing. The record of the batch is in S3, at the manifest's key and in the folder
    ``<manifest key>.parts/`` beside it. At the end, it becomes the manifest, one JSON document. A retry, a cleared
    task and a lost worker continue from it. They leave stored documents alone, wait for reports that were created,
    try failed requests again, and drop requests that are no longer in the list. Requests are compared by their
    content, their key and the account, never by their position. Only one process can continue; one that is late
    stops.

    The return value in XCom is a dict. ``requested``, ``landed`` (stored by this batch), ``already_delivered``,
    ``failed`` and ``skipped`` are numbers of requests, and ``bytes`` is the decoded size of what it stored.
    ``manifest`` is the manifest's URI and, with ``audit_key``, ``audit`` is the table's. The events of assets in
    ``outlets`` carry the same.

    If a user stops the task, or Airflow ends it, its newest reports are cancelled while they are IN_QUEUE, as many
    as the limit of cancelReport allows at once. While the task is deferred, that needs Airflow 3.3 or newer.

    :param requests: a list of dicts with the parameters of :class:`.CreateReportOperator` ``report_type``,
        ``marketplace_ids``, ``data_start_time``, ``data_end_time`` and ``report_options``, and optionally an
        ``s3_key`` of its own (``key``, its older name, means the same). Equal ones are created once. An empty list
        is a success. (templated)
    :param s3_bucket: the bucket, of the manifest too. (templated)
    :param s3_key: the key. ``{index}`` (of the request, fixed when it first stood in the list), ``{report_type}``,
        each option of the request, such as ``{invoiceId}``, ``{report_id}``, ``{report_document_id}`` and
        ``{name}`` (the entry's name in a ZIP) are filled in. No two documents of a batch are written under one
        key: the second one is an error of its request. (templated)
    :param manifest_key: key of the manifest. By default ``_manifests/<dag>/<run>/<task>.json`` in the folder that
        ``s3_key`` begins with. Tasks, runs and mapped tasks cannot share one. (templated)
    :param max_failed: requests that may fail without failing the task: a number, or a share as a float below 1.
    :param on_cancelled: what CANCELLED means for a request: ``"fail"``, or ``"skip"`` and ``"succeed"``, which
        both count it as skipped.
    :param skip_if_empty: whether an empty list skips the task; by default False.
    :param ledger: S3 URI prefix of a ledger, such as ``s3://bucket/ledger/``: a request that any batch with the
        same ledger has delivered for the account is not created again. (templated)
    :param verify_delivered: whether objects that are delivered according to the ledger must still be in S3. In a
        retried or cleared task with a ledger, those that it has stored itself must be, too. One HEAD for each
        object; by default True.
    :param audit_key: key of a table of the result, a row for each object: JSON Lines where it ends with
        ``.jsonl``, Parquet with ``.parquet`` (extra ``parquet``). (templated)
    :param timeout: seconds for one attempt of the task, or a timedelta; a day by default. A list that cannot be
        finished in that time is refused at once.
    :param poke_interval: seconds between two polls of the reports, or a timedelta; 15 by default.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon``; None uses boto3's own credential
        chain. (templated)
    :param replace: whether other content under a key is replaced; by default True.
    :param unpack: ``"auto"``, ``"gzip"`` or ``"none"``; this and the following mean what they mean for
        :class:`.ReportDocumentToS3Operator`.
    :param sha256: whether to compute the SHA-256 of each object.
    :param content_type: of the objects. (templated)
    :param encoding: the charset of text, which is then stored as UTF-8.
    :param extra_args: more of S3's own parameters; those for access and encryption apply to the record, too.
        (templated)
    :param max_bytes: maximum decoded size of a document in bytes.
    :param deferrable: wait in the triggerer. Without it the same happens on the worker.
    :param max_throttle_wait: seconds that one call may wait on the worker for its permit.
    :raises InvalidInputError: a parameter or a request is not allowed, two requests would write the same key, or
        they are too many for ``timeout``; nothing was created.
    :raises ManifestError: the record is missing, damaged, another task's or of another version.
    :raises AmazonBusinessPermanentError: more than ``max_failed`` failed, and no retry can help any of them.
    :raises AmazonBusinessError: more than ``max_failed`` failed; a retry tries them again.
    :raises ReportTimeoutError: ``timeout`` is over; a retry or a cleared task continues.
    :raises AirflowSkipException: the list is empty, and ``skip_if_empty`` is set.
    """

    template_fields: Sequence[str] = (
        "requests",
        "manifest_key",
        "ledger",
        "audit_key",
        *DocumentToS3Operator.template_fields,
    )
    template_fields_renderers = {"requests": "json", "extra_args": "json"}
    frozen_fields: Collection[str] = ("requests",)

    def __init__(
        self,
        *,
        requests: Sequence[Mapping[str, Any]],
        s3_bucket: str,
        s3_key: str,
        manifest_key: str | None = None,
        max_failed: int | float = 0,
        on_cancelled: Literal["fail", "skip", "succeed"] = "fail",
        skip_if_empty: bool = False,
        ledger: str | None = None,
        verify_delivered: bool = True,
        audit_key: str | None = None,
        timeout: timedelta | float = 86400.0,
        poke_interval: timedelta | float = 15.0,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        replace: bool = True,
        unpack: Literal["auto", "gzip", "none"] = "auto",
        sha256: bool = True,
        content_type: str | None = None,
        encoding: str | None = None,
        extra_args: Mapping[str, Any] | str | None = None,
        max_bytes: int = MAX_BYTES,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_throttle_wait: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_bucket=s3_bucket,
            s3_key=s3_key,
            amazon_business_conn_id=amazon_business_conn_id,
            aws_conn_id=aws_conn_id,
            replace=replace,
            unpack=unpack,
            sha256=sha256,
            content_type=content_type,
            encoding=encoding,
            extra_args=extra_args,
            max_bytes=max_bytes,
            deferrable=deferrable,
            max_throttle_wait=max_throttle_wait,
            **kwargs,
        )
        check_on_cancelled(on_cancelled)
        _check_max_failed(max_failed)
        for name, key in (("s3_key", s3_key), ("manifest_key", manifest_key), ("audit_key", audit_key)):
            if isinstance(key, str) and key:
                check_key_at_parsing(name, key)
        if isinstance(s3_bucket, str) and s3_bucket:
            check_bucket_at_parsing("s3_bucket", s3_bucket)
        self.requests = requests
        self.manifest_key = manifest_key
        self.max_failed = max_failed
        self.on_cancelled = on_cancelled
        self.skip_if_empty = skip_if_empty
        self.ledger = ledger
        self.verify_delivered = verify_delivered
        self.audit_key = audit_key
        with translated_errors():
            self.timeout = parameters.seconds("timeout", timeout)
            self.poke_interval = parameters.seconds("poke_interval", poke_interval)
            parameters.boolean("skip_if_empty", skip_if_empty)
            parameters.boolean("verify_delivered", verify_delivered)

    def execute(self, context: Context) -> dict[str, Any]:
        """Begin, or continue where an earlier attempt ended."""
        self._check_rendered()
        batch = BatchRun.begin(self, context)
        return self._continue(context, batch)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what there is to do now, and defer again."""
        ready = read_event(event, BatchReady)
        self.extra_args = check_extra_args(self.extra_args)
        # What was begun stays as it was, whatever is rendered now.
        self.amazon_business_conn_id = ready.record["amazon_business_conn_id"]
        self.aws_conn_id = ready.record["aws_conn_id"]
        batch = BatchRun.resume(self, context, ready.record)
        self._work(batch, ready)
        return self._continue(context, batch)

    def _continue(self, context: Context, batch: BatchRun) -> dict[str, Any]:
        # Before the wait: a batch may take hours.
        S3ConsoleLink.show(self, context, batch.s3, batch.place.bucket, key_prefix(batch.place.key))
        while not batch.state.is_finished:
            if self._killed:
                self._end_killed(batch)
            batch.log_progress()
            if time.time() >= batch.deadline:
                raise ReportTimeoutError(
                    f"{batch.state.unfinished} of {batch.state.requested} requests are not done within the "
                    f"timeout of {self.timeout:g} s; a cleared task continues from {batch.uri}"
                )
            trigger = batch.trigger()
            if self.deferrable:
                log_deferral(self.log, "permits and reports", batch.deadline)
                self.defer(
                    trigger=trigger,
                    method_name="execute_complete",
                    timeout=timedelta(seconds=batch.deadline - time.time() + BACKSTOP),
                )
            event = self.run_inline(trigger)
            if self._killed:
                self._end_killed(batch)
            self._work(batch, read_event(event, BatchReady))
        batch.log_progress()
        return self._finish(context, batch)

    def _work(self, batch: BatchRun, ready: BatchReady) -> None:
        try:
            batch.work(ready)
        except ManifestTakenError:
            # Its reports are those of the process that continues, so a kill leaves them alone.
            raise
        except AmazonBusinessError:
            if not self._killed:
                raise
        if self._killed:
            self._end_killed(batch)

    def _end_killed(self, batch: BatchRun) -> NoReturn:
        running = sorted(batch.state.pending().running, key=lambda item: item.sent_at or 0.0, reverse=True)
        own = [item.report_id or "" for item in running if not item.adopted]
        durable_create.cancel_newest(self.amazon_business_conn_id, own)
        raise TaskKilledError(
            f"The task was ended: of its {len(running)} running reports it cancelled what could be cancelled at "
            f"once; a retry continues from {batch.uri}"
        ) from None

    def _finish(self, context: Context, batch: BatchRun) -> dict[str, Any]:
        from airflow_provider_amzbiz.lineage import MovedDocument

        items, counts = batch.finish(), batch.state.counts
        summary: dict[str, Any] = {
            "manifest": batch.uri,
            "requested": len(items),
            "landed": counts.stored,
            "already_delivered": counts.already_delivered,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "bytes": counts.bytes,
        }
        if batch.place.audit_key is not None:
            summary["audit"] = batch.write_audit(items)
        moved = [
            MovedDocument(item.report_type, item.report_id, item.report_document_id or "", item.objects or [])
            for item in items
            if item.is_stored
        ]
        failure = self._failure(items, batch.uri)
        if failure is None:
            summary |= self._conclude(items)
        self._emit_lineage(context, moved, **summary)
        if failure is not None:
            raise failure
        return summary

    def _conclude(self, items: Sequence[Item]) -> Mapping[str, Any]:
        """Do what is left to do when a batch has succeeded, and return what the summary is to have of it."""
        return {}

    def _deliveries(self, s3: Any, ledger: str | None, account: str, owner: Mapping[str, Any]) -> Deliveries:
        """Return what was delivered before, and takes note of what is delivered now."""
        return deliveries_of(self, s3, ledger, account, owner)

    def _failure(self, items: Sequence[Item], uri: str) -> AmazonBusinessError | None:
        """Return the task's error where too many requests failed."""
        failed = [item for item in items if item.error is not None]
        allowed: int | float = self.max_failed
        if isinstance(allowed, float):
            # 0.29 of 100 is 29, but 0.29 * 100 is a little less.
            allowed = int(Fraction(str(allowed)) * len(items))
        if len(failed) <= allowed:
            return None
        kind = AmazonBusinessPermanentError if all(each.permanent for each in failed) else AmazonBusinessError
        return kind(
            f"{len(failed)} of {len(items)} requests failed, and max_failed is {self.max_failed!r}; see "
            f"{uri}. The first, {failed[0].label}: {failed[0].error}"
        )


def _check_max_failed(value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not value >= 0 or (isinstance(value, float) and value >= 1):
        raise InvalidInputError(
            f"max_failed is {value!r}, but must be a number from 0 on, or a share from 0.0 to below 1.0"
        )
