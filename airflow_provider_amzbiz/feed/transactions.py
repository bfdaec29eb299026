"""The rows of transactions alone, without their documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from airflow_provider_amzbiz.feed.collect import Api
from airflow_provider_amzbiz.feed.lines import lines_of
from airflow_provider_amzbiz.feed.rows import Row, transaction_row
from airflow_provider_amzbiz.feed.spool import Spool


class TransactionRows:
    """The rows of a window, the latest version of each transaction, in little memory.

    :ivar transactions: how many there are.
    :ivar lines: how many rows they have.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.transactions = self.lines = 0

    def read(
        self,
        api: Api,
        start: datetime,
        end: datetime,
        *,
        include_personal_data: bool = False,
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Read all transactions of a window of feed dates.

        :param stopped: called after each; raises where the task is to end.
        """
        for transaction in api.get_transactions(start, end):
            self._spool.add(lines_of(transaction, include_personal_data=include_personal_data))
            stopped()
        counts = self._spool.counts()
        self.transactions, self.lines = counts["transactions"], counts["lines"]

    def rows(self, run_id: str, account: str) -> Iterator[Row]:
        """Yield the rows, with the columns of the table ``transactions``."""
        for line, _, _ in self._spool.lines():
            yield {**transaction_row(line, run_id), "account": account}
