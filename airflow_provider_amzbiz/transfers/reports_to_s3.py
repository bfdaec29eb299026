"""Many reports to S3 in one task."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    AuthenticationError,
    DocumentError,
    InvalidInputError,
    ReportTimeoutError,
    TaskKilledError,
    ThrottledError,
    error_from_dict,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import S3ConsoleLink
from airflow_provider_amzbiz.operators.base import check_rendered
from airflow_provider_amzbiz.report_status import check_on_cancelled, raise_for_status
from airflow_provider_amzbiz.transfers.base import DocumentToS3Operator
from airflow_provider_amzbiz.transfers.keys import check_placeholders, key_prefix, placeholders, render_key
from airflow_provider_amzbiz.triggers.batch import BatchTrigger
from airflow_provider_amzbiz.triggers.reports import BACKSTOP

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_amzbiz.client.request import ReportRequest
    from airflow_provider_amzbiz.transfers.manifest import Item, Manifest

_PARAMETERS = ("report_type", "marketplace_ids", "data_start_time", "data_end_time", "report_options", "key")
# Placeholders of a key that only the finished document fills in.
_LATER = ("report_id", "report_document_id", "name")
# Calls and transfers at the same time on the worker, which mostly wait for the network.
_HANDS = 4
# How often an item is tried again in one try of the task, after faults that may pass.
_FAILURES = 5
# Seconds of rest after a round in which nothing but faults happened.
_REST = 60.0
# Documents are kept for 30 days (facts, 0).
_RETENTION = timedelta(days=30)
# Between this machine's clock and the API's, for the creation time of a report.
_CLOCKS_APART = timedelta(minutes=15)


class ReportsToS3Operator(DocumentToS3Operator):
    """Creates many reports and moves their documents to S3, in one task that holds a worker for seconds only.

    This is the tool for a list of invoices: the limits allow six reports a minute, so that a thousand take at
    least 164 minutes, however they are asked for. The task creates a handful, defers until the next handful may
    be created, moves what is finished meanwhile, and so on.

    What was asked for and what came of it is kept in a manifest, one JSON document in S3. A retry, a cleared task
    and a lost worker go on from it: what has landed is left alone, what was created is waited for, what failed is
    tried again. Two processes cannot both go on; the one that is late stops.

    The return value in XCom is a dict: ``manifest`` (its URI), ``requested``, ``landed``, ``failed``, ``skipped``
    (numbers of requests) and ``bytes`` (landed, decoded). The events of assets in ``outlets`` carry the same.

    A person who ends the deferred task (Airflow 3.3 and newer) has the newest reports cancelled that are IN_QUEUE,
    as many as the limit of cancelReport allows at once.

    :param requests: a list of dicts with the parameters of :class:`.CreateReportOperator` ``report_type``,
        ``marketplace_ids``, ``data_start_time``, ``data_end_time`` and ``report_options``, and optionally ``key``
        instead of ``s3_key``. No two may be equal. (templated)
    :param s3_bucket: the bucket, of the manifest too. (templated)
    :param s3_key: the key. ``{index}`` (of the request), ``{report_type}``, each option of the request, such as
        ``{invoiceId}``, ``{report_id}``, ``{report_document_id}`` and ``{name}`` (the entry's name in a ZIP) are
        filled in. (templated)
    :param manifest_key: key of the manifest. By default ``_manifests/<dag>/<run>/<task>.json`` in the folder that
        ``s3_key`` begins with. (templated)
    :param max_failed: requests that may fail without failing the task: a number, or a share as a float below 1.
    :param on_cancelled: what CANCELLED means for a request: ``"fail"``, or ``"skip"`` and ``"succeed"``, which
        both count it as skipped.
    :param timeout: seconds for one try of the task. What cannot be done in that time is refused at once.
    :param poke_interval: seconds between two looks at the reports.
    :param deferrable: wait in the triggerer. Without it the same happens on the worker.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon``; None uses boto3's own credential
        chain. (templated)
    :param kwargs: ``replace``, ``unpack``, ``sha256``, ``content_type`` (templated), ``encoding``, ``extra_args``
        (templated) and ``max_bytes`` (of each document), which mean what they mean for
        :class:`.ReportDocumentToS3Operator`.
    :raises InvalidInputError: a request is not allowed, two write the same key, or they are too many for
        ``timeout``; nothing was created.
    :raises AmazonBusinessPermanentError: more than ``max_failed`` failed, and no retry can help any of them.
    :raises AmazonBusinessError: more than ``max_failed`` failed; a retry tries them again.
    :raises ReportTimeoutError: ``timeout`` is over; a cleared task goes on.
    """

    template_fields: Sequence[str] = ("requests", "manifest_key", *DocumentToS3Operator.template_fields)
    template_fields_renderers = {"requests": "json", "extra_args": "json"}

    def __init__(
        self,
        *,
        requests: Sequence[Mapping[str, Any]],
        s3_bucket: str,
        s3_key: str,
        manifest_key: str | None = None,
        max_failed: int | float = 0,
        on_cancelled: str = "fail",
        timeout: timedelta | float = 86400.0,
        poke_interval: timedelta | float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(s3_bucket=s3_bucket, s3_key=s3_key, **kwargs)
        check_on_cancelled(on_cancelled)
        if (
            isinstance(max_failed, bool)
            or not isinstance(max_failed, (int, float))
            or not max_failed >= 0
            or (isinstance(max_failed, float) and max_failed >= 1)
        ):
            raise InvalidInputError(
                f"max_failed is {max_failed!r}, but has to be a number from 0 on, or a share from 0.0 to below 1.0"
            )
        self.requests = requests
        self.manifest_key = manifest_key
        self.max_failed = max_failed
        self.on_cancelled = on_cancelled
        with translated_errors():
            self.timeout = parameters.seconds("timeout", timeout)
            self.poke_interval = parameters.seconds("poke_interval", poke_interval)

    def execute(self, context: Context) -> dict[str, Any]:
        """Begin, or go on where an earlier try ended."""
        check_rendered(self)
        batch = self._batch(context)
        manifest = batch.manifest
        found = manifest.read()
        manifest.match(batch.items)
        for item in manifest.items:
            item.try_again()
        manifest.deadline = time.time() + self.timeout
        self._check_time(manifest)
        if found:
            landed = sum(item.objects is not None for item in manifest.items)
            self.log.info("Going on from %s: %s of %s have landed", manifest.uri, landed, len(manifest.items))
        manifest.save()
        return self._go_on(context, batch)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Do what there is to do now, and defer again."""
        check_rendered(self)
        batch = self._batch(context)
        if not batch.manifest.read():
            raise AmazonBusinessError(f"The manifest {batch.manifest.uri} is gone; clear the task to begin anew")
        batch.manifest.match(batch.items)
        self._work_or_end(batch, event)
        return self._go_on(context, batch)

    def _wait_here(self, batch: _Batch, trigger: BatchTrigger) -> dict[str, Any]:
        event = self.run_inline(trigger)
        if event is None:
            self._end_killed(batch)
        return event

    def _work_or_end(self, batch: _Batch, event: Mapping[str, Any]) -> None:
        try:
            self._work(batch, event)
        except AmazonBusinessError:
            if not self._killed:
                raise
        if self._killed:
            self._end_killed(batch)

    def _end_killed(self, batch: _Batch) -> NoReturn:
        running = sorted((item for item in batch.manifest.items if item.running), key=_sent, reverse=True)
        own = [item.report_id or "" for item in running if not item.adopted]
        durable_create.cancel_newest(self.amazon_business_conn_id, own)
        raise TaskKilledError(
            f"The task was ended: of its {len(running)} running reports it cancelled what could be cancelled at "
            f"once; a retry continues from {batch.manifest.uri}"
        ) from None

    def _go_on(self, context: Context, batch: _Batch) -> dict[str, Any]:
        manifest = batch.manifest
        # Before the wait: a batch may take hours.
        S3ConsoleLink.show(self, context, manifest.s3, manifest.bucket, key_prefix(self.s3_key or ""))
        while not all(item.settled for item in manifest.items):
            self._say(manifest)
            if time.time() >= manifest.deadline:
                left = sum(not item.settled for item in manifest.items)
                raise ReportTimeoutError(
                    f"{left} of {len(manifest.items)} requests are not done within the timeout of "
                    f"{self.timeout:g} s; a cleared task goes on from {manifest.uri}"
                )
            trigger = self._trigger(batch)
            if self.deferrable:
                self.defer(
                    trigger=trigger,
                    method_name="execute_complete",
                    timeout=timedelta(seconds=manifest.deadline - time.time() + BACKSTOP),
                )
            self._work_or_end(batch, self._wait_here(batch, trigger))
        return self._finish(context, manifest)

    def _batch(self, context: Context) -> _Batch:
        from airflow_provider_amzbiz.transfers.manifest import Item, Manifest

        if not self.s3_bucket or not self.s3_key:
            raise InvalidInputError(
                f"s3_bucket and s3_key have to be given, but are {self.s3_bucket!r} and {self.s3_key!r}"
            )
        requests = self._checked_requests()
        items = [
            Item(index, request.fingerprint, request.report_type, dict(request.options), key=given.get("key"))
            for index, (given, request) in enumerate(zip(self.requests, requests, strict=True))
        ]
        self._remember_attempt(context)
        manifest = Manifest(self.s3_client(), self.s3_bucket, self._manifest_key(context))
        by_fingerprint = {request.fingerprint: request for request in requests}
        return _Batch(manifest, by_fingerprint, items)

    def _checked_requests(self) -> list[ReportRequest]:
        """Check all requests before the first call."""
        if not self.requests or isinstance(self.requests, (str, Mapping)):
            raise InvalidInputError(f"requests is {self.requests!r}, but has to be a list of at least one dict")
        checked: list[ReportRequest] = []
        fingerprints: dict[str, int] = {}
        keys: dict[str, int] = {}
        for index, given in enumerate(self.requests):
            where = f"requests[{index}]"
            if not isinstance(given, Mapping):
                raise InvalidInputError(f"{where} is {given!r}, but has to be a dict")
            for name in given:
                if name not in _PARAMETERS:
                    raise InvalidInputError(f"{where} has {name!r}, but may have only {', '.join(_PARAMETERS)}")
            try:
                request = self.hook.report_request(
                    given.get("report_type", ""),
                    **{name: given[name] for name in _PARAMETERS[1:-1] if name in given},
                )
            except InvalidInputError as error:
                raise InvalidInputError(f"{where}: {error}", report_type=error.report_type) from None
            if (first := fingerprints.setdefault(request.fingerprint, index)) != index:
                raise InvalidInputError(f"{where} asks for the same report as requests[{first}]; leave one out")
            key = given.get("key") or self.s3_key or ""
            names = self._names(index, request)
            check_placeholders(key, {*names, *_LATER})
            if not set(placeholders(key)) & set(_LATER):
                written = render_key(key, names)
                if (first := keys.setdefault(written, index)) != index:
                    raise InvalidInputError(
                        f"{where} would write the key {written!r}, as would requests[{first}]; put a placeholder "
                        "such as {index} or {report_id} into s3_key"
                    )
            checked.append(request)
        return checked

    def _names(self, index: int, request: ReportRequest) -> dict[str, str]:
        return {**request.options, "index": str(index), "report_type": request.report_type}

    def _manifest_key(self, context: Context) -> str:
        if self.manifest_key:
            return self.manifest_key
        ti: Any = context["ti"]
        fixed = (self.s3_key or "").split("{")[0]
        folder = fixed[: fixed.rfind("/") + 1]
        mapped = f"-{ti.map_index}" if ti.map_index >= 0 else ""
        return f"{folder}_manifests/{ti.dag_id}/{ti.run_id}/{ti.task_id}{mapped}.json"

    def _check_time(self, manifest: Manifest) -> None:
        """Say how long it takes at least, and refuse what is too long."""
        least = self._least_seconds(manifest)
        self.log.info(
            "%s requests: at least %.0f minutes under the account's limits", len(manifest.items), least / 60
        )
        for name, limit in (
            ("timeout", self.timeout),
            ("the time that documents are kept", _RETENTION.total_seconds()),
        ):
            if least > limit:
                raise InvalidInputError(
                    f"The batch takes at least {least:.0f} s under the account's limits, which is longer than "
                    f"{name}, {limit:g} s; give it more time or fewer requests"
                )

    def _least_seconds(self, manifest: Manifest) -> float:
        from airflow_provider_amzbiz.client.token_bucket import token_buckets

        buckets = token_buckets(self.hook.client.config)
        creates = sum(item.to_create for item in manifest.items)
        moves = sum(not item.settled for item in manifest.items)
        return max(
            buckets["createReport"].limit.min_seconds(creates),
            buckets["getReportDocument"].limit.min_seconds(moves),
        )

    def _trigger(self, batch: _Batch) -> BatchTrigger:
        now = datetime.now(timezone.utc)
        return BatchTrigger(
            amazon_business_conn_id=self.amazon_business_conn_id,
            creates=sum(item.to_create for item in batch.manifest.items),
            running=[
                [item.report_id or "", item.report_type, (_sent(item) - _CLOCKS_APART).isoformat()]
                for item in batch.manifest.items
                if item.running
            ],
            adopted=[item.report_id or "" for item in batch.manifest.items if item.running and item.adopted],
            documents=sum(item.to_land for item in batch.manifest.items),
            poke_interval=self.poke_interval,
            deadline=batch.manifest.deadline,
            not_before=time.time() + _REST if batch.only_faults else 0.0,
            refused=sorted(batch.refused),
            not_found_grace_until=now.timestamp() + durable_create.NOT_FOUND_GRACE,
        )

    def _work(self, batch: _Batch, event: Mapping[str, Any]) -> None:
        """Use the permits that an event brings, and take note of what it tells."""
        if event.get("status") == "error":
            raise error_from_dict(event["error"])
        manifest, permits = batch.manifest, event["permits"]
        batch.begin_round()
        batch.hook = AmazonBusinessHook(self.amazon_business_conn_id, retry_for=0, max_throttle_wait=0)
        for operation, count in permits.items():
            batch.hook.client.grant(operation, count)
        by_id = {item.report_id: item for item in manifest.items if item.report_id}
        for told in event["reports"]:
            report = Report.from_dict(told)
            if report.report_id in by_id:
                self._ended(batch, by_id[report.report_id], report)
        for report_id, error in event["errors"].items():
            if report_id in by_id:
                self._lost_sight(by_id[report_id], error_from_dict(error))
        to_create = [item for item in manifest.items if item.to_create][: permits["createReport"]]
        to_land = [item for item in manifest.items if item.to_land][: permits["getReportDocument"]]
        earlier = {item.index: item.sent_at for item in to_create}
        for item in to_create:
            item.sent_at = time.time()
        if to_create:
            # Should this worker be lost now, the next one knows what may have been sent.
            manifest.save()
        with ThreadPoolExecutor(_HANDS, thread_name_prefix="amzbiz-batch") as hands:
            creating = [hands.submit(self._create, batch, item, earlier[item.index]) for item in to_create]
            landing = [hands.submit(self._land, batch, item) for item in to_land]
            try:
                for each in [*creating, *landing]:
                    each.result()
            finally:
                hands.shutdown(cancel_futures=True)
                # Also where one of them ends the task: what the others have done is not to be done again.
                manifest.save()

    def _create(self, batch: _Batch, item: Item, earlier: float | None) -> None:
        request, record = batch.requests[item.fingerprint], durable_create.CreateRecord({}, durable=False)
        try:
            item.report_id = (
                durable_create.find_lost(
                    self.lookup_hook,
                    request,
                    [[earlier, None]],
                    "An earlier process ended while it created it",
                    record,
                )
                if earlier
                else None
            ) or durable_create.create(batch.sender, self.lookup_hook, request, record)
        except ThrottledError as error:
            if error.operation == "createReport":
                item.sent_at = earlier
                batch.refused.add("createReport")
            return
        except TaskKilledError:
            raise
        except (AuthenticationError, AccessDeniedError):
            item.sent_at = earlier
            raise
        except AmazonBusinessError as error:
            self._fault(batch, item, error)
            return
        item.adopted = record.is_adopted(request)
        item.failures = 0
        batch.done += 1
        batch.manifest.save()

    def _ended(self, batch: _Batch, item: Item, report: Report) -> None:
        if item.earlier and report.processing_status in ("FATAL", "CANCELLED"):
            self.log.info(
                "Report %s of an earlier try is %s: creating a new one", report.report_id, report.processing_status
            )
            item.drop_report()
            return
        item.status = report.processing_status
        batch.done += 1
        try:
            raise_for_status(
                report, on_cancelled=self.on_cancelled, amazon_business_conn_id=self.amazon_business_conn_id
            )
            item.report_document_id = report.report_document_id
            item.skipped = report.report_document_id is None
        except AirflowSkipException as skip:
            self.log.info("%s", skip)
            item.skipped = True
        except AmazonBusinessError as error:
            self.log.warning("requests[%s] failed: %s", item.index, error)
            item.fail(error)

    def _lost_sight(self, item: Item, error: AmazonBusinessError) -> None:
        if item.earlier:
            item.drop_report()
        else:
            item.fail(error)

    def _land(self, batch: _Batch, item: Item) -> None:
        request, manifest = batch.requests[item.fingerprint], batch.manifest
        document_id = item.report_document_id or ""
        names = {
            **self._names(item.index, request),
            "report_id": item.report_id,
            "report_document_id": document_id,
        }
        first = [batch.sender]
        try:
            objects = self._store_document(
                # Only the first URL is what permits were queued for.
                lambda: self.document(first.pop() if first else self.hook, document_id),
                s3=manifest.s3,
                bucket=manifest.bucket,
                key=item.key or self.s3_key or "",
                names=names,
            )
        except ThrottledError:
            batch.refused.add("getReportDocument")
        except (AuthenticationError, AccessDeniedError):
            raise
        except AmazonBusinessError as error:
            self._fault(batch, item, error)
        except Exception as error:  # noqa: BLE001
            # One document must not end the batch. The text of what nobody foresaw may have a URL in it.
            at = extract_tb(error.__traceback__)[-1]
            unforeseen = f"{type(error).__name__} at {at.filename}:{at.lineno} while the document was moved"
            self._fault(batch, item, DocumentError(unforeseen))
        else:
            item.landed(objects)
            batch.done += 1

    def _fault(self, batch: _Batch, item: Item, error: AmazonBusinessError) -> None:
        item.failures += 1
        batch.faults += 1
        if isinstance(error, AmazonBusinessPermanentError) or item.failures >= _FAILURES:
            self.log.warning("requests[%s] failed: %s", item.index, error)
            item.fail(error)
        else:
            self.log.warning("requests[%s] will be tried again: %s", item.index, error)

    def _say(self, manifest: Manifest) -> None:
        counts = Counter(_stage(item) for item in manifest.items)
        self.log.info(
            "%s asked for: %s to create, %s running, %s to move, %s landed, %s skipped, %s failed; at least %.0f "
            "minutes left",
            len(manifest.items),
            *(counts[each] for each in ("to create", "running", "to move", "landed", "skipped", "failed")),
            self._least_seconds(manifest) / 60,
        )

    def _finish(self, context: Context, manifest: Manifest) -> dict[str, Any]:
        from airflow_provider_amzbiz.lineage import MovedDocument

        self._say(manifest)
        items = manifest.items
        failed = [item for item in items if item.error is not None]
        summary = {
            "manifest": manifest.uri,
            "requested": len(items),
            "landed": sum(item.objects is not None for item in items),
            "failed": len(failed),
            "skipped": sum(item.skipped for item in items),
            "bytes": sum(each["bytes"] for item in items for each in item.objects or ()),
        }
        moved = [
            MovedDocument(item.report_type, item.report_id, item.report_document_id or "", item.objects)
            for item in items
            if item.objects is not None
        ]
        self._emit_lineage(context, moved, **summary)
        allowed = int(self.max_failed * len(items)) if isinstance(self.max_failed, float) else self.max_failed
        if len(failed) > allowed:
            kind = AmazonBusinessPermanentError if all(each.permanent for each in failed) else AmazonBusinessError
            raise kind(
                f"{len(failed)} of {len(items)} requests failed, and max_failed is {self.max_failed!r}; see "
                f"{manifest.uri}. The first, requests[{failed[0].index}]: {failed[0].error}"
            )
        return summary


@dataclass
class _Batch:
    """What one process knows of a batch.

    :ivar requests: by fingerprint.
    :ivar items: fresh ones, one for each request.
    :ivar hook: has the permits of this round, and waits for no more.
    """

    manifest: Manifest
    requests: Mapping[str, ReportRequest]
    items: list[Item]
    hook: AmazonBusinessHook | None = None
    refused: set[str] = field(default_factory=set)
    faults: int = 0
    done: int = 0

    @property
    def sender(self) -> AmazonBusinessHook:
        """The hook with the permits."""
        if self.hook is None:
            raise AssertionError("there is no round")
        return self.hook

    @property
    def only_faults(self) -> bool:
        """Whether the last round did nothing but fail."""
        return self.faults > 0 and self.done == 0

    def begin_round(self) -> None:
        """Count anew."""
        self.refused.clear()
        self.faults = self.done = 0


def _sent(item: Item) -> datetime:
    return datetime.fromtimestamp(item.sent_at or 0.0, timezone.utc)


_STAGES: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("failed", lambda item: item.error is not None),
    ("skipped", lambda item: item.skipped),
    ("landed", lambda item: item.objects is not None),
    ("to create", lambda item: item.to_create),
    ("to move", lambda item: item.to_land),
    ("running", lambda item: item.running),
)


def _stage(item: Item) -> str:
    return next(name for name, holds in _STAGES if holds(item))
