"""The report options of ``GET_AB_INVOICE_PDF``: those in Amazon's examples for each region, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from airflow_provider_amzbiz.sandbox.marketplaces import REGION_OF
from airflow_provider_amzbiz.sandbox.responses import CONSTRAINT, MISSING, invalid

INVOICE = "GET_AB_INVOICE_PDF"
OPTIONS = frozenset({"invoiceId", "orderId", "orderLineItemId", "shipmentId", "documentType"})
# Amazon's examples show the last two with a US marketplace only; the name of a credit memo in Europe and Japan is
# not known.
_DOCUMENT_TYPES: Mapping[str, frozenset[str]] = {
    "na": frozenset({"Invoice", "Credits", "OrderSummary"}),
    "eu": frozenset({"Invoice"}),
    "fe": frozenset({"Invoice"}),
}
# See the package's docstring.
_CHOOSING = ("NO-DATA", "FATAL", "SLOW", "MULTI")
_LINE = ("orderLineItemId", "shipmentId")


def check(marketplace_ids: list[str], options: Mapping[str, str]) -> None:
    """Reject options by which no invoice can be requested. No options at all are accepted: they name no invoice.

    :param marketplace_ids: known ones.
    :raises ErrorResponse: the request is not one of the documented forms.
    """
    if len(marketplace_ids) > 1:
        raise invalid(CONSTRAINT, "marketplaceIds;")
    region = REGION_OF[marketplace_ids[0]]
    _check_values(region, options)
    if options:
        _check_ids(region, options)


def has_data(options: Mapping[str, str], known: Collection[str] | None) -> bool:
    """Return whether a request names an invoice or order that exists.

    :param known: the existing invoice and order ids; None for all.
    """
    name = options.get("invoiceId") or options.get("orderId")
    return name is not None and (known is None or name in known or chooses_outcome(options))


def chooses_outcome(options: Mapping[str, str]) -> bool:
    """Return whether the beginning of the invoice id chooses the outcome: such an invoice always exists."""
    return options.get("invoiceId", "").startswith(_CHOOSING)


def _check_values(region: str, options: Mapping[str, str]) -> None:
    for name, value in options.items():
        # Reconciliation shows "Pending" for an invoice that has no number yet.
        pending = name == "invoiceId" and value.strip().lower() == "pending"
        if name not in OPTIONS or not value.strip() or pending:
            raise invalid(CONSTRAINT, _details(name))
    if options.get("documentType", "Invoice") not in _DOCUMENT_TYPES[region]:
        raise invalid(CONSTRAINT, _details("documentType"))


def _check_ids(region: str, options: Mapping[str, str]) -> None:
    is_summary = options.get("documentType") == "OrderSummary"
    if is_summary or any(name in options for name in _LINE):
        _require(options, "orderId")
    if "invoiceId" in options and not is_summary:
        return
    if "orderId" not in options:
        raise invalid(MISSING, "reportOptions;")
    if region == "na" and not is_summary:
        _require(options, "documentType")
        raise invalid(CONSTRAINT, _details("documentType"))
    if region == "fe":
        _require(options, *_LINE)


def _require(options: Mapping[str, str], *names: str) -> None:
    if missing := [name for name in names if name not in options]:
        raise invalid(MISSING, _details(*missing))


def _details(*names: str) -> str:
    return "".join(f"reportOptions.{name};" for name in names)
