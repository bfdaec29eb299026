"""What the books of the sandbox's company hold: transactions, their lines, and documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from airflow_provider_amzbiz.sandbox.company_catalog import MARKETS

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

    @cached_property
    def by_id(self) -> dict[str, BookTransaction]:
        """Transactions by their id."""
        return {each.transaction_id: each for each in self.transactions}

    @cached_property
    def by_number(self) -> dict[str, BookDocument]:
        """Documents by their number."""
        return {each.number: each for each in self.documents}

    @cached_property
    def documents_by_line(self) -> dict[OrderLineIds, list[BookDocument]]:
        """Documents by order line, without those that repeat others."""
        found: defaultdict[OrderLineIds, list[BookDocument]] = defaultdict(list)
        for document in self.documents:
            for line in document.lines if document.kind != ORDER_SUMMARY and not document.consolidates else ():
                # Two of its lines may be of one order line.
                if document not in found[line.ids][-1:]:
                    found[line.ids].append(document)
        return found

    @cached_property
    def lines_by_ids(self) -> dict[OrderLineIds, list[BookLine]]:
        """Transaction lines by order line."""
        found: defaultdict[OrderLineIds, list[BookLine]] = defaultdict(list)
        for line in (line for each in self.transactions for line in each.lines):
            found[line.ids].append(line)
        return found
