"""What the Reconciliation API 2021-01-08 returns: transactions, invoice details and payment details.

Attributes have the API's names in snake_case. See :class:`.JsonModel` for what is common to all of them: every
field is optional, and what is missing, null or ``""`` is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from airflow_provider_amzbiz.client.json_model import JsonModel

# Stands where the number of a consolidated invoice will be, until the invoice is issued.
PENDING = "Pending"


class TransactionType(StrEnum):
    """Kinds of transactions. A new one of the API stays the string that it is."""

    CHARGE = "CHARGE"
    REFUND = "REFUND"
    OVERREFUND = "OVERREFUND"


class InvoiceType(StrEnum):
    """Kinds of documents in invoice details."""

    STANDARD = "STANDARD"
    CREDIT_MEMO = "CREDIT_MEMO"


@dataclass(frozen=True)
class Money(JsonModel):
    """An amount, exactly as the API wrote it: ``"1751.0"`` and ``"1751.00"`` are equal."""

    currency_code: str | None = None
    amount: Decimal | None = None


@dataclass(frozen=True)
class Customer(JsonModel):
    """A buyer or payer. Name and e-mail address are personal data, so the repr leaves them out."""

    id: str | None = None
    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class AssociatedTransactionDetail(JsonModel):
    """Another transaction of the same purchase, which was split over several payment instruments."""

    associated_transaction_id: str | None = None


@dataclass(frozen=True)
class TransactionLineItem(JsonModel):
    """One line of an order in a transaction.

    :ivar order_id: here and not on the transaction, because one transaction may be about several orders.
    :ivar shipment_id: None for lines that have not shipped, digital goods and fees.
    :ivar business_order_info: the account's own fields, such as ``GL code``, by the names it gave them.
    """

    refund_reason: str | None = None
    total_amount: Money | None = None
    principal_amount: Money | None = None
    shipping_charge: Money | None = None
    regulatory_fee: Money | None = None
    gift_wrapping_charge: Money | None = None
    discount: Money | None = None
    tax: Money | None = None
    unit_price: Money | None = None
    tax_rate: str | None = None
    order_id: str | None = None
    unspsc: str | None = None
    order_line_item_id: str | None = None
    purchase_order_number: str | None = None
    purchase_order_line_item_id: str | None = None
    asin: str | None = None
    product_title: str | None = None
    item_quantity: int | None = None
    shipment_id: str | None = None
    shipment_date: datetime | None = None
    merchant_legal_name: str | None = None
    budget_id: str | None = None
    business_order_info: Mapping[str, str | None] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Transaction(JsonModel):
    """A charge or refund.

    :ivar feed_date: from when the transaction can be queried; the window of getTransactions filters by it.
    :ivar transaction_type: one of :class:`TransactionType`, or as it came where the API has a new one.
    :ivar amount: negative for refunds by the spec, but some accounts get them unsigned: take the sign from
        ``transaction_type``. Of an unsettled transaction, it is the authorised amount.
    :ivar invoice_number: of the invoice or credit memo; often None at first, and filled later.
    :ivar charge_identifier: joins card payments to the card's statement; North America and Europe only.
    """

    marketplace_id: str | None = None
    transaction_date: datetime | None = None
    feed_date: datetime | None = None
    transaction_type: str | None = None
    transaction_id: str | None = None
    charge_identifier: str | None = None
    ship_tax_rate: str | None = None
    gift_wrap_tax_rate: str | None = None
    legal_entity_name: str | None = None
    purchasing_customer_group_name: str | None = None
    invoice_number: str | None = None
    amount: Money | None = None
    payment_instrument_type: str | None = None
    payment_instrument_last4_digits: str | None = None
    buyer: Customer | None = None
    payer: Customer | None = None
    associated_transaction_details: tuple[AssociatedTransactionDetail, ...] = ()
    transaction_line_items: tuple[TransactionLineItem, ...] = ()


@dataclass(frozen=True)
class OrderLineItem(JsonModel):
    """The three ids by which invoice details are asked for and matched."""

    order_id: str | None = None
    order_line_item_id: str | None = None
    shipment_id: str | None = None


@dataclass(frozen=True)
class ConsolidatedInvoiceDetails(JsonModel):
    """The periodic invoice that an invoice is part of; its number is ``Pending`` until it is issued."""

    invoice_number: str | None = None


@dataclass(frozen=True)
class InvoiceParty(JsonModel):
    """Issuer or seller of a Japanese invoice, with its number for the consumption tax."""

    name: str | None = None
    registration_number: str | None = None


@dataclass(frozen=True)
class PhysicalAddress(JsonModel):
    """A postal address. It is personal data, so the repr leaves out all that names a person or a street."""

    address_type: str | None = None
    full_name: str | None = field(default=None, repr=False)
    phone_number: str | None = field(default=None, repr=False)
    company_name: str | None = field(default=None, repr=False)
    address_line1: str | None = field(default=None, repr=False)
    address_line2: str | None = field(default=None, repr=False)
    address_line3: str | None = field(default=None, repr=False)
    city: str | None = field(default=None, repr=False)
    state_or_region: str | None = None
    postal_code: str | None = field(default=None, repr=False)
    country_code: str | None = None


@dataclass(frozen=True)
class TaxDetail(JsonModel):
    """Tax of one rate; ``rate`` is a fraction, such as ``"0.1"``."""

    rate: str | None = None
    inclusive_total: Money | None = None
    exclusive_total: Money | None = None
    amount: Money | None = None


@dataclass(frozen=True)
class ItemApportionment(JsonModel):
    """The part of an item that belongs to one order line."""

    order_line_item_id: str | None = None
    line_number: int | None = None
    units: int | None = None
    unit_price: Money | None = None
    tax_amount: Money | None = None


@dataclass(frozen=True)
class LineFeeApportionment(JsonModel):
    """The part of an item's fee that belongs to one order line."""

    associated_order_line_item_id: str | None = None
    units: int | None = None
    unit_tax_exclusive_fee: Money | None = None
    unit_tax_amount: Money | None = None


@dataclass(frozen=True)
class LineFee(JsonModel):
    """A fee of an item; ``fee_type`` is ``SHIPPING``, ``GIFTWRAPPING`` or ``OTHER``."""

    fee_type: str | None = None
    tax: TaxDetail | None = None
    discount: Money | None = None
    apportionment: tuple[LineFeeApportionment, ...] = ()


@dataclass(frozen=True)
class InvoiceFeeApportionment(JsonModel):
    """A part of an invoice's fee."""

    tax_exclusive_fee: Money | None = None
    tax_amount: Money | None = None


@dataclass(frozen=True)
class InvoiceFee(JsonModel):
    """A fee of the whole invoice; ``fee_type`` is ``SHIPPING``, ``GIFTWRAPPING`` or ``OTHER``."""

    fee_type: str | None = None
    tax: TaxDetail | None = None
    discount: Money | None = None
    apportionment: tuple[InvoiceFeeApportionment, ...] = ()


@dataclass(frozen=True)
class TransactionDataItem(JsonModel):
    """An item of a Japanese invoice."""

    tax_rate: str | None = None
    unit: int | None = None
    asin: str | None = None
    title: str | None = None
    unit_tax_inclusive_price: Money | None = None
    unit_tax_exclusive_price: Money | None = None
    unit_tax_amount: Money | None = None
    total_amount: Money | None = None
    discount: Money | None = None
    apportionment: tuple[ItemApportionment, ...] = ()
    fees: tuple[LineFee, ...] = ()


@dataclass(frozen=True)
class InvoiceDetail(JsonModel):
    """An invoice or credit memo of an order line. From ``associated_invoice_number`` on, Japan only.

    :ivar invoice_number: None or ``Pending`` until it is issued.
    :ivar invoice_type: one of :class:`InvoiceType`, or as it came where the API has a new one.
    :ivar associated_invoice_number: of a credit memo, the invoice that it corrects.
    :ivar invoice_total: in ``currency_code``; positive for credit memos too.
    """

    invoice_number: str | None = None
    invoice_date: datetime | None = None
    consolidated_invoice_details: ConsolidatedInvoiceDetails | None = None
    invoice_type: str | None = None
    associated_invoice_number: str | None = None
    associated_invoice_date: datetime | None = None
    invoice_issuer: InvoiceParty | None = None
    bill_to_address: PhysicalAddress | None = None
    seller_information: InvoiceParty | None = None
    order_date: datetime | None = None
    currency_code: str | None = None
    invoice_total: Decimal | None = None
    tax: tuple[TaxDetail, ...] = ()
    transaction_data_items: tuple[TransactionDataItem, ...] = ()
    fees: tuple[InvoiceFee, ...] = ()


@dataclass(frozen=True)
class InvoiceDetailsByOrderLineItem(JsonModel):
    """All documents of one order line that exist so far; none where the API knows none yet."""

    order_line_item: OrderLineItem | None = None
    invoice_details: tuple[InvoiceDetail, ...] = ()


@dataclass(frozen=True)
class PaymentDetails(JsonModel):
    """Whether an invoice is paid; ``status`` is ``Issued``, ``Payment Processing``, ``Past Due`` or ``Closed``."""

    status: str | None = None
    due_date: datetime | None = None


@dataclass(frozen=True)
class InvoicePaymentError(JsonModel):
    """Why the API has no payment details of an invoice."""

    code: str | None = None
    message: str | None = None
    details: str | None = None


@dataclass(frozen=True)
class InvoicePaymentDetails(JsonModel):
    """Payment details of one invoice, or the reason that there are none.

    :ivar result_type: ``SUCCESS`` or ``ERROR``, as it came; None where the response left the invoice out.
    :ivar error: set whenever there is no success, also where the API gave no reason.
    """

    invoice_id: str | None = None
    result_type: str | None = None
    payment_details: PaymentDetails | None = None
    error: InvoicePaymentError | None = None
