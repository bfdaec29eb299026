"""What the sandbox's company buys, and what is particular to each marketplace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Market:
    """A marketplace.

    :ivar quantum: the smallest amount of its currency.
    :ivar scale: the decimals that amounts have on the wire; Japan's have one, although no yen has any.
    """

    region: str
    country: str
    currency: str
    tax_rate: Decimal
    order_prefix: str
    seller: str
    quantum: Decimal = Decimal("0.01")
    scale: Decimal = Decimal("0.01")


MARKETS: Mapping[str, Market] = {
    "ATVPDKIKX0DER": Market("na", "US", "USD", Decimal("0.0825"), "114", "Amazon.com Services LLC"),
    "A2EUQ1WTGCTBG2": Market("na", "CA", "CAD", Decimal("0.13"), "702", "Amazon.com.ca ULC"),
    "A1AM78C64UM0Y8": Market("na", "MX", "MXN", Decimal("0.16"), "701", "Servicios Comerciales Amazon México"),
    "A1PA6795UKMFR9": Market("eu", "DE", "EUR", Decimal("0.19"), "302", "Amazon EU S.à r.l."),
    "A13V1IB3VIYZZH": Market("eu", "FR", "EUR", Decimal("0.20"), "404", "Amazon EU S.à r.l."),
    "A1F83G8C2ARO7P": Market("eu", "GB", "GBP", Decimal("0.20"), "203", "Amazon EU S.à r.l., UK Branch"),
    "A1RKKUPIHCS9HS": Market("eu", "ES", "EUR", Decimal("0.21"), "405", "Amazon EU S.à r.l."),
    "APJ6JRA9NG5V4": Market("eu", "IT", "EUR", Decimal("0.22"), "403", "Amazon EU S.à r.l."),
    "A1VC38T7YXB528": Market(
        "fe", "JP", "JPY", Decimal("0.10"), "250", "アマゾンジャパン合同会社", Decimal(1), Decimal("0.1")
    ),
}

# ASIN, title, UNSPSC, price in hundredths of the currency; of yen, the price is as many whole ones.
PRODUCTS = (
    ("B07T8K1HJG", "Pencils, HB, box of 72", "44121700", 599),
    ("B01FV0F8H8", "Copy paper A4 80 g, 2500 sheets", "14111507", 2489),
    ("B08N5WRWNW", "Nitrile gloves, size L, box of 100", "42132203", 1399),
    ("B09JQMJHXY", "USB-C docking station, 11 ports", "43211602", 17999),
    ("B07ZPKBL9V", "Ergonomic office chair, black", "56112102", 24950),
    ("B00004Z5M1", "Coffee beans, 1 kg, medium roast", "50201706", 1649),
    ("B003VANOFY", "Network cable Cat 6a, 5 m", "26121609", 829),
)
DIGITAL = ("B0DIGITAL1", "Drawing software, one year, one seat", "43232103", 11988)
LEGAL_ENTITIES = ("Example Holding Inc.", "Example Trading GmbH", "Example Labs")
GROUPS = ("Facilities", "IT", "Research")
COST_CENTERS = ("CC-100", "CC-200", "")
REFUND_REASONS = ("Customer Return", "Damaged in transit", "Price adjustment")
