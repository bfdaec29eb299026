"""The HTTP session of this process for documents: a new one would take longer than most documents."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

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

    from airflow_provider_amzbiz.documents.http_adapters import FinalResponses, SharedTls

    class NoRedirects(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            # allow_redirects=False would read the whole body of a redirect into memory.
            return None

    session = NoRedirects()
    session.mount("https://", SharedTls())
    session.mount("http://", FinalResponses())
    # A .netrc entry for the host would add an Authorization header, which S3 rejects in addition to a signature.
    session.auth = _no_authorization
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _no_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
