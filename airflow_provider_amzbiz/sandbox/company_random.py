"""What is random about the sandbox's company: the same for the same seed."""

from __future__ import annotations

import string
from datetime import timedelta
from random import Random

from airflow_provider_amzbiz.sandbox.company_catalog import Market

CAPITALS = string.ascii_uppercase + string.digits
_MIXED = string.ascii_letters + string.digits


class CompanyRandom(Random):
    """Random times, and ids of the shapes that Amazon's have."""

    def hours(self, at_least: float, at_most: float) -> timedelta:
        """Return a time span of whole seconds: in production, the API's times have no more."""
        return timedelta(seconds=self.randint(round(at_least * 3600), round(at_most * 3600)))

    def id(self, length: int, alphabet: str) -> str:
        """Return so many characters."""
        return "".join(self.choices(alphabet, k=length))

    def order_id(self, market: Market) -> str:
        """Return an id such as ``114-1458190-2465828``."""
        return f"{market.order_prefix}-{self.id(7, string.digits)}-{self.id(7, string.digits)}"

    def transaction_id(self) -> str:
        """Return an id such as ``1x47pVc03Ffs71cjjCct``."""
        return self.id(20, _MIXED)

    def dashed_number(self) -> str:
        """Return a number such as ``1XQX-T4VG-9939``, the shape of North America and of consolidated ones."""
        return "-".join(["1" + self.id(3, CAPITALS), self.id(4, CAPITALS), self.id(4, CAPITALS)])

    def document_number(self, market: Market, ending: str) -> str:
        """Return a number of the region's shape; ``I`` ends those of invoices, ``C`` those of credit memos."""
        if market.region == "na":
            return self.dashed_number()
        return f"{market.country}{self.id(9, CAPITALS)}{ending}"
