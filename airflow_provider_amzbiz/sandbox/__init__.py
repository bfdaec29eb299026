"""The Amazon Business Reports API on your machine, for demos and tests. Needs the extra ``sandbox``.

``python -m airflow_provider_amzbiz.sandbox`` starts it; :class:`.Sandbox` is the same as an object, and the
pytest fixture ``amazon_business_sandbox`` gives one to a test.

The beginning of its ``invoiceId`` chooses the outcome of a report, without any scripting:

=============  ======================================================
``NO-DATA``    CANCELLED, as for a request without data
``FATAL``      FATAL without a document
``FATAL-DOC``  FATAL with a document that explains the reason
``SLOW``       DONE, after ten times the usual time
``MULTI``      DONE, with a ZIP of three PDFs
=============  ======================================================

The report type ``SANDBOX_ORDER_LINES`` exists only here: a TSV of any size, set by the options ``rows`` or
``bytes``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_amzbiz.sandbox.documents import RawDocument
    from airflow_provider_amzbiz.sandbox.faults import Fault
    from airflow_provider_amzbiz.sandbox.server import Sandbox

__all__ = ["Fault", "RawDocument", "Sandbox"]

_HOMES = {"Fault": "faults", "RawDocument": "documents", "Sandbox": "server"}


def __getattr__(name: str) -> Any:
    # pytest imports this package for its plugin in every test run, which must not load the web server.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The sandbox needs the extra 'sandbox': pip install 'airflow-provider-amzbiz[sandbox]' ({error})"
        ) from error
