"""Parts of a line's amounts, which add up to the cent."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from airflow_provider_amzbiz.sandbox.company_catalog import Market
from airflow_provider_amzbiz.sandbox.company_records import AMOUNTS, BookLine


def invoiced_part(market: Market, line: BookLine, which: int) -> BookLine:
    """Return one of two parts of a line that is invoiced twice, by the pieces in each."""
    first = line.quantity // 2
    quantity = (first, line.quantity - first)[which]
    principal = line.unit_price * first
    amounts = {**_halves(market, line), "principal": (principal, line.principal - principal)}
    parts: dict[str, Any] = {name: both[which] for name, both in amounts.items()}
    return replace(line, quantity=quantity, **parts)


def paid_part(market: Market, line: BookLine, which: int) -> BookLine:
    """Return what one of two instruments pays of a line."""
    shares: dict[str, Any] = {name: both[which] for name, both in _halves(market, line).items()}
    return replace(line, **shares)


def _halves(market: Market, line: BookLine) -> dict[str, tuple[Decimal, Decimal]]:
    """Return two amounts for each of a line's, which add up to it."""
    first = scaled(market, line, Decimal("0.4"))
    return {name: (amount, getattr(line, name) - amount) for name, amount in first.items()}


def scaled(market: Market, line: BookLine, factor: Decimal) -> dict[str, Any]:
    """Return all amounts of a line, multiplied and rounded."""
    return {name: rounded(getattr(line, name) * factor, market.quantum) for name in AMOUNTS}


def rounded(amount: Decimal, quantum: Decimal) -> Decimal:
    """Return an amount of whole quanta."""
    # Without the sign of a zero, which amounts on the wire do not have.
    return amount.quantize(quantum, ROUND_HALF_UP) + 0
