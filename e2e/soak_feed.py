"""All invoices of a company in the soak: a feed that runs on every simulated day, and the books to check it by."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.demo.books import available_documents
from airflow_provider_amzbiz.sandbox import Company, Sandbox
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.reconciliation import ReconciliationSettings
from airflow_provider_amzbiz.sandbox.throttle import Buckets
from dev.airflow_cluster import AirflowCluster
from e2e.pipelines import connection_of, manifest_items, why_failed
from tests.feed.books import FeedTables, check_books, stored_documents, stored_tables

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


DAG = "soak_feed"
CONNECTION = "amazon_business_feed"
DAY = timedelta(days=1)
# A region each: invoices by number, by order and by shipment.
MARKETPLACES = ["ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528"]
# With refunds, about twelve documents.
ORDERS_A_DAY = 6
# Orders that were placed before the first run.
DAYS_BEFORE = 4
RECONCILIATION = ("getTransactions", "getInvoiceDetailsByOrderLineItems", "getBatchInvoicePaymentDetails")
RECONCILIATION_FAULTS: list[dict[str, Any]] = [
    {"operation": "getTransactions", "kind": "drop"},
    {"operation": "getTransactions", "kind": "lost"},
    {"operation": "getTransactions", "kind": "status", "status": 504},
    {"operation": "getTransactions", "kind": "status", "status": 429},
    {"operation": "getInvoiceDetailsByOrderLineItems", "kind": "drop"},
    {"operation": "getInvoiceDetailsByOrderLineItems", "kind": "lost_status", "body": "html"},
    {"operation": "getInvoiceDetailsByOrderLineItems", "kind": "status", "status": 504},
    {"operation": "getInvoiceDetailsByOrderLineItems", "kind": "status", "status": 429},
    {"operation": "getBatchInvoicePaymentDetails", "kind": "lost"},
    {"operation": "getBatchInvoicePaymentDetails", "kind": "status", "status": 429},
]


@contextmanager
def company_sandbox(airflow: AirflowCluster, seed: int, days: int, scale: float) -> Iterator[Sandbox]:
    """Run the API of a company that orders on so many days, as the connection of the feed.

    :param scale: how much faster than the API's the limits are.
    """
    total = DAYS_BEFORE + days
    company = Company(
        seed=seed,
        orders=ORDERS_A_DAY * total,
        days=total,
        # The API's times have whole seconds.
        start=datetime.now(timezone.utc).replace(microsecond=0) - DAYS_BEFORE * DAY,
        marketplaces=MARKETPLACES,
    )
    kinds = {(each.kind, each.is_consolidated) for each in company.documents}
    assert {("Invoice", False), ("Invoice", True), ("CreditMemo", False), ("OrderSummary", False)} <= kinds
    # Short pages, so that a window has several.
    pages = ReconciliationSettings(page_size=10)
    with Sandbox(region="any", company=company, reconciliation=pages, url_seconds=60, token_seconds=30) as running:
        running.accounts[0].buckets = Buckets("2026", Clock(scale))
        airflow.put_connection(CONNECTION, connection_of(running, scale))
        yield running


class Feed:
    """The runs of a feed, and what they must come to.

    :param sandbox: the company's; its clock is ahead of the machine's, by a day more with each run.
    """

    def __init__(self, airflow: AirflowCluster, s3: S3Client, sandbox: Sandbox) -> None:
        assert sandbox.company
        self.airflow, self.s3, self.sandbox, self.company = airflow, s3, sandbox, sandbox.company
        self.runs: list[str] = []
        self.days = 0
        self._end = sandbox.clock.now()

    def start_day(self) -> None:
        """Let a day pass, and start the run of its feed; the one before may still be running."""
        self.days += 1
        self._start(DAY)

    def assert_succeeded(self) -> None:
        """Assert that every run succeeded; a document whose report ended CANCELLED is left to the next one."""
        for run in self.runs:
            assert self.airflow.wait_for_run(DAG, run, 900) == "success", why_failed(self.airflow, DAG, run)

    def assert_stored(self) -> None:
        """Assert that each document that the days could know is in S3 once, after a run that nobody disturbs."""
        self._run(timedelta())
        stored = collections.Counter(self._documents().values())
        for document in available_documents(self.company, self._end):
            assert stored[self.company.pdf(document)] == 1, document

    def close_books(self) -> None:
        """Run after everything has happened in the company, and once more, and compare all tables with its books.

        Nobody disturbs these runs, so they need exactly one call of each scarce operation for a report.
        """
        created, urls = len(self.sandbox.reports), self.sandbox.count("getReportDocument", 200)
        result = self._run(self.company.end + DAY - self.sandbox.clock.now())
        assert (result["failed"], result["skipped"]) == (0, 0)
        assert len(self.sandbox.reports) - created == result["landed"] > 0
        assert self.sandbox.count("getReportDocument", 200) - urls == result["landed"]
        again = self._run(timedelta())
        assert (again["landed"], again["failed"], again["skipped"]) == (0, 0, 0)
        assert len(self.sandbox.reports) - created == result["landed"]
        check_books(self.company, self._tables(), self._documents())

    def never_stored(self) -> int:
        """Return how many reports were created, and would have had a document, but were lost to every run."""
        known = {item["report_id"] for item in self._items()}
        return sum(
            each.report_id not in known and each.status != "CANCELLED" for each in self.sandbox.reports.values()
        )

    def assert_stored_twice_only_at_once(self) -> int:
        """Assert that no run created what another had delivered before; return how often two did at once.

        docs/ledger.rst: two runs that create the same request within the minutes of a report both store it.
        """
        by_request: dict[Any, list[Any]] = collections.defaultdict(list)
        for item in self._landed():
            key = item["request"]["marketplaceIds"][0], *sorted(item["report_options"].items())
            by_request[key].append(item)
        found = 0
        for (_, *options), items in by_request.items():
            items.sort(key=lambda each: each["stored_at"])
            again = [later for earlier, later in pairwise(items) if later["sent_at"] > earlier["stored_at"]]
            assert len(again) < self._versions(dict(options)), (options, items)
            found += len(items) - 1 - len(again)
        return found

    def figures(self, throttling_faults: int) -> dict[str, Any]:
        """Return what happened, to print.

        :param throttling_faults: how many of the 429 to calls of the Reconciliation API were injected.
        """
        tables, reports = self._tables(), len(self.sandbox.reports)
        tasks = [task for run in self.runs for task in self.airflow.tasks(DAG, run)]
        urls, landed = self.sandbox.count("getReportDocument", 200), len(self._landed())
        calls = sum(self.sandbox.count(each) for each in RECONCILIATION)
        throttled = sum(self.sandbox.count(each, 429) for each in RECONCILIATION) - throttling_faults
        return {
            "days": self.days,
            "runs": len(self.runs),
            "attempts": sum(task["try_number"] for task in tasks),
            "runs that began before the last one had ended": self._overlapping(),
            "documents": len(tables.documents),
            "rows of files": {name: sum(map(len, files.values())) for name, files in tables.files.items()},
            "rows": {"document_lines": len(tables.lines), "transactions": len(tables.transactions)},
            "calls of the Reconciliation API": calls,
            "of these 429, without injected ones": throttled,
            "reports created": reports,
            "cancelled": sum(each.status == "CANCELLED" for each in self.sandbox.reports.values()),
            "landed": landed,
            "document URLs": urls,
            "scarce calls for a landed report": round((reports + urls) / landed, 3),
            "calls": len(self.sandbox.calls),
        }

    def throttled_share(self, throttling_faults: int) -> float:
        """Return which share of the calls of the Reconciliation API got 429 that was not injected."""
        calls = sum(self.sandbox.count(each) for each in RECONCILIATION)
        return (sum(self.sandbox.count(each, 429) for each in RECONCILIATION) - throttling_faults) / calls

    def _start(self, after: timedelta) -> None:
        self.sandbox.clock.advance(after.total_seconds())
        self._end = self.sandbox.clock.now()
        # Only the first run is told where to begin; the others have the cursor.
        assert self.company.start
        first = "" if self.runs else self.company.start.isoformat()
        conf = {"feed_start": first, "feed_end": self._end.isoformat()}
        self.runs.append(self.airflow.start(DAG, conf))

    def _run(self, after: timedelta) -> dict[str, Any]:
        self._start(after)
        self.assert_succeeded()
        return self._result(self.runs[-1])

    def _result(self, run: str) -> dict[str, Any]:
        result: dict[str, Any] = self.airflow.xcom(DAG, run, "feed")
        return result

    def _items(self) -> list[dict[str, Any]]:
        return [item for run in self.runs for item in manifest_items(self.s3, self._result(run))]

    def _landed(self) -> list[dict[str, Any]]:
        return [each for each in self._items() if each["objects"] and not each.get("already_delivered")]

    def _tables(self) -> FeedTables:
        return stored_tables(self.s3, "e2e", "feed/tables/")

    def _documents(self) -> dict[str, bytes]:
        return stored_documents(self.s3, "e2e", "feed/invoices/")

    def _versions(self, options: dict[str, str]) -> int:
        """Return how often a request may bring something new.

        An order is asked for again when a new document of it shows up, and its summary when more has shipped.
        """
        if "invoiceId" in options:
            return 1
        lines = [each for each in self.company.lines if each.order_id == options["orderId"]]
        if options.get("documentType") == "OrderSummary":
            return len({each.shipment_id for each in lines})
        return len({each.document_number for each in lines})

    def _overlapping(self) -> int:
        runs = sorted(self.airflow.runs(DAG), key=lambda each: str(each["start_date"]))
        ends, found = "", 0
        for each in runs:
            found += each["start_date"] < ends
            ends = max(ends, each["end_date"])
        return found
