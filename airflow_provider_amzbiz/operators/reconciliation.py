"""An operator for the Reconciliation API: what was charged and refunded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.reconciliation_models import Transaction
from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.exceptions import translated_errors
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.base import AmazonBusinessOperator, BrieflyWaitingOperator

if TYPE_CHECKING:
    from airflow_provider_amzbiz.compat import BaseOperatorLink, Context

# What names a person, in a buyer or payer.
_PERSONAL = ("name", "email", "extra")


class GetTransactionsOperator(BrieflyWaitingOperator):
    """Lists the transactions that became available in a time range, with their order lines.

    Rows may be amended and added for some days, so let ranges overlap, and replace rows by ``transaction_id``: by
    default each run begins three days before its data interval. A retry reads that range again.

    The return value in XCom is a list of dicts: the attributes of :class:`.Transaction` by name, amounts as
    strings such as ``"5.99"``, times in ISO 8601 with their offset. Airflow stores it in its database, so a range
    with more than ``max_transactions`` is an error; nothing is left out silently.

    :param feed_start: start of the range of feed dates, an aware datetime or an ISO 8601 string with an offset;
        by default ``overlap`` before the start of the data interval. Where that interval is empty, as that of a
        plain cron schedule on Airflow 3, it is ``overlap`` before the end of the last successful run's.
        (templated)
    :param feed_end: end of the range, the same way; by default the end of the data interval. (templated)
    :param overlap: how long before the data interval the default range begins; a timedelta or seconds, by default
        three days. It does not move a ``feed_start`` that is given.
    :param max_transactions: maximum number of transactions of a run; more fail the task. By default 1,000; None
        for no limit, where an XCom backend keeps large values elsewhere. (not templated)
    :param include_personal_data: whether buyers and payers have names and e-mail addresses, by default not; their
        ids stay.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``, by default
        ``amazon_business_default``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit before
        the task fails with :class:`.ThrottledError`, which Airflow retries; by default 3600. (not templated)
    :param deferrable: wait in the triggerer, for up to seven days, where there is no permit for the first call;
        the next ones come every half a second. By default Airflow's ``[operators] default_deferrable``. (not
        templated)
    :raises InvalidInputError: a parameter is not allowed, or there are more than ``max_transactions``; Airflow
        does not retry it.
    """

    template_fields: Sequence[str] = ("feed_start", "feed_end", *AmazonBusinessOperator.template_fields)
    operator_extra_links: Collection[BaseOperatorLink] = ()
    # Whether rows were read: from then on the task stays on its worker.
    _is_reading = False

    def __init__(
        self,
        *,
        feed_start: datetime | str | None = None,
        feed_end: datetime | str | None = None,
        overlap: timedelta | float = timedelta(days=3),
        max_transactions: int | None = 1000,
        include_personal_data: bool = False,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        max_throttle_wait: timedelta | float = 3600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            amazon_business_conn_id=amazon_business_conn_id,
            max_throttle_wait=max_throttle_wait,
            deferrable=deferrable,
            **kwargs,
        )
        with translated_errors():
            self.overlap = parameters.seconds("overlap", overlap, zero=True)
            parameters.boolean("include_personal_data", include_personal_data)
            if max_transactions is not None:
                max_transactions = parameters.positive_integer("max_transactions", max_transactions)
        self.feed_start = feed_start
        self.feed_end = feed_end
        self.max_transactions = max_transactions
        self.include_personal_data = include_personal_data

    def _call(self, context: Context) -> Any:
        with translated_errors():
            start, end = self._range(context)
            found: list[dict[str, Any]] = []
            for each in self.brief_hook.get_transactions(start, end):
                self._stay()
                if self.max_transactions is not None and len(found) >= self.max_transactions:
                    raise InvalidParameterError(
                        f"There are more than {self.max_transactions} transactions from {start} to {end}, but "
                        "max_transactions allows no more; narrow the range, raise max_transactions, or write them "
                        "to S3 with TransactionsToS3Operator"
                    )
                found.append(self._row(each))
        self.log.info("Found %s transactions with feed dates from %s to %s", len(found), start, end)
        return found

    def _stay(self) -> None:
        """Stay on the worker: two permits a second make a wait between two pages shorter than a deferral."""
        if not self._is_reading:
            self._is_reading = True
            self.brief_hook.client.transport.wait_longer(self.max_throttle_wait)

    def _progress(self) -> Mapping[str, Any] | None:
        return None if self._is_reading else {}

    def _range(self, context: Context) -> tuple[datetime, datetime]:
        start, end = self.feed_start, self.feed_end
        if start is None:
            start = self._default_start(context) - timedelta(seconds=self.overlap)
        if end is None:
            end = self._interval(context, "end", "feed_end")
        # Here and not in the hook, whose parameters have other names.
        parameters.window(("feed_start", start), ("feed_end", end), past=False)
        return parameters.time("feed_start", start), parameters.time("feed_end", end)

    def _default_start(self, context: Context) -> datetime:
        start = self._interval(context, "start", "feed_start")
        # Airflow 3 gives the runs of a plain cron schedule empty intervals, so only the run before tells the gap.
        before: Any = context.get("prev_data_interval_end_success")
        if start == context.get("data_interval_end") and isinstance(before, datetime):
            return min(start, before)
        return start

    def _interval(self, context: Context, side: str, name: str) -> datetime:
        time: Any = context.get(f"data_interval_{side}")
        if not isinstance(time, datetime):
            raise InvalidParameterError(
                f"{name} is None, but must be a time, because this run has no data interval to take it from"
            )
        return time

    def _row(self, transaction: Transaction) -> dict[str, Any]:
        row = transaction.to_dict()
        if not self.include_personal_data:
            for person in filter(None, (row["buyer"], row["payer"])):
                for name in _PERSONAL:
                    del person[name]
        return row
