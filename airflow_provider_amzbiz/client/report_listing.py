"""getReports: its filters as a query, and its pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from airflow_provider_amzbiz.client import marketplaces, parameters
from airflow_provider_amzbiz.client.errors import InvalidParameterError, UnavailableError
from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.client.page_tokens import PageTokens
from airflow_provider_amzbiz.client.transport import Transport


class ListQuery(NamedTuple):
    """A checked query of getReports.

    :ivar encoded: as it goes on the wire, with its question mark.
    :ivar token: the ``nextToken`` in it, if any.
    """

    encoded: str
    token: str | None


def list_query(
    *,
    endpoint: str,
    report_types: str | Iterable[str] | None = None,
    processing_statuses: str | Iterable[str] | None = None,
    marketplace_ids: str | Iterable[str] | None = None,
    page_size: int = 100,
    created_since: datetime | str | None = None,
    created_until: datetime | str | None = None,
    next_token: str | None = None,
) -> ListQuery:
    """Check the filters, or the token of an earlier response, which must be sent alone.

    :param endpoint: base URL of the API, whose region the marketplaces must be of, where both are known.
    :raises InvalidParameterError: one of them is not allowed.
    """
    if next_token not in (None, ""):
        if report_types or processing_statuses or marketplace_ids or created_since or created_until:
            raise InvalidParameterError("next_token is given together with filters, but must be given alone")
        return _continued(parameters.required_string("next_token", next_token))
    marketplace_list = None
    if marketplace_ids is not None:
        marketplace_list = parameters.listed_marketplace_ids(marketplace_ids)
        marketplaces.check_region(marketplace_list, endpoint)
    since, until = parameters.window(
        ("created_since", created_since), ("created_until", created_until), past=False
    )
    query = {
        "reportTypes": parameters.report_types(report_types),
        "processingStatuses": (
            None if processing_statuses is None else parameters.processing_statuses(processing_statuses)
        ),
        "marketplaceIds": marketplace_list,
        "pageSize": str(parameters.page_size(page_size)),
        "createdSince": since,
        "createdUntil": until,
    }
    return ListQuery(_encoded(query), None)


def read_page(transport: Transport, query: ListQuery) -> tuple[list[Report], str | None]:
    """Return one page of reports, and the token of the next one, None on the last one."""
    response = transport.call("getReports", "GET", "/reports/2021-09-30/reports", query=query.encoded)
    if not isinstance(response, dict) or not isinstance(response.get("reports"), list):
        raise UnavailableError("getReports returned no list of reports", operation="getReports")
    token = response.get("nextToken") or None
    if token is not None and not (isinstance(token, str) and token.isascii()):
        raise UnavailableError(
            "getReports returned a nextToken that is not an ASCII string", operation="getReports"
        )
    # All that a single page can show; whoever follows the tokens remembers more.
    tokens = PageTokens()
    tokens.check(query.token)
    tokens.check(token)
    return [Report.from_api(each) for each in response["reports"]], token


def read_pages(transport: Transport, query: ListQuery) -> Iterator[Report]:
    """Yield the reports of all pages; each page is one call, made when the iterator reaches it."""
    tokens = PageTokens()
    tokens.check(query.token)
    while True:
        reports, token = read_page(transport, query)
        tokens.check(token)
        yield from reports
        if token is None:
            return
        # Not checked as a user's is: whatever the API returns is what it expects back.
        query = _continued(token)


def _continued(token: str) -> ListQuery:
    return ListQuery(_encoded({"nextToken": token}), token)


def _encoded(values: Mapping[str, str | list[str] | None]) -> str:
    """Encode a query: lists comma separated, everything else strictly, so that ``+/=`` survive."""
    parts = []
    for name, value in values.items():
        if value is not None:
            several = [value] if isinstance(value, str) else value
            parts.append(f"{name}=" + ",".join(quote(each, safe="") for each in several))
    return "?" + "&".join(parts)
