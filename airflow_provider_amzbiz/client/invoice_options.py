"""The report options of ``GET_AB_INVOICE_PDF``."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from airflow_provider_amzbiz.client.errors import InvalidParameterError

INVOICE_TYPE = "GET_AB_INVOICE_PDF"
INVOICE_OPTIONS = ("invoiceId", "orderId", "orderLineItemId", "shipmentId", "documentType")


def check_names(report_type: str, names: Iterable[str]) -> None:
    """Reject an option that invoices do not have; options of other types are not known here.

    :raises InvalidParameterError: it names the option, the closest match, and all allowed options.
    """
    if report_type != INVOICE_TYPE:
        return
    for name in names:
        if name not in INVOICE_OPTIONS:
            raise InvalidParameterError(
                f"report_options has {name!r}, which {INVOICE_TYPE} does not have{_hint(name)}; its options are "
                f"{', '.join(INVOICE_OPTIONS)}"
            )


def _hint(name: str) -> str:
    by_letters = {_letters(option): option for option in INVOICE_OPTIONS}
    nearest = get_close_matches(_letters(name), by_letters, n=1, cutoff=0.5)
    return f" (did you mean {by_letters[nearest[0]]!r}?)" if nearest else ""


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
