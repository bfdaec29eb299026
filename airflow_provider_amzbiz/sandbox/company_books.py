"""Writes the books of the sandbox's company: orders, and all that follows from them."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from airflow_provider_amzbiz.sandbox.company_amounts import invoiced_part, paid_part, rounded, scaled
from airflow_provider_amzbiz.sandbox.company_catalog import (
    COST_CENTERS,
    DIGITAL,
    GROUPS,
    LEGAL_ENTITIES,
    MARKETS,
    PRODUCTS,
    REFUND_REASONS,
    Market,
)
from airflow_provider_amzbiz.sandbox.company_random import CAPITALS, CompanyRandom
from airflow_provider_amzbiz.sandbox.company_records import (
    CREDIT_MEMO,
    INVOICE,
    ORDER_SUMMARY,
    BookDocument,
    BookLine,
    Books,
    BookTransaction,
    Version,
)

# What is particular about an order. All of them occur as soon as there are as many orders in a marketplace.
PLAIN, SPLIT, SHARED, INSTRUMENTS, NO_SHIPMENT, LATE_SHIPMENT, CONSOLIDATED, REFUNDED, MANY = (
    "plain", "split", "shared", "instruments", "no shipment", "late shipment", "consolidated", "refunded", "many",
)  # fmt: skip
_SCENARIOS = (PLAIN, CONSOLIDATED, SPLIT, REFUNDED, SHARED, NO_SHIPMENT, LATE_SHIPMENT, INSTRUMENTS, MANY)
_PERIOD = timedelta(days=7)
# A row is amended under its old feed date only so long after it; later, it is fed again.
_AMENDED_WITHIN = timedelta(days=2)


@dataclass
class _Draft:
    """A document whose lines are not known yet."""

    kind: str
    marketplace_id: str
    issued_at: datetime
    consolidated_number: str | None = None
    consolidates: list[str] = field(default_factory=list)
    related_number: str | None = None
    before: str = "left out"


@dataclass(frozen=True)
class _Order:
    """What the lines and transactions of an order have in common."""

    marketplace_id: str
    market: Market
    scenario: str
    placed: datetime
    by_invoice: bool
    legal_entity: str
    group: str

    @property
    def has_invoices(self) -> bool:
        """Whether there are invoices: in North America, only where they are what is paid by."""
        return self.market.region != "na" or self.by_invoice


def write_books(seed: int, orders: int, span: timedelta, start: datetime, marketplaces: Sequence[str]) -> Books:
    """Return the books; the same for the same parameters."""
    writer = _Writer(CompanyRandom(f"{seed} {list(marketplaces)}"), start)
    for number in range(orders):
        placed = start + span * (number / orders)
        # In turn, so that few orders are enough for every scenario, and later for each in every marketplace.
        turn, place = divmod(number, len(marketplaces))
        writer.order(marketplaces[place], _SCENARIOS[(turn + place) % len(_SCENARIOS)], placed)
    return writer.books()


class _Writer:
    """Writes order after order; what is random comes from one source, in a fixed sequence."""

    def __init__(self, random: CompanyRandom, start: datetime) -> None:
        self._random = random
        self._start = start
        self._drafts: dict[str, _Draft] = {}
        self._transactions: list[BookTransaction] = []
        self._consolidated: dict[tuple[str, int], str] = {}
        self._placed: dict[str, datetime] = {}

    def order(self, marketplace_id: str, scenario: str, placed: datetime) -> None:
        """Write an order, or two that are charged together."""
        pick = self._random
        about = _Order(
            marketplace_id,
            MARKETS[marketplace_id],
            scenario,
            placed,
            by_invoice=scenario not in (PLAIN, INSTRUMENTS),
            legal_entity=pick.choice(LEGAL_ENTITIES),
            group=pick.choice(GROUPS),
        )
        order_ids = [self._random.order_id(about.market) for _ in range(2 if scenario == SHARED else 1)]
        self._placed.update(dict.fromkeys(order_ids, placed))
        if scenario == NO_SHIPMENT:
            self._charge(about, [self._line(about, order_ids[0], DIGITAL, None)], placed, None)
        shipped = placed
        for _ in range(1 if scenario in (SHARED, SPLIT, MANY) else pick.randint(1, 2)):
            shipped += self._random.hours(8, 48)
            shipment = "D" + self._random.id(8, string.ascii_letters + string.digits)
            lines = [
                self._line(about, order_id, pick.choice(PRODUCTS), (shipment, shipped))
                for order_id in order_ids
                for _ in range(pick.randint(1, 3))
            ]
            self._shipment(about, lines, shipped)
        if not about.has_invoices:
            self._drafts[order_ids[0]] = _Draft(ORDER_SUMMARY, marketplace_id, shipped)

    def books(self) -> Books:
        """Return all that was written."""
        lines: defaultdict[str, list[BookLine]] = defaultdict(list)
        for transaction in self._transactions:
            for line in transaction.lines:
                lines[line.document_number or ""].append(line)
                draft = self._drafts.get(line.order_id)
                if draft and transaction.transaction_type == "CHARGE":
                    lines[line.order_id].append(line)
        documents = []
        for number, draft in self._drafts.items():
            own = [line for each in draft.consolidates or [number] for line in lines[each]]
            documents.append(
                BookDocument(
                    number, lines=tuple(own), **{**vars(draft), "consolidates": tuple(draft.consolidates)}
                )
            )
        return Books(tuple(self._transactions), tuple(documents), self._placed)

    def _shipment(self, about: _Order, lines: list[BookLine], shipped: datetime) -> None:
        """Write what a shipment is charged, invoiced and refunded by."""
        if about.scenario in (SPLIT, MANY):
            parts = [[invoiced_part(about.market, line, which) for line in lines] for which in (0, 1)]
        else:
            parts = [lines]
        for index, part in enumerate(parts):
            number = self._invoice(about, shipped) if about.has_invoices else None
            charged = self._charge(about, part, shipped, number)
            if about.scenario in (REFUNDED, MANY):
                issued = self._drafts[number].issued_at if number else shipped
                # Five documents in all for the first line of a shipment that has many, as in Amazon's own example.
                for _ in range(2 if about.scenario == MANY and index == 0 else 1):
                    self._refund(about, charged, issued, number)

    def _invoice(self, about: _Order, shipped: datetime) -> str:
        """Begin an invoice and return its number; in Europe, one of a period may be there already."""
        pick = self._random
        issued = shipped + pick.choice(
            [self._random.hours(1, 12), self._random.hours(24, 72), self._random.hours(150, 220)]
        )
        before = pick.choice(["left out", "null"])
        is_consolidated = about.scenario == CONSOLIDATED and about.market.region != "na"
        if not is_consolidated:
            number = self._random.document_number(about.market, "I")
            self._drafts[number] = _Draft(INVOICE, about.marketplace_id, issued, before=before)
            return number
        period = (issued - self._start) // _PERIOD
        key = (about.marketplace_id, period)
        if key not in self._consolidated:
            self._consolidated[key] = self._random.dashed_number()
            ends = self._start + (period + 1) * _PERIOD
            of_period = self._consolidated[key]
            self._drafts[of_period] = _Draft(INVOICE, about.marketplace_id, ends, consolidated_number=of_period)
        of_period = self._consolidated[key]
        if about.market.region == "eu":
            return of_period
        number = self._random.document_number(about.market, "I")
        self._drafts[number] = _Draft(
            INVOICE, about.marketplace_id, issued, consolidated_number=of_period, before=before
        )
        self._drafts[of_period].consolidates.append(number)
        return number

    def _charge(
        self, about: _Order, lines: list[BookLine], charged: datetime, number: str | None
    ) -> list[BookLine]:
        """Write one transaction, or two where two instruments pay; return the lines as they were charged."""
        if about.scenario != INSTRUMENTS:
            ids = [self._random.transaction_id()]
            parts = [lines]
        else:
            ids = [self._random.transaction_id(), self._random.transaction_id()]
            parts = [[paid_part(about.market, line, which) for line in lines] for which in (0, 1)]
        for index, (own_id, part) in enumerate(zip(ids, parts, strict=True)):
            others = tuple(each for each in ids if each != own_id)
            self._transaction(about, "CHARGE", own_id, part, charged, number, associated=others, instrument=index)
        return lines

    def _refund(self, about: _Order, charged: list[BookLine], issued: datetime, invoice: str | None) -> None:
        """Write the refund of a part of what was charged, and its credit memo where there are invoices."""
        pick = self._random
        refunded = max(issued, charged[0].shipment_date or issued) + self._random.hours(20, 96)
        reason = pick.choice(REFUND_REASONS)
        lines = [
            replace(line, refund_reason=reason, **scaled(about.market, line, Decimal("-0.25")))
            for line in charged[: pick.randint(1, len(charged))]
        ]
        number = None
        if invoice is not None:
            number = self._random.document_number(about.market, "C")
            self._drafts[number] = _Draft(
                CREDIT_MEMO, about.marketplace_id, refunded + self._random.hours(0, 60), related_number=invoice
            )
        kind = pick.choice(["REFUND", "REFUND", "OVERREFUND"])
        self._transaction(about, kind, self._random.transaction_id(), lines, refunded, number)

    def _transaction(
        self,
        about: _Order,
        kind: str,
        transaction_id: str,
        lines: list[BookLine],
        when: datetime,
        number: str | None,
        *,
        associated: tuple[str, ...] = (),
        instrument: int = 0,
    ) -> None:
        pick = self._random
        last4 = f"{pick.randrange(10_000):04d}"
        names = ["Visa", "AmazonGiftCard"]
        self._transactions.append(
            BookTransaction(
                transaction_id,
                about.marketplace_id,
                kind,
                when,
                tuple(replace(line, transaction_id=transaction_id, document_number=number) for line in lines),
                self._versions(about, when, number, is_charge=kind == "CHARGE"),
                "Pay by Invoice" if about.by_invoice else names[instrument],
                last4=None if about.by_invoice else last4,
                charge_identifier=None
                if about.by_invoice or about.market.region == "fe"
                else self._random.id(9, CAPITALS),
                associated=associated,
                legal_entity=about.legal_entity,
                group=about.group,
            )
        )

    def _versions(
        self, about: _Order, when: datetime, number: str | None, *, is_charge: bool
    ) -> tuple[Version, ...]:
        """Return how the API shows a transaction over time."""
        pick = self._random
        fed = when + self._random.hours(1, 30)
        late = pick.choice([timedelta(), timedelta(), self._random.hours(1, 44)])
        versions = [Version(fed + late, fed)]
        if about.scenario == LATE_SHIPMENT and is_charge:
            # Authorised first, and fed again when it is shipped and settled.
            again = fed + late + self._random.hours(72, 120)
            first = replace(versions[0], has_shipments=False, authorised=about.market.quantum * 100)
            versions = [first, Version(again, again)]
        issued = self._drafts[number].issued_at if number else None
        # Where a line has several invoices, the number on the row is all that assigns the row to one of them.
        must_show = about.scenario in (SPLIT, MANY)
        wants_number = pick.random() < 0.5 or must_show
        if issued is None or not wants_number:
            return tuple(versions)
        last = versions[-1]
        if issued <= last.appears_at:
            versions[-1] = replace(last, has_number=True)
        elif issued <= last.feed_date + _AMENDED_WITHIN:
            versions.append(replace(last, appears_at=issued, has_number=True))
        elif must_show:
            versions.append(replace(last, appears_at=issued, feed_date=issued, has_number=True))
        return tuple(versions)

    def _line(
        self,
        about: _Order,
        order_id: str,
        product: tuple[str, str, str, int],
        shipment: tuple[str, datetime] | None,
    ) -> BookLine:
        """Return a line of an order as it is charged in one transaction."""
        pick, quantum = self._random, about.market.quantum
        asin, title, unspsc, price = product
        # At least two where a line is invoiced in two parts.
        quantity = pick.randint(2, 6) if about.scenario in (SPLIT, MANY) else pick.randint(1, 4)
        principal = price * quantum * quantity
        shipping = pick.choice([0, 0, 299, 599]) * quantum
        gift_wrap = pick.choice([0, 0, 0, 399]) * quantum
        discount = -pick.choice([0, 0, 50, 125]) * quantum
        taxed = principal + shipping + gift_wrap + discount
        return BookLine(
            transaction_id="",
            marketplace_id=about.marketplace_id,
            order_id=order_id,
            order_line_item_id=self._random.id(14, string.digits),
            shipment_id=shipment[0] if shipment else None,
            shipment_date=shipment[1] if shipment else None,
            asin=asin,
            title=title,
            unspsc=unspsc,
            quantity=quantity,
            unit_price=price * quantum,
            principal=principal,
            shipping=shipping,
            gift_wrap=gift_wrap,
            regulatory_fee=pick.choice([0, 0, 0, 33]) * quantum,
            discount=discount,
            tax=rounded(taxed * about.market.tax_rate, quantum),
            document_number=None,
            purchase_order_number=pick.choice([None, f"PO-{pick.randrange(10_000)}"]),
            purchase_order_line_item_id=pick.choice([None, str(pick.randint(1, 9))]),
            cost_center=pick.choice(COST_CENTERS),
        )
