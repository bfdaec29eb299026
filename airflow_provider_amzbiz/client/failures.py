"""Why a request got no answer: in words that name neither its URL nor its headers, which may hold secrets."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3.exceptions import SSLError


def never_connected(error: OSError) -> bool:
    """Tell whether the request cannot have reached the server."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError

    if not isinstance(error, requests.RequestException):
        # It is raised while the connection is prepared.
        return True

    cause = _cause(error)
    if isinstance(cause, SSLError):
        # Of a handshake only; another one may come when the request has been read.
        return _untrusted(cause)
    return isinstance(cause, (NewConnectionError, ConnectTimeoutError))


def reason(error: OSError) -> str:
    """Return what a person has to know to look in the right place, such as ``DNS does not know the host``."""
    import requests
    from urllib3.exceptions import NameResolutionError, NewConnectionError, SSLError

    if not isinstance(error, requests.RequestException):
        return str(error)
    cause = _cause(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not let it through"
    if isinstance(cause, NameResolutionError):
        return "DNS does not know the host"
    if isinstance(cause, SSLError):
        return "its certificate is not trusted" if _untrusted(cause) else "TLS failed"
    if isinstance(error, requests.Timeout):
        return "nothing came in time"
    if isinstance(cause, NewConnectionError) and isinstance(cause.__cause__, OSError) and cause.__cause__.strerror:
        return cause.__cause__.strerror.lower()
    return type(error).__name__


def _cause(error: OSError) -> object:
    from urllib3.exceptions import MaxRetryError

    cause = error.args[0] if error.args else None
    return cause.reason if isinstance(cause, MaxRetryError) else cause


def _untrusted(error: SSLError) -> bool:
    return bool(error.args) and isinstance(error.args[0], ssl.SSLCertVerificationError)
