"""Reports and transactions as assets of Airflow, by URIs of the scheme ``amazon-business``.

===========================================================  ================================================
``amazon-business://<API host>/reports/<type>/<report id>``  one report; ``-`` where its type is not known
``amazon-business://<API host>/reports/<type>``              all reports of a type
``amazon-business://<API host>/documents/<document id>``     a document of which only its id is known
``amazon-business://<API host>/transactions``                the transactions of the Reconciliation API
===========================================================  ================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset

    from airflow_provider_amzbiz.compat import Asset

SCHEME = "amazon-business"


def report_uri(host: str, report_type: str | None, report_id: str | None = None) -> str:
    """Return the URI of a report, or, without an id, of all reports of a type."""
    names = [report_type or "-", report_id] if report_id else [report_type or "-"]
    return _uri(host, "reports", *names)


def document_uri(host: str, report_document_id: str) -> str:
    """Return the URI of a document whose report is not known."""
    return _uri(host, "documents", report_document_id)


def transactions_uri(host: str) -> str:
    """Return the URI of an account's transactions."""
    return _uri(host, "transactions")


def dataset_name(uri: str) -> tuple[str, str]:
    """Return OpenLineage's namespace and name for a URI of this scheme."""
    parts = urlsplit(uri)
    return f"{SCHEME}://{parts.netloc}", parts.path.lstrip("/")


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check an asset's URI, and return it normalized, so that equal ones are the same.

    :raises ValueError: it names no host, or neither a report, nor a type, nor a document, nor the transactions.
    """
    kind, *names = uri.path.strip("/").split("/")
    counts = {"reports": (1, 2), "documents": (1,), "transactions": (0,)}
    if not uri.netloc or len(names) not in counts.get(kind, ()) or not all(names):
        raise ValueError(
            f"The URI is {uri.geturl()!r}, but must be like {SCHEME}://<API host>/reports/<type>, "
            f"{SCHEME}://<API host>/reports/<type>/<report id>, {SCHEME}://<API host>/documents/<document id> or "
            f"{SCHEME}://<API host>/transactions"
        )
    return uri._replace(netloc=uri.netloc.lower())


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:  # noqa: ARG001
    """Return the OpenLineage dataset of an asset; Airflow's OpenLineage provider calls this."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    namespace, name = dataset_name(asset.uri)
    return Dataset(namespace=namespace, name=name)


def _uri(host: str, *names: str) -> str:
    return f"{SCHEME}://{host.lower()}/{'/'.join(quote(name, safe='') for name in names)}"
