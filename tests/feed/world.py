"""A world for the feed to run in, without a network: a store, a ledger, an API and a batch, all in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_amzbiz.batch.delivery import Delivery
from airflow_provider_amzbiz.batch.object_store import PreconditionFailed, StoredBytes
from airflow_provider_amzbiz.client.reconciliation_models import (
    InvoiceDetail,
    InvoiceDetailsByOrderLineItem,
    InvoicePaymentDetails,
    OrderLineItem,
    Transaction,
)
from airflow_provider_amzbiz.feed.arrivals import joined
from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.feed.rows import Outcome
from airflow_provider_amzbiz.feed.run import FeedSettings, InvoiceFeed
from airflow_provider_amzbiz.feed.state import FeedState
from airflow_provider_amzbiz.sandbox import invoices
from airflow_provider_amzbiz.sandbox.company_reports import company_report
from airflow_provider_amzbiz.sandbox.reconciliation_wire import Wire
from tests.feed.books import FeedTables, check_books

UTC = timezone.utc
START = datetime(2026, 10, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = "invoices/{marketplace_id}/{year}/{month}/{document_type}/{document_number}/{name}"


class Killed(BaseException):
    """The process is gone, and nothing of it runs any more."""


@dataclass
class WorldClock:
    """The time of everything."""

    time: datetime = START

    def now(self):
        return self.time

    def advance(self, by):
        self.time += by

    @staticmethod
    def wire(value):
        return value.astimezone(UTC).isoformat(timespec="seconds")


@dataclass
class MemoryStore:
    """S3 as far as the feed uses it.

    :ivar writes_left: writes until the process is killed, which happens before or after the last one.
    """

    clock: WorldClock
    objects: dict = field(default_factory=dict)
    writes: int = 0
    bytes_written: int = 0
    writes_left: int | None = None
    kill_after_write: bool = False

    def uri(self, key):
        return f"s3://bucket/{key}"

    def get(self, key):
        found = self.objects.get(key)
        return found and StoredBytes(*found)

    def put(self, key, body, *, content_type, **condition):
        there = self.objects.get(key)
        if condition.get("IfNoneMatch") and there:
            raise PreconditionFailed
        if (etag := condition.get("IfMatch")) and (there is None or there[1] != etag):
            raise PreconditionFailed
        if self.writes_left is not None:
            if self.writes_left == 0 and not self.kill_after_write:
                raise Killed
            self.writes_left -= 1
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        # In the order of the latest writes.
        self.objects.pop(key, None)
        self.objects[key] = body, etag, self.clock.now()
        self.writes += 1
        self.bytes_written += len(body)
        if self.writes_left is not None and self.writes_left < 0:
            raise Killed
        return etag


@dataclass
class MemoryLedger:
    """The deliveries."""

    entries: dict = field(default_factory=dict)

    def load(self, identities):
        return {each: self.entries[each] for each in identities if each in self.entries}

    def record(self, identity, delivery):
        return self.entries.setdefault(identity, delivery)

    def add(self, identity, delivery):
        earlier = self.entries[identity].objects if identity in self.entries else ()
        self.entries[identity] = replace(delivery, objects=tuple(joined(earlier, delivery.objects)))


class MemoryTables(FeedTables):
    """Tables as files."""

    def __init__(self, store):
        super().__init__()
        self.store = store

    def write(self, name, file, rows):
        read = []
        for row in rows:
            assert set(row) <= set(TABLES[name]), set(row) - set(TABLES[name])
            read.append(json.loads(json.dumps({column: row.get(column) for column in TABLES[name]})))
        self.store.put(f"tables/{name}/{file}", json.dumps(read).encode(), content_type="")
        self.files[name][file] = read
        return f"s3://bucket/tables/{name}/{file}"

    def mark(self, file, content):
        self.store.put(f"tables/_SUCCESS/{file}", json.dumps(content).encode(), content_type="")
        self.marks[file] = content
        return f"s3://bucket/tables/_SUCCESS/{file}"


@dataclass
class CompanyApi:
    """The API, as the sandbox's company shows itself."""

    company: Any
    clock: WorldClock
    calls: list = field(default_factory=list)

    def get_transactions(self, feed_start_date, feed_end_date):
        self.calls.append((feed_start_date, feed_end_date))
        wire = Wire(self.company, self.clock)
        for each in sorted(self.company.transactions, key=lambda each: each.transaction_id):
            version = each.version_at(self.clock.now())
            if version and feed_start_date <= version.feed_date <= feed_end_date:
                yield Transaction.from_api(wire.transaction(each, version))

    def get_invoice_details(self, order_line_items):
        wire = Wire(self.company, self.clock)
        for ids in reversed(list(order_line_items)):
            assert all(ids), ids
            details = tuple(InvoiceDetail.from_api(each) for each in wire.invoice_details(tuple(ids)))
            yield InvoiceDetailsByOrderLineItem(OrderLineItem(*ids), details)

    def get_invoice_payment_details(self, invoice_ids):
        wire = Wire(self.company, self.clock)
        for each in invoice_ids:
            yield InvoicePaymentDetails.from_api(wire.payment(each))


@dataclass
class RowsApi:
    """An API that shows given rows: transactions with a feed date, and details by order line."""

    transactions: list = field(default_factory=list)
    details: dict = field(default_factory=dict)
    payments: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def get_transactions(self, feed_start_date, feed_end_date):
        self.asked.append((feed_start_date, feed_end_date))
        for each in self.transactions:
            found = Transaction.from_api(each)
            if found.feed_date is None or feed_start_date <= found.feed_date <= feed_end_date:
                yield found

    def get_invoice_details(self, order_line_items):
        for ids in order_line_items:
            self.asked.append(tuple(ids))
            found = self.details.get(tuple(ids), ())
            yield InvoiceDetailsByOrderLineItem(OrderLineItem(*ids), tuple(map(InvoiceDetail.from_api, found)))

    def get_invoice_payment_details(self, invoice_ids):
        for each in invoice_ids:
            yield InvoicePaymentDetails.from_api(
                self.payments.get(each, {"invoiceId": each, "resultType": "ERROR"})
            )


@dataclass
class World:
    """Everything that outlives a run."""

    api: Any
    clock: WorldClock = field(default_factory=WorldClock)
    settings: FeedSettings = field(default_factory=lambda: FeedSettings(KEY))
    company: Any = None
    cancelled: set = field(default_factory=set)
    # Numbers of documents that no report brings, although Amazon lists them.
    lacking: set = field(default_factory=set)
    # Contents of documents that Amazon has made again since they were delivered, by number.
    made_again: dict = field(default_factory=dict)
    account: str = "account"

    def __post_init__(self):
        self.store = MemoryStore(self.clock)
        self.ledger = MemoryLedger()
        self.tables = MemoryTables(self.store)
        self.stored = {}
        self.created = []

    @property
    def feed(self):
        state = FeedState(self.store, "ledger/", self.account)
        return InvoiceFeed(state, self.settings, clock=self.clock.now)

    def begin(self, run="run-1", **window):
        task = {"dag_id": "dag", "run_id": run, "task_id": "task", "map_index": -1}
        return self.feed.begin(task, **{"first_start": START - DAY, **window})

    def run(self, run=None, **window):
        """Do a whole run, and return its result and its plan."""
        begun = self.begin(run or f"run-{self.clock.now().isoformat()}", **window)
        plan = begun.plan(self.api, self.ledger)
        return begun.finish(plan, self.deliver(begun, plan), self.tables), plan

    def check_books(self):
        """Compare all that was fetched with the company's own books."""
        stored = {self.store.uri(key): content for key, content in self.stored.items()}
        check_books(self.company, self.tables, stored)

    def deliver(self, begun, plan):
        """Do what a batch does: create each report that is due, and store its document."""
        return {number: self._deliver(begun, plan, number) for number in plan.due}

    def _deliver(self, begun, plan, number):
        request = plan.requests[number]
        identities = plan.identities(number)
        if len(known := self.ledger.load(identities)) == len(identities):
            # Another run was quicker, or this one before it was killed.
            deliveries = sorted(known.values(), key=lambda each: each.delivered_at)
            found = {each["uri"]: each for delivery in deliveries for each in delivery.objects}
            fetched_at = deliveries[-1].delivered_at
            return Outcome(list(found.values()), fetched_at=fetched_at, already_delivered=True)
        options = dict(request.options)
        self.created.append((request.marketplace_id, json.dumps(options, sort_keys=True)))
        files = self._report(request.marketplace_id, options)
        if files is None:
            return Outcome(reason="the report ended CANCELLED", report_id=f"R{len(self.created)}")
        objects = []
        for name, content in files.items():
            key = request.key.replace("{name}", name)
            self.stored[key] = content
            described = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "crc32": None}
            objects.append({"uri": self.store.uri(key), **described})
        outcome = Outcome(objects, None, f"R{len(self.created)}", f"D{len(self.created)}", self.clock.now())
        delivery = Delivery(
            tuple({**each, "content_type": "application/pdf"} for each in objects),
            "GET_AB_INVOICE_PDF",
            options,
            outcome.report_id,
            outcome.report_document_id,
            self.clock.now(),
            begun.name,
        )
        brought = plan.brought(number, objects)
        for identity in brought:
            self.ledger.record(identity, delivery)
        if brought and (identity := plan.request_identity(number)):
            self.ledger.add(identity, delivery)
        return outcome

    def files_of(self, numbers):
        """Return the files of a report that is to bring these documents."""
        return {
            f"{number}.pdf": self.made_again.get(number, number.encode())
            for number in numbers
            if number not in self.lacking
        }

    def _numbers(self, options):
        """Return the numbers of an order's documents, or of a shipment's."""
        ids = options["orderId"], options.get("shipmentId")
        of_order = [(key, each) for key, found in self.api.details.items() for each in found if key[0] == ids[0]]
        numbers = [each["invoiceNumber"] for key, each in of_order if ids[1] in (None, key[2])]
        wanted = not options.get("documentType") or options["documentType"] == "Invoice"
        return sorted({each for each in numbers if each and each != "Pending"}) if wanted else []

    def _report(self, marketplace_id, options):
        """Return the files of a report, None where it ends CANCELLED."""
        invoices.check([marketplace_id], options)
        if self.company is None:
            name = options.get("invoiceId") or "-".join(options.values())
            numbers = [name] if "invoiceId" in options else self._numbers(options) or [name]
            return None if name in self.cancelled else self.files_of(numbers)
        found = company_report(self.company, marketplace_id, options, self.clock.now())
        if found is None:
            return None
        with zipfile.ZipFile(io.BytesIO(gzip.decompress(found.body))) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def charge(identity, *lines, feed_date=START, kind="CHARGE", marketplace="ATVPDKIKX0DER", **more):
    """Return a transaction as the API shows it."""
    total = sum(Decimal(line["totalAmount"]["amount"]) for line in lines if line.get("totalAmount"))
    return {
        "transactionId": identity,
        "marketplaceId": marketplace,
        "transactionType": kind,
        "transactionDate": WorldClock.wire(feed_date - DAY / 2),
        "feedDate": WorldClock.wire(feed_date),
        "amount": {"currencyCode": "USD", "amount": str(total)},
        "paymentInstrumentType": "Pay by Invoice",
        "transactionLineItems": list(lines),
        **more,
    }


def line(order="O1", item="L1", shipment="S1", total="10.00", **more):
    """Return a line of a transaction as the API shows it."""
    money = {"currencyCode": "USD", "amount": total}
    ids = {"orderId": order, "orderLineItemId": item, "shipmentId": shipment}
    return {**ids, "totalAmount": money, "itemQuantity": 1, **more}


def invoice(number, kind="STANDARD", **more):
    """Return details of an invoice as the API shows them."""
    return {"invoiceNumber": number, "invoiceType": kind, "invoiceDate": WorldClock.wire(START), **more}
