"""The one HTTP session of this process for documents: one for each would cost more than most documents do."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

_lock = threading.Lock()
_sessions: dict[int, requests.Session] = {}
# Connections that are kept for each host: as many documents are moved side by side.
_CONNECTIONS = 16


def document_session() -> requests.Session:
    """Return the session, which all threads share; it keeps connections, but neither cookies nor credentials."""
    # A process that was forked must not go on with its parent's connections.
    pid = os.getpid()
    with _lock:
        if pid not in _sessions:
            _sessions.clear()
            _sessions[pid] = _new_session()
        return _sessions[pid]


def _new_session() -> requests.Session:
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    # A .netrc entry for the host would add an Authorization header, which S3 refuses beside a signature.
    session.auth = _no_authorization
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_maxsize=_CONNECTIONS)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _no_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
