"""Why a request got no response, described without its URL and headers, which may hold secrets."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3.exceptions import SSLError


def no_response_errors() -> tuple[type[Exception], ...]:
    """Return what ``requests`` raises for a request without a response, including what it does not wrap.

    That is ``OSError`` for a missing CA bundle, and errors of urllib3 for contradictory headers.
    """
    import requests
    from urllib3.exceptions import HTTPError

    return (requests.RequestException, HTTPError, OSError, ValueError)


def never_connected(error: Exception) -> bool:
    """Return whether the request cannot have reached the server."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, LocationValueError, NewConnectionError, SSLError

    if isinstance(error, (*_unsendable(), LocationValueError)):
        return True
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        # From reading the CA bundle; an error of the connection is wrapped.
        return True
    cause = _cause(error)
    if isinstance(cause, SSLError):
        # Only from a handshake; another one may occur after the server has read the request.
        return _untrusted(cause)
    return isinstance(cause, (NewConnectionError, ConnectTimeoutError))


def reason(error: Exception) -> str:
    """Return what a user needs to find the cause, such as ``DNS does not know the host``."""
    import requests
    from urllib3.exceptions import NameResolutionError, NewConnectionError, SSLError

    cause = _cause(error)
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return "the file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names cannot be read"
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return "the proxy URL is invalid"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy rejected the request"
    if isinstance(cause, NameResolutionError):
        return "DNS does not know the host"
    if isinstance(cause, SSLError):
        return "its certificate is not trusted" if _untrusted(cause) else "TLS failed"
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(cause, NewConnectionError) and isinstance(cause.__cause__, OSError) and cause.__cause__.strerror:
        return cause.__cause__.strerror.lower()
    return type(error).__name__


def _unsendable() -> tuple[type[Exception], ...]:
    from requests import exceptions

    return (exceptions.InvalidURL, exceptions.InvalidHeader, exceptions.InvalidSchema, exceptions.MissingSchema)


def _cause(error: Exception) -> object:
    from urllib3.exceptions import MaxRetryError

    cause = error.args[0] if error.args else None
    return cause.reason if isinstance(cause, MaxRetryError) else cause


def _untrusted(error: SSLError) -> bool:
    return bool(error.args) and isinstance(error.args[0], ssl.SSLCertVerificationError)
