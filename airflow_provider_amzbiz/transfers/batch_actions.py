"""What a batch does outside of its record: with the API, the documents, the ledger and the table."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz import durable_create
from airflow_provider_amzbiz.batch.errors import ItemError, NothingSent, RecordError, ThrottledCall
from airflow_provider_amzbiz.batch.plan import names
from airflow_provider_amzbiz.compat import AirflowSkipException
from airflow_provider_amzbiz.exceptions import (
    AccessDeniedError,
    AmazonBusinessError,
    DocumentPermanentError,
    TaskKilledError,
    ThrottledError,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.report_status import raise_for_status
from airflow_provider_amzbiz.transfers.batch_errors import (
    CONCERNS_ALL,
    document_error,
    errors_of_create,
    item_error,
)

if TYPE_CHECKING:
    from airflow_provider_amzbiz.batch.head import Target
    from airflow_provider_amzbiz.batch.item import Item
    from airflow_provider_amzbiz.batch.ledger import Delivery, Ledger
    from airflow_provider_amzbiz.batch.siblings import Siblings
    from airflow_provider_amzbiz.client.config import ClientConfig
    from airflow_provider_amzbiz.client.models import Report
    from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

log = logging.getLogger(__name__)

Objects = list[dict[str, Any]]


class BatchActions:
    """The actions of one round; see :class:`.batch.round.Actions`.

    :param permits: operation to the number of calls that were queued for.
    :param siblings: what must not be adopted from a listing.
    """

    def __init__(
        self,
        operator: ReportsToS3Operator,
        s3: Any,
        bucket: str,
        deliveries: Deliveries,
        permits: Mapping[str, int],
        siblings: Siblings,
    ) -> None:
        self._operator = operator
        self._s3 = s3
        self._bucket = bucket
        self._deliveries = deliveries
        self._siblings = siblings
        # It has the permits of this round, and waits for no more.
        self._sender = AmazonBusinessHook(
            operator.amazon_business_conn_id, retry_for=0, max_throttle_wait=0, stopped=lambda: operator._killed
        )
        for operation, count in permits.items():
            self._sender.grant(operation, count)

    @property
    def target(self) -> Target:
        """Account and bucket, as the connection is now."""
        return target_of(self._sender.config, self._bucket)

    def create(self, item: Item) -> tuple[str, bool]:
        """Create a report."""
        record = durable_create.CreateRecord({}, durable=False)
        with errors_of_create():
            report_id = durable_create.create(self._sender, self._operator.lookup_hook, item.request, record)
        return report_id, record.is_adopted(item.request)

    def find_lost(self, item: Item) -> str | None:
        """Return the id of the report that an earlier process may have created."""
        why = f"{item.label}: an earlier process ended while it created the report"
        taken: frozenset[str] = frozenset()
        record = durable_create.CreateRecord({}, durable=False)
        sent: list[durable_create.Sent] = [[item.sent_at, None]]
        with errors_of_create():
            if item.request.is_recognizable:
                if self._siblings.has_open_like(item):
                    log.warning("%s, and another one that looks the same in the listing: it is created again", why)
                    return None
                taken = self._siblings.report_ids()
            return durable_create.find_lost(self._operator.lookup_hook, item.request, sent, why, record, taken)

    def document_of(self, item: Item, report: Report) -> str | None:
        """Return the document of a report that has ended well, None where there is none and that is no failure."""
        operator = self._operator
        try:
            raise_for_status(
                report,
                on_cancelled=operator.on_cancelled,
                amazon_business_conn_id=operator.amazon_business_conn_id,
            )
        except AirflowSkipException as skip:
            log.info("%s is skipped: %s", item.label, skip)
            return None
        except AmazonBusinessError as error:
            raise item_error(error) from None
        return report.report_document_id

    def store(self, item: Item, claim: Callable[[str], None]) -> Objects:
        """Store a document."""
        document_id = item.report_document_id or ""
        first = [self._sender]
        refused: list[Exception] = []

        def claimed(key: str) -> None:
            try:
                claim(key)
            except (ItemError, RecordError) as error:
                refused.append(error)
                raise DocumentPermanentError(str(error)) from None

        try:
            return self._operator._store_document(
                # Only the first URL is what permits were queued for.
                lambda: self._operator.document(first.pop() if first else self._operator.hook, document_id),
                s3=self._s3,
                bucket=self._bucket,
                key=item.key,
                names={**names(item), "report_id": item.report_id, "report_document_id": document_id},
                claim=claimed,
            )
        except ThrottledError as error:
            raise ThrottledCall(error.operation, nothing_sent=True) from None
        except AccessDeniedError as error:
            if not self._is_known(item):
                raise
            raise item_error(error) from None
        except (*CONCERNS_ALL, TaskKilledError):
            raise
        except AmazonBusinessError as error:
            if refused:
                raise refused[0] from None
            if self._operator._killed:
                raise TaskKilledError(str(error)) from None
            raise document_error(error) from None
        except Exception as error:  # noqa: BLE001
            # One document must not end the batch. The text of what nobody foresaw may have a URL in it.
            at = extract_tb(error.__traceback__)[-1]
            unforeseen = f"{type(error).__name__} at {at.filename}:{at.lineno} while the document was stored"
            raise ItemError(unforeseen) from None

    def _is_known(self, item: Item) -> bool:
        """Tell whether the API still shows an item's report, so that only its document is denied."""
        try:
            self._operator.lookup_hook.get_report(item.report_id or "")
        except AmazonBusinessError:
            return False
        return True

    def find_delivered(self, item: Item) -> Objects | None:
        """Return what the ledger has of a request."""
        try:
            return self._deliveries.find(item)
        except AmazonBusinessError as error:
            raise NothingSent(error) from None

    def record_delivery(self, item: Item, objects: Objects) -> None:
        """Put a stored document on the ledger."""
        try:
            self._deliveries.record(item, objects)
        except AmazonBusinessError as error:
            raise item_error(error) from None


class Deliveries:
    """The ledger of a batch, if it has one.

    :param verify: whether what it has must still be in S3.
    :param by: who delivers.
    """

    def __init__(self, ledger: Ledger | None, *, verify: bool, by: str) -> None:
        self._ledger = ledger
        self._verify = verify
        self._by = by
        # Deliveries whose objects are missing.
        self._lost: dict[str, Delivery] = {}

    def load(self, items: Sequence[Item]) -> dict[str, Objects]:
        """Return what was delivered of many items, by identity."""
        from airflow_provider_amzbiz.batch.object_store import in_threads

        if self._ledger is None:
            # What an earlier attempt found in a ledger stays so.
            return {item.identity: item.objects or [] for item in items if item.already_delivered}
        with translated_errors():
            found = self._ledger.load(item.identity for item in items)
            there = in_threads(self._is_there, found.items())
        known = {name: each for (name, each), is_there in zip(found.items(), there, strict=True) if is_there}
        for item in items:
            if item.identity in known:
                item.delivered = described(known[item.identity])
        log.info("The ledger has %s of %s requests", len(known), len(items))
        return {identity: _objects(delivery) for identity, delivery in known.items()}

    def missing(self, items: Sequence[Item]) -> list[Item]:
        """Return those whose stored objects are no longer in S3 as they were; none without a ledger."""
        from airflow_provider_amzbiz.batch.object_store import in_threads

        ledger = self._ledger
        if ledger is None or not self._verify:
            return []
        with translated_errors():
            wrong = in_threads(lambda item: ledger.missing_object(self._delivery(item, item.objects or [])), items)
        for reason in filter(None, wrong):
            log.warning("%s, which this batch had stored: it is stored again", reason)
        return [item for item, reason in zip(items, wrong, strict=True) if reason]

    def find(self, item: Item) -> Objects | None:
        """Return what was delivered of an item: another run may have, since it was planned."""
        if self._ledger is None:
            return None
        with translated_errors():
            delivery = self._ledger.find(item.identity)
            if delivery is None or not self._is_there((item.identity, delivery)):
                return None
        item.delivered = described(delivery)
        return _objects(delivery)

    def record(self, item: Item, objects: Objects) -> None:
        """Record a delivery; that of another run, which was quicker, stays."""
        if self._ledger is None:
            return
        self._record(self._ledger, item.identity, self._delivery(item, objects))

    def _record(self, ledger: Ledger, identity: str, delivery: Delivery) -> None:
        with translated_errors():
            there = ledger.record(identity, delivery, replaces=self._lost.get(identity))
            if there != delivery and not self._is_there((identity, there)):
                ledger.record(identity, delivery, replaces=there)

    def index(self, items: Iterable[Item]) -> None:
        """Add all that was stored to the index, which makes the next :meth:`load` quick."""
        if self._ledger is None:
            return
        stored = {item.identity: self._delivery(item, item.objects or []) for item in items if item.is_stored}
        if stored:
            with translated_errors():
                self._ledger.index(stored)

    def _is_there(self, found: tuple[str, Delivery]) -> bool:
        identity, delivery = found
        missing = self._ledger.missing_object(delivery) if self._verify and self._ledger else None
        if missing is None:
            return True
        log.warning("%s, which the ledger has as delivered: it is delivered again", missing)
        self._lost[identity] = delivery
        return False

    def _delivery(self, item: Item, objects: Objects) -> Delivery:
        from airflow_provider_amzbiz.batch.ledger import Delivery

        return Delivery(
            objects=tuple(objects),
            report_type=item.report_type,
            report_options=item.request.options,
            report_id=item.report_id or "",
            report_document_id=item.report_document_id or "",
            delivered_at=datetime.fromtimestamp(item.stored_at or 0.0, timezone.utc),
            by=self._by,
        )


def target_of(config: ClientConfig, bucket: str) -> Target:
    """Return what tells a batch's account and bucket apart; the account is hashed, so that it is no secret."""
    from airflow_provider_amzbiz.batch.head import Target

    application = [config.endpoint, config.client_id]
    return Target(_hashed(*application, config.refresh_token), _hashed(*application), bucket)


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def described(delivery: Delivery) -> dict[str, str]:
    """Return what an item keeps of its delivery by another batch."""
    values = delivery.to_dict()
    return {name: values[name] for name in ("report_id", "report_document_id", "delivered_at", "by")}


def _objects(delivery: Delivery) -> Objects:
    return [dict(each) for each in delivery.objects]
