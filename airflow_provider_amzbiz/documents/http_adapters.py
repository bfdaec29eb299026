"""How requests connects to document hosts."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import Any

import requests
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context

from airflow_provider_amzbiz.documents.http_connection import skip_interim_responses


class FinalResponses(HTTPAdapter):
    """Skips interim responses."""

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
        super().init_poolmanager(*arguments, **settings)
        skip_interim_responses(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **settings: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **settings)
        skip_interim_responses(manager)
        return manager


class SharedTls(FinalResponses):
    """Reads a CA bundle once: doing so for each connection takes longer than a small document."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        bundle = Path(DEFAULT_CA_BUNDLE_PATH if verify is True else verify or "")
        # For a missing one, cert_verify raises an error that names it.
        if verify and bundle.exists():
            tls.pop("ca_certs", None)
            tls.pop("ca_cert_dir", None)
            tls["ssl_context"] = _tls_context(bundle, bundle.stat().st_mtime_ns)
        return host, tls

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        if conn.conn_kw.get("ssl_context") is not None:
            conn.ca_certs = conn.ca_cert_dir = None


@functools.lru_cache(maxsize=8)
def _tls_context(bundle: Path, modified: int) -> ssl.SSLContext:  # noqa: ARG001
    """Return the TLS settings for a CA bundle, a file or a folder, as it was when last modified."""
    context = create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(*((None, bundle) if bundle.is_dir() else (bundle, None)))
    return context
