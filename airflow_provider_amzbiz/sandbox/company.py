"""The company whose purchases the sandbox serves, and its books, by which a test can check what was fetched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from airflow_provider_amzbiz.sandbox.company_records import (
    BookDocument,
    BookLine,
    Books,
    BookTransaction,
    OrderLineIds,
)
from airflow_provider_amzbiz.sandbox.documents import pdf


@dataclass
class Company:
    """A company with orders in several marketplaces; the same seed, start and marketplaces give the same books.

    Orders are shipped, invoiced, consolidated and refunded as time goes by: what the API shows follows from the
    sandbox's clock.

    :param seed: decides everything that is random.
    :param orders: how many orders there are.
    :param days: over how many days they are placed; what follows from an order may take three weeks more.
    :param start: when the first order is placed, aware; None for half the days before the sandbox is made, at
        midnight UTC.
    :param marketplaces: of the orders; None for those of the sandbox's region.
    :param signed_refunds: whether the amounts of refunds are negative in responses, as in the spec, or unsigned,
        as has been seen. With ``amount``, only the transaction's own amount is negative; with ``lines``, only
        those of its lines.
    """

    seed: int = 1
    orders: int = 60
    days: float = 14
    start: datetime | None = None
    marketplaces: Collection[str] | None = None
    signed_refunds: bool | Literal["amount", "lines"] = True

    def __post_init__(self) -> None:
        if self.orders < 0:
            raise ValueError(f"orders is {self.orders!r}, but must be at least 0")
        if self.days <= 0:
            raise ValueError(f"days is {self.days!r}, but must be above 0")
        if self.start is not None and self.start.utcoffset() is None:
            raise ValueError(f"start is {self.start!r}, but must be an aware time")
        if self.signed_refunds not in (True, False, "amount", "lines"):
            raise ValueError(
                f"signed_refunds is {self.signed_refunds!r}, but must be True, False, 'amount' or 'lines'"
            )
        if self.marketplaces is not None and not self.marketplaces:
            raise ValueError(f"marketplaces is {self.marketplaces!r}, but must have at least one, or be None")
        if unknown := set(self.marketplaces or ()) - set(MARKETS):
            raise ValueError(f"marketplaces has {sorted(unknown)}, but must have only {sorted(MARKETS)}")

    def settle(self, now: datetime, region: str) -> None:
        """Fill in what was left to the sandbox.

        :param region: ``na``, ``eu``, ``fe`` or ``any``.
        :raises ValueError: the company has a marketplace of another region.
        """
        if self.start is None:
            first = now - timedelta(days=self.days / 2)
            self.start = first.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.marketplaces is None:
            self.marketplaces = [each for each, market in MARKETS.items() if region in ("any", market.region)]
        for each in self.marketplaces:
            if region not in ("any", MARKETS[each].region):
                raise ValueError(f"marketplaces has {each!r}, which a sandbox of region {region!r} does not serve")

    @cached_property
    def books(self) -> Books:
        """All transactions and documents, past and future.

        :raises ValueError: ``start`` or ``marketplaces`` are left to a sandbox that does not have the company yet.
        """
        from airflow_provider_amzbiz.sandbox.company_books import write_books

        if self.start is None or self.marketplaces is None:
            raise ValueError("The company needs a start and marketplaces, or a sandbox that gives it both")
        # In the order of the table, because a set has none.
        marketplaces = [each for each in MARKETS if each in self.marketplaces]
        return write_books(self.seed, self.orders, timedelta(days=self.days), self.start, marketplaces)

    @property
    def transactions(self) -> tuple[BookTransaction, ...]:
        """All transactions, past and future."""
        return self.books.transactions

    @property
    def documents(self) -> tuple[BookDocument, ...]:
        """All documents, past and future."""
        return self.books.documents

    @property
    def lines(self) -> tuple[BookLine, ...]:
        """The lines of all transactions."""
        return tuple(line for each in self.transactions for line in each.lines)

    @property
    def end(self) -> datetime:
        """The time after which nothing changes any more."""
        shown = [version.appears_at for each in self.transactions for version in each.versions]
        issued = [each.issued_at for each in self.documents]
        placed = list(self.books.placed.values())
        return max([*shown, *issued, *placed], default=self.start or datetime.min)

    def transactions_at(self, now: datetime) -> tuple[BookTransaction, ...]:
        """Return the transactions that the API shows in some version."""
        return tuple(each for each in self.transactions if each.appears_at <= now)

    def documents_at(self, now: datetime) -> tuple[BookDocument, ...]:
        """Return the documents that exist."""
        return tuple(each for each in self.documents if each.issued_at <= now)

    def document(self, number: str) -> BookDocument:
        """Return a document by its number.

        :raises KeyError: there is none, and there will be none.
        """
        return self.books.by_number[number]

    def transaction(self, transaction_id: str) -> BookTransaction:
        """Return a transaction by its id.

        :raises KeyError: there is none, and there will be none.
        """
        return self.books.by_id[transaction_id]

    def documents_of(self, order_line: OrderLineIds) -> tuple[BookDocument, ...]:
        """Return the documents that an order line will have, without those that repeat others."""
        return tuple(self.books.documents_by_line.get(order_line, ()))

    def lines_of(self, order_line: OrderLineIds) -> tuple[BookLine, ...]:
        """Return the transaction lines of an order line."""
        return tuple(self.books.lines_by_ids.get(order_line, ()))

    @staticmethod
    def pdf(document: BookDocument) -> bytes:
        """Return a document as a report delivers it, inside its archive."""
        total = f"{document.total:f} {document.currency}"
        return pdf(f"{document.kind} {document.number}: {total}")

    @staticmethod
    def file_name(document: BookDocument) -> str:
        """Return the name of a document inside the archive of its report."""
        return f"{document.number}.pdf"
