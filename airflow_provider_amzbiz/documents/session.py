"""The one HTTP session of this process for documents: one for each would cost more than most documents do."""

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

    What a host has sent too much on a kept connection would be taken for the response to the next request.
    """
    # A process that was forked must not share its parent's.
    pid = os.getpid()
    with _lock:
        if pid not in _sessions:
            _sessions.clear()
            _sessions[pid] = _new_session()
        return _sessions[pid]


def _new_session() -> requests.Session:
    from http.cookiejar import DefaultCookiePolicy

    import requests

    class NoRedirects(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            # Not allow_redirects=False, which reads the whole body of a redirect into memory.
            return None

    session = NoRedirects()
    # A .netrc entry for the host would add an Authorization header, which S3 refuses beside a signature.
    session.auth = _no_authorization
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _no_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
