"""The transactions of a time range to S3, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.exceptions import TaskKilledError, translated_errors
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import S3ConsoleLink
from airflow_provider_amzbiz.operators.reconciliation import GetTransactionsOperator
from airflow_provider_amzbiz.transfers.keys import (
    check_bucket,
    check_bucket_at_parsing,
    check_key,
    check_key_at_parsing,
    check_placeholders,
)
from airflow_provider_amzbiz.transfers.object_options import check_extra_args, is_known_at_parsing
from airflow_provider_amzbiz.transfers.s3_connection import s3_client

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_amzbiz.compat import Context
    from airflow_provider_amzbiz.lineage import Transfer


class TransactionsToS3Operator(GetTransactionsOperator):
    """Stores the transactions that became available in a time range as a table, a row for each order line.

    The columns are those of the table ``transactions`` of :class:`.InvoicesToS3Operator`. Rows may be amended
    and added for some days, so let ranges overlap, and replace rows by ``transaction_id`` and ``line_number``:
    by default each run begins three days before its data interval. A retry writes the same key again. However
    many there are, the task needs little memory. An object under the key is always replaced.

    The return value in XCom is a dict: ``uri``, ``transactions``, ``rows``, ``bytes``, ``feed_start`` and
    ``feed_end``. The events of assets in ``outlets`` carry the same.

    :param s3_bucket: the bucket. (templated)
    :param s3_key: the key; its ending chooses the format: ``.jsonl``, or ``.parquet``, which needs the extra
        ``parquet``. (templated)
    :param feed_start: start of the range of feed dates, an aware datetime or an ISO 8601 string with an offset;
        by default ``overlap`` before the start of the data interval. Where that interval is empty, as that of a
        plain cron schedule on Airflow 3, it is ``overlap`` before the end of the last successful run's.
        (templated)
    :param feed_end: end of the range, the same way; by default the end of the data interval. (templated)
    :param overlap: how long before the data interval the default range begins; a timedelta or seconds, by default
        three days. It does not move a ``feed_start`` that is given.
    :param include_personal_data: whether rows have ids, names and e-mail addresses of buyers and payers, by
        default not.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``, by default
        ``amazon_business_default``. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon``; None uses boto3's own credential
        chain. (templated)
    :param extra_args: more parameters of S3's PutObject and CreateMultipartUpload. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. (not templated)
    :param deferrable: wait in the triggerer, for up to seven days, where there is no permit for the first call;
        the next ones come every half a second. By default Airflow's ``[operators] default_deferrable``. (not
        templated)
    :raises InvalidInputError: a parameter is not allowed; Airflow does not retry it.
    """

    template_fields: Sequence[str] = (
        "s3_bucket",
        "s3_key",
        "aws_conn_id",
        "extra_args",
        *GetTransactionsOperator.template_fields,
    )
    template_fields_renderers = {"extra_args": "json"}
    operator_extra_links = (S3ConsoleLink(),)
    ui_color = "#f4b183"
    # What was written, once that is known.
    _transfer: Transfer | None = None
    # Where the AWS console shows what was written, once that is known.
    console_url: str | None = None

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_key: str,
        feed_start: datetime | str | None = None,
        feed_end: datetime | str | None = None,
        overlap: timedelta | float = timedelta(days=3),
        include_personal_data: bool = False,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        extra_args: Mapping[str, Any] | str | None = None,
        max_throttle_wait: timedelta | float = 3600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            feed_start=feed_start,
            feed_end=feed_end,
            overlap=overlap,
            max_transactions=None,
            include_personal_data=include_personal_data,
            amazon_business_conn_id=amazon_business_conn_id,
            max_throttle_wait=max_throttle_wait,
            deferrable=deferrable,
            **kwargs,
        )
        if isinstance(s3_bucket, str):
            check_bucket_at_parsing("s3_bucket", s3_bucket)
        if isinstance(s3_key, str):
            check_key_at_parsing("s3_key", s3_key)
        if is_known_at_parsing(extra_args):
            check_extra_args(extra_args)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.aws_conn_id = aws_conn_id
        # A mapping or None, once it is rendered and checked.
        self.extra_args: Any = extra_args

    def _call(self, context: Context) -> Any:
        from airflow_provider_amzbiz.batch.plan import check_string
        from airflow_provider_amzbiz.batch.table import table_format
        from airflow_provider_amzbiz.client.reconciliation import ReconciliationClient
        from airflow_provider_amzbiz.feed.spool import Spool
        from airflow_provider_amzbiz.feed.transactions import TransactionRows
        from airflow_provider_amzbiz.transfers.batch_actions import target_of

        with translated_errors(), Spool() as spool:
            for name in ("s3_bucket", "s3_key"):
                check_string(name, getattr(self, name))
            check_bucket("s3_bucket", self.s3_bucket)
            check_key("s3_key", self.s3_key)
            check_placeholders(self.s3_key, ())
            table_format("s3_key", self.s3_key)
            self.extra_args = check_extra_args(self.extra_args)
            start, end = self._range(context)
            s3, found = s3_client(self.aws_conn_id), TransactionRows(spool)
            found.read(
                ReconciliationClient(self.brief_hook.client.transport),
                start,
                end,
                include_personal_data=self.include_personal_data,
                stopped=self._after_each,
            )
            ti: Any = context["ti"]
            account = target_of(self.hook.config, self.s3_bucket).account
            stored = self._write(s3, found.rows(ti.run_id, account))
        S3ConsoleLink.show(self, context, s3, self.s3_bucket, self.s3_key)
        summary = {
            "uri": stored.uri,
            "transactions": found.transactions,
            "rows": found.lines,
            "bytes": stored.bytes,
            "feed_start": start.isoformat(),
            "feed_end": end.isoformat(),
        }
        self.log.info("Stored %(rows)s rows of %(transactions)s transactions: %(uri)s", summary)
        self._emit_lineage(context, summary)
        return summary

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the transactions and the table in S3, for Airflow's OpenLineage provider."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        return self._transfer.to_openlineage() if self._transfer else OperatorLineage()

    def _emit_lineage(self, context: Context, summary: Mapping[str, Any]) -> None:
        """Report the table to lineage, and in the events of the task's outlets."""
        from airflow_provider_amzbiz.assets.reports import transactions_uri
        from airflow_provider_amzbiz.compat import Asset, AssetAlias
        from airflow_provider_amzbiz.lineage import S3Output, Transfer

        host = urlsplit(self.hook.config.endpoint).netloc
        table = S3Output(self.s3_bucket, self.s3_key, summary["bytes"], 1, summary["rows"])
        self._transfer = Transfer(host, (), inputs=[transactions_uri(host)], outputs=[table])
        self._transfer.to_hook_lineage(self.hook)
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(summary)
            elif isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].add(Asset(uri=table.uri), extra=dict(summary))

    def _write(self, s3: Any, rows: Any) -> Any:
        from airflow_provider_amzbiz.batch.table import write_rows
        from airflow_provider_amzbiz.feed.columns import TRANSACTIONS

        return write_rows(
            rows, s3=s3, bucket=self.s3_bucket, key=self.s3_key, columns=TRANSACTIONS, extra_args=self.extra_args
        )

    def _after_each(self) -> None:
        self._stay()
        if self._killed:
            raise TaskKilledError("The task was ended while it read transactions; nothing was written")
