"""All invoices of an account to S3, and their lines as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.marketplaces import region_of_endpoint, region_of_marketplace
from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.documents.upload_options import MAX_BYTES
from airflow_provider_amzbiz.exceptions import InvalidInputError, TaskKilledError, translated_errors
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.transfers.base import DocumentToS3Operator
from airflow_provider_amzbiz.transfers.batch_place import default_manifest_key, owner_of
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator

if TYPE_CHECKING:
    from airflow_provider_amzbiz.batch.item import Item
    from airflow_provider_amzbiz.compat import Context
    from airflow_provider_amzbiz.feed.plan import Plan
    from airflow_provider_amzbiz.feed.run import FeedRun, InvoiceFeed
    from airflow_provider_amzbiz.lineage import MovedDocument
    from airflow_provider_amzbiz.transfers.feed_deliveries import FeedDeliveries

_INVOICE = "GET_AB_INVOICE_PDF"
_CANCELLED = "its report ended CANCELLED, as one does whose document is not there yet"


class InvoicesToS3Operator(ReportsToS3Operator):
    """Stores all invoices and credit memos that become available, each once, and writes their lines to tables.

    The numbers come from Amazon's Reconciliation API, so no list is needed. A run reads the transactions in a
    window of feed dates, looks up the documents of each order line, and requests those that no run with the same
    ledger has delivered. Lines without a document are looked up again by the next runs, and listed in
    ``open_items`` with the reason. The next run catches up on a missed day. A retry, a cleared task and a lost
    worker continue with what the run found first. If a task that succeeded is cleared, it reads again, and creates
    nothing twice.

    The return value in XCom is a dict. It has ``manifest`` (its URI), the numbers of reports ``requested``,
    ``landed``, ``already_delivered``, ``failed`` and ``skipped``, and ``open_items`` (rows). It also has ``bytes``
    (of what it stored, decoded), ``account`` (as in the tables) and ``tables`` (name to a list of URIs). If a task
    that succeeded is cleared, the lists begin with the files of its earlier runs, and end with its own; the nth
    files of all tables belong together. The events of assets in ``outlets`` carry the same.

    :param s3_bucket: the bucket of the documents. (templated)
    :param s3_key: the key. These names are filled in: ``{marketplace_id}``, ``{document_type}``,
        ``{document_number}``, ``{order_id}``, ``{year}``, ``{month}`` and ``{name}``. Year and month are those
        of the document's date as Amazon writes it, or of the feed date in UTC if it is unknown. ``{name}`` is
        the file's name in the archive, and is needed for orders with several documents. (templated)
    :param ledger: S3 URI prefix, such as ``s3://bucket/ledger/``. The ledger records what was delivered, how far
        the feed has been read, and what is open. All runs of a feed need the same one. (templated)
    :param tables: S3 URI prefix of the tables ``documents``, ``document_lines``, ``transactions`` and
        ``open_items``. Each has a folder with one file per run, and a marker in ``_SUCCESS/`` shows that all files
        of a run are complete. By default no tables are written. (templated)
    :param table_format: ``"jsonl"``, by default, or ``"parquet"``, which needs the extra ``parquet``.
    :param feed_start: where the window begins, an aware datetime or an ISO 8601 string with an offset. By default
        ``overlap`` before the end of the last run that succeeded, and at first the start of the data interval.
        (templated)
    :param feed_end: where it ends; by default now, by the API's clock. (templated)
    :param overlap: how long before the end of the last run a window begins, because rows appear late and are
        amended; a timedelta or seconds, three days by default.
    :param open_for: for how long the document of a line is looked up again; a timedelta or seconds, 45 days by
        default.
    :param document_types: which of ``"Invoice"``, ``"CreditMemo"`` and ``"OrderSummary"`` (card orders in North
        America, which have no invoice) to store; by default the first two.
    :param include_personal_data: whether the tables contain ids, names and e-mail addresses of buyers and payers;
        by default not.
    :param manifest_key: key of the batch's manifest; see :class:`.ReportsToS3Operator`. (templated)
    :param max_failed: reports that may fail without failing the task: a number, or a share as a float below 1.
        They are in ``open_items``.
    :param on_cancelled: what CANCELLED means for a report: ``"skip"``, by default, and ``"succeed"`` leave its
        lines in ``open_items``, and ``"fail"`` counts it as failed.
    :param verify_delivered: whether what was delivered must still be in S3, one HEAD for each object, also of what
        a retried or cleared run has stored itself.
    :param timeout: seconds for one attempt of the task, or a timedelta; a day by default.
    :param poke_interval: seconds between two polls of the reports, or a timedelta; 15 by default.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon``; None uses boto3's own credential
        chain. (templated)
    :param replace: whether other content under a document's key is replaced; by default True.
    :param extra_args: more parameters of S3's; those of access and encryption apply to the ledger, too.
        (templated)
    :param max_bytes: decoded bytes of a document above which it is refused.
    :param sha256: whether documents get a SHA-256, too.
    :param deferrable: wait for reports in the triggerer. Without it the same happens on the worker.
    :param max_throttle_wait: seconds that one call may wait on the worker for its permit.
    :raises InvalidInputError: a parameter is not allowed, or nothing says where the first window begins.
    :raises AmazonBusinessPermanentError: more than ``max_failed`` failed, and no retry can help any of them; or
        the state in the ledger is damaged.
    :raises AmazonBusinessError: more than ``max_failed`` failed; a retry tries them again.
    :raises ReportTimeoutError: ``timeout`` is over; a retry or a cleared task continues.
    """

    template_fields: Sequence[str] = (
        "ledger",
        "tables",
        "feed_start",
        "feed_end",
        "manifest_key",
        *DocumentToS3Operator.template_fields,
    )
    template_fields_renderers = {"extra_args": "json"}
    frozen_fields = ()

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_key: str,
        ledger: str,
        tables: str | None = None,
        table_format: Literal["jsonl", "parquet"] = "jsonl",
        feed_start: datetime | str | None = None,
        feed_end: datetime | str | None = None,
        overlap: timedelta | float = timedelta(days=3),
        open_for: timedelta | float = timedelta(days=45),
        document_types: Sequence[str] = ("Invoice", "CreditMemo"),
        include_personal_data: bool = False,
        manifest_key: str | None = None,
        max_failed: int | float = 0,
        on_cancelled: Literal["fail", "skip", "succeed"] = "skip",
        verify_delivered: bool = True,
        timeout: timedelta | float = 86400.0,
        poke_interval: timedelta | float = 15.0,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        replace: bool = True,
        sha256: bool = True,
        extra_args: Mapping[str, Any] | str | None = None,
        max_bytes: int = MAX_BYTES,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_throttle_wait: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            requests=(),
            s3_bucket=s3_bucket,
            s3_key=s3_key,
            ledger=ledger,
            manifest_key=manifest_key,
            max_failed=max_failed,
            on_cancelled=on_cancelled,
            verify_delivered=verify_delivered,
            timeout=timeout,
            poke_interval=poke_interval,
            amazon_business_conn_id=amazon_business_conn_id,
            aws_conn_id=aws_conn_id,
            replace=replace,
            sha256=sha256,
            extra_args=extra_args,
            max_bytes=max_bytes,
            deferrable=deferrable,
            max_throttle_wait=max_throttle_wait,
            **kwargs,
        )
        self.tables = tables
        self.table_format = table_format
        self.feed_start = feed_start
        self.feed_end = feed_end
        with translated_errors():
            self.overlap = timedelta(seconds=parameters.seconds("overlap", overlap, zero=True))
            self.open_for = timedelta(seconds=parameters.seconds("open_for", open_for, zero=True))
            parameters.boolean("include_personal_data", include_personal_data)
        self.document_types = document_types
        self.include_personal_data = include_personal_data

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the feed, or take what an earlier attempt has read, and store the documents."""
        from airflow_provider_amzbiz.transfers.batch_actions import target_of

        self._check_rendered()
        if not self.ledger:
            raise InvalidInputError(
                f"ledger is {self.ledger!r}, but must be an S3 URI such as s3://bucket/ledger/"
            )
        with translated_errors():
            s3 = self.s3_client()
            self._check_tables(s3, self.tables, self.table_format)
            account = target_of(self.hook.config, self.s3_bucket or "").account
            run = self._feed(s3, self.ledger, account).begin(
                owner_of(context),
                # A template without a value renders as an empty string.
                feed_start=self.feed_start or None,
                feed_end=self.feed_end or None,
                first_start=context.get("data_interval_start"),
                frozen={"tables": self.tables, "table_format": self.table_format},
            )
            self.log.info("The window of feed dates is %s to %s", run.window.start, run.window.end)
            self._plan(run, s3, account)
        if self.manifest_key is None:
            self.manifest_key = default_manifest_key(self.s3_key or "", context)
        if run.generation > 1:
            # What an order brought in an earlier run is not what it brings now.
            self.manifest_key = f"{self.manifest_key.removesuffix('.json')}-{run.generation}.json"
        return super().execute(context)

    _planned: tuple[FeedRun, Plan, Any] | None = None

    def _plan(self, run: FeedRun, s3: Any, account: str) -> Plan:
        """Read the window, or take what was read before, and have its reports created."""
        from airflow_provider_amzbiz.client.reconciliation import ReconciliationClient

        api = ReconciliationClient(self.hook.client.transport)
        plan = run.plan(api, _Known(self._ledger(s3, self.ledger, account, run)), stopped=self._stop_if_killed)
        self.requests = plan.batch_requests()
        self._planned = run, plan, s3
        return plan

    def _deliveries(self, s3: Any, ledger: str | None, account: str, owner: Mapping[str, Any]) -> FeedDeliveries:
        """Return what was delivered before, as the run's plan has it, whatever is rendered now."""
        if self._planned is None:
            run = self._feed(s3, ledger, account).begin(owner)
            self._planned = run, run.planned(), s3
        run, plan, _ = self._planned
        deliveries = self._ledger(s3, ledger, account, run)
        deliveries.use_plan(plan)
        return deliveries

    def _conclude(self, items: Sequence[Item]) -> Mapping[str, Any]:
        """Write the tables, and then advance the cursor."""
        from airflow_provider_amzbiz.feed.rows import Outcome

        if self._planned is None:
            raise AssertionError("the batch has asked for its deliveries")
        run, plan, s3 = self._planned
        numbers = {plan.fingerprint(number): number for number in plan.due}
        outcomes = {
            numbers[item.identity]: Outcome(
                objects=item.objects,
                reason=_CANCELLED if item.skipped else item.error,
                report_id=item.report_id,
                report_document_id=item.report_document_id,
                fetched_at=datetime.fromtimestamp(item.stored_at, timezone.utc) if item.stored_at else None,
                skipped=item.skipped,
                already_delivered=item.already_delivered,
            )
            for item in items
        }
        with translated_errors():
            tables = self._check_tables(s3, run.frozen["tables"], run.frozen["table_format"])
            return run.finish(plan, outcomes, tables)

    def _emit_lineage(self, context: Context, documents: Sequence[MovedDocument], **summary: Any) -> None:
        from airflow_provider_amzbiz.assets.reports import transactions_uri
        from airflow_provider_amzbiz.lineage import folder_of

        tables = summary.pop("tables", {})
        # Airflow 2 wants to hash the values of an event.
        summary |= {f"table_{name}": uris[-1] for name, uris in tables.items()}
        super()._emit_lineage(
            context,
            documents,
            inputs=[transactions_uri(urlsplit(self.hook.config.endpoint).netloc)],
            # A table is its folder: its files are as many as there are runs.
            outputs=[folder_of(uris[-1]) for uris in tables.values()],
            **summary,
        )

    def _feed(self, s3: Any, ledger: str | None, account: str) -> InvoiceFeed:
        from airflow_provider_amzbiz.batch.ledger import ledger_folder
        from airflow_provider_amzbiz.batch.object_store import ObjectStore
        from airflow_provider_amzbiz.feed.documents import Rules
        from airflow_provider_amzbiz.feed.run import FeedSettings, InvoiceFeed
        from airflow_provider_amzbiz.feed.state import FeedState

        bucket, prefix = ledger_folder(ledger)
        marketplace_id = self._default_marketplace_id()
        region = region_of_endpoint(self.hook.config.endpoint)
        if region is None and marketplace_id is not None:
            region = region_of_marketplace(marketplace_id)
        settings = FeedSettings(
            self.s3_key or "",
            Rules(tuple(self.document_types), marketplace_id, region),
            overlap=self.overlap,
            open_for=self.open_for,
            include_personal_data=self.include_personal_data,
            bucket=self.s3_bucket,
        )
        state = FeedState(ObjectStore(s3, bucket, self.extra_args), prefix, account)
        return InvoiceFeed(state, settings, clock=self.hook.api_time)

    def _default_marketplace_id(self) -> str | None:
        """Return the marketplace of the connection, where it has exactly one."""
        try:
            found = self.hook.report_request(_INVOICE).body["marketplaceIds"]
        except InvalidInputError:
            return None
        return found[0] if len(found) == 1 else None

    def _ledger(self, s3: Any, uri: str | None, account: str, run: FeedRun) -> FeedDeliveries:
        from airflow_provider_amzbiz.batch.ledger import Ledger
        from airflow_provider_amzbiz.transfers.feed_deliveries import FeedDeliveries

        ledger = Ledger(s3, uri or "", account=account, request_args=self.extra_args)
        return FeedDeliveries(ledger, verify=self.verify_delivered, by=run.name)

    def _check_tables(self, s3: Any, uri: str | None, form: str) -> Any:
        """Return the tables, None where none are wanted."""
        from airflow_provider_amzbiz.feed.tables import S3Tables

        return None if uri is None else S3Tables(s3, uri, form, self.extra_args)

    def _stop_if_killed(self) -> None:
        if self._killed:
            raise TaskKilledError("The task was ended while it read the feed; a retry reads it again")


class _Known:
    """The ledger, as the feed looks documents up in it."""

    def __init__(self, deliveries: FeedDeliveries) -> None:
        self.load = deliveries.load_documents
