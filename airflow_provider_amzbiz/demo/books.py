"""What a feed can know of the sandbox's company at a time, by its books."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from airflow_provider_amzbiz.sandbox import Company
from airflow_provider_amzbiz.sandbox.company_records import (
    CREDIT_MEMO,
    INVOICE,
    ORDER_SUMMARY,
    BookDocument,
    BookLine,
)


def available_documents(
    company: Company, now: datetime, document_types: Iterable[str] = (INVOICE, CREDIT_MEMO, ORDER_SUMMARY)
) -> list[BookDocument]:
    """Return the documents that a feed whose windows reach until now must have.

    They exist, and the API shows a transaction of theirs. A summary must wait until all of its order has shipped,
    as far as the transactions tell.
    """
    return [
        each
        for each in company.documents_at(now)
        if each.kind in document_types
        and (all if each.kind == ORDER_SUMMARY else any)(is_shown(company, line, now) for line in each.lines)
    ]


def is_shown(company: Company, line: BookLine, now: datetime) -> bool:
    """Return whether the API shows a transaction's line with the ids that lead to its documents."""
    version = company.transaction(line.transaction_id).version_at(now)
    return version is not None and version.has_shipments and version.feed_date <= now


def has_final_sum(company: Company, document: BookDocument, now: datetime) -> bool:
    """Return whether a feed can know all lines of a document, and no other document of theirs is to come."""
    issued = set(company.documents_at(now))
    return all(is_shown(company, line, now) for line in document.lines) and all(
        issued.issuperset(company.documents_of(line.ids)) for line in document.lines
    )
