"""The HTTP session of this process for documents: a new one would take longer than most documents."""

from __future__ import annotations

import functools
import os
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

_lock = threading.Lock()
_sessions: dict[int, requests.Session] = {}


def document_session() -> requests.Session:
    """Return the session, which all threads share; it keeps neither cookies nor credentials nor connections.

    On a kept connection, surplus bytes of one response would be read as the next response.
    """
    # A forked process must not share its parent's session.
    pid = os.getpid()
    with _lock:
        if pid not in _sessions:
            _sessions.clear()
            _sessions[pid] = _new_session()
        return _sessions[pid]


def _new_session() -> requests.Session:
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter

    class NoRedirects(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            # allow_redirects=False would read the whole body of a redirect into memory.
            return None

    class SharedTls(HTTPAdapter):
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

    session = NoRedirects()
    session.mount("https://", SharedTls())
    # A .netrc entry for the host would add an Authorization header, which S3 rejects in addition to a signature.
    session.auth = _no_authorization
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


@functools.lru_cache(maxsize=8)
def _tls_context(bundle: Path, modified: int) -> ssl.SSLContext:  # noqa: ARG001
    """Return the TLS settings for a CA bundle, a file or a folder, in its version of that time."""
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(*((None, bundle) if bundle.is_dir() else (bundle, None)))
    return context


def _no_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
