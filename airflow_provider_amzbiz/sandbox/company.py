"""The company whose purchases the sandbox serves, and its books, by which a test can check what was fetched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS
from airflow_provider_amzbiz.sandbox.documents import pdf

INVOICE = "Invoice"
CREDIT_MEMO = "CreditMemo"
ORDER_SUMMARY = "OrderSummary"
# Order, order line, and shipment where there is one.
OrderLineIds = tuple[str, str, str | None]
AMOUNTS = ("principal", "shipping", "gift_wrap", "regulatory_fee", "discount", "tax")


@dataclass(frozen=True)
class BookLine:
    """One line of a transaction. Amounts are signed: those of refunds are negative.

    :ivar shipment_id: None for what never ships; the API may show a line without it at first.
    :ivar document_number: the one document that the amounts belong to; None where there will be none.
    """

    transaction_id: str
    marketplace_id: str
    order_id: str
    order_line_item_id: str
    shipment_id: str | None
    shipment_date: datetime | None
    asin: str
    title: str
    unspsc: str
    quantity: int
    unit_price: Decimal
    principal: Decimal
    shipping: Decimal
    gift_wrap: Decimal
    regulatory_fee: Decimal
    discount: Decimal
    tax: Decimal
    document_number: str | None
    purchase_order_number: str | None = None
    purchase_order_line_item_id: str | None = None
    refund_reason: str | None = None
    cost_center: str = ""

    @property
    def ids(self) -> OrderLineIds:
        """The three ids of the order line."""
        return self.order_id, self.order_line_item_id, self.shipment_id

    @property
    def total(self) -> Decimal:
        """What the line costs, with everything."""
        return sum((getattr(self, name) for name in AMOUNTS), Decimal(0))


@dataclass(frozen=True)
class Version:
    """A transaction as the API shows it from some time on, until the next version.

    :ivar appears_at: from when it is shown; up to two days after its own ``feed_date``, because rows come late.
    :ivar has_shipments: whether its lines have their shipment ids.
    :ivar has_number: whether it has the number of its document.
    :ivar authorised: added to the amount, which is only authorised until the transaction is settled.
    """

    appears_at: datetime
    feed_date: datetime
    has_shipments: bool = True
    has_number: bool = False
    authorised: Decimal = Decimal(0)


@dataclass(frozen=True)
class BookTransaction:
    """A charge or refund as it is in the end.

    :ivar versions: what the API shows of it, in the order of time.
    """

    transaction_id: str
    marketplace_id: str
    transaction_type: str
    transaction_date: datetime
    lines: tuple[BookLine, ...]
    versions: tuple[Version, ...]
    payment_instrument_type: str
    last4: str | None = None
    charge_identifier: str | None = None
    associated: tuple[str, ...] = ()
    legal_entity: str = ""
    group: str = ""

    @property
    def amount(self) -> Decimal:
        """The settled amount; negative for refunds."""
        return sum((line.total for line in self.lines), Decimal(0))

    @property
    def currency(self) -> str:
        """The currency of all amounts."""
        return MARKETS[self.marketplace_id].currency

    @property
    def appears_at(self) -> datetime:
        """When the API first shows it."""
        return self.versions[0].appears_at

    @property
    def feed_date(self) -> datetime:
        """The feed date of its last version."""
        return self.versions[-1].feed_date

    def version_at(self, now: datetime) -> Version | None:
        """Return what the API shows of it; None where it shows nothing yet."""
        return next((each for each in reversed(self.versions) if each.appears_at <= now), None)


@dataclass(frozen=True)
class BookDocument:
    """A document that exists from ``issued_at`` on.

    :ivar number: of an order summary, the id of the order.
    :ivar kind: ``Invoice``, ``CreditMemo`` or ``OrderSummary``.
    :ivar consolidated_number: of the consolidated invoice that it is part of, or that it is itself.
    :ivar consolidates: the numbers of other documents whose lines it repeats (Japan); in Europe a consolidated
        invoice is the only document of its lines.
    :ivar related_number: of a credit memo, its invoice.
    :ivar before: how the API shows an invoice before it is issued: ``left out`` or with the number ``null``.
    """

    number: str
    kind: str
    marketplace_id: str
    issued_at: datetime
    lines: tuple[BookLine, ...]
    consolidated_number: str | None = None
    consolidates: tuple[str, ...] = ()
    related_number: str | None = None
    before: str = "left out"

    @property
    def is_consolidated(self) -> bool:
        """Whether it is a consolidated invoice itself."""
        return self.number == self.consolidated_number

    @property
    def currency(self) -> str:
        """The currency of all amounts."""
        return MARKETS[self.marketplace_id].currency

    @property
    def total(self) -> Decimal:
        """The sum of its lines; negative for credit memos."""
        return sum((line.total for line in self.lines), Decimal(0))

    @property
    def tax(self) -> Decimal:
        """The tax in :attr:`total`."""
        return sum((line.tax for line in self.lines), Decimal(0))

    @property
    def order_ids(self) -> tuple[str, ...]:
        """The orders that it is about."""
        return tuple(dict.fromkeys(line.order_id for line in self.lines))


@dataclass(frozen=True)
class Books:
    """All that the company will ever have bought."""

    transactions: tuple[BookTransaction, ...]
    documents: tuple[BookDocument, ...]
    placed: Mapping[str, datetime]


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
    :param signed_refunds: whether the amounts of refunds are negative in responses, as in the spec, or
        unsigned, as has been seen.
    """

    seed: int = 1
    orders: int = 60
    days: float = 14
    start: datetime | None = None
    marketplaces: Collection[str] | None = None
    signed_refunds: bool = True

    def __post_init__(self) -> None:
        if self.orders < 0:
            raise ValueError(f"orders is {self.orders!r}, but must be at least 0")
        if self.days <= 0:
            raise ValueError(f"days is {self.days!r}, but must be above 0")
        if self.start is not None and self.start.utcoffset() is None:
            raise ValueError(f"start is {self.start!r}, but must be an aware time")
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
        return self._by_number[number]

    def transaction(self, transaction_id: str) -> BookTransaction:
        """Return a transaction by its id.

        :raises KeyError: there is none, and there will be none.
        """
        return self._by_id[transaction_id]

    def documents_of(self, order_line: OrderLineIds) -> tuple[BookDocument, ...]:
        """Return the documents that an order line will have, without those that repeat others."""
        return tuple(self._by_line.get(order_line, ()))

    def lines_of(self, order_line: OrderLineIds) -> tuple[BookLine, ...]:
        """Return the transaction lines of an order line."""
        return tuple(self._lines_by_ids.get(order_line, ()))

    @cached_property
    def _by_id(self) -> dict[str, BookTransaction]:
        return {each.transaction_id: each for each in self.transactions}

    @cached_property
    def _by_number(self) -> dict[str, BookDocument]:
        return {each.number: each for each in self.documents}

    @cached_property
    def _by_line(self) -> dict[OrderLineIds, list[BookDocument]]:
        found: defaultdict[OrderLineIds, list[BookDocument]] = defaultdict(list)
        for document in self.documents:
            for line in document.lines if document.kind != ORDER_SUMMARY and not document.consolidates else ():
                # Two of its lines may be of one order line.
                if document not in found[line.ids][-1:]:
                    found[line.ids].append(document)
        return found

    @cached_property
    def _lines_by_ids(self) -> dict[OrderLineIds, list[BookLine]]:
        found: defaultdict[OrderLineIds, list[BookLine]] = defaultdict(list)
        for line in self.lines:
            found[line.ids].append(line)
        return found

    @staticmethod
    def pdf(document: BookDocument) -> bytes:
        """Return a document as a report delivers it, inside its archive."""
        total = f"{document.total:f} {document.currency}"
        return pdf(f"{document.kind} {document.number}: {total}")

    @staticmethod
    def file_name(document: BookDocument) -> str:
        """Return the name of a document inside the archive of its report."""
        return f"{document.number}.pdf"
