"""Connections that skip interim responses, such as 103 Early Hints (RFC 9110, 15.2).

``http.client`` skips 100 only, and takes any other interim response for the final one.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from urllib3 import PoolManager

_MAX_INTERIM = 20
_MAX_HEADERS = 100
_MAX_LINE = 8192
_SWITCHING_PROTOCOLS = 101


class _FinalResponse(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        """Read the status line of the final response.

        :raises http.client.HTTPException: too many interim responses precede it.
        """
        for _ in range(_MAX_INTERIM):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            status = line[1]
            if not 100 < status < 200 or status == _SWITCHING_PROTOCOLS:
                # http.client skips 100 itself.
                return line
            self._skip_headers()
        raise http.client.HTTPException(f"more than {_MAX_INTERIM} interim responses")

    def _skip_headers(self) -> None:
        for _ in range(_MAX_HEADERS):
            if self.fp.readline(_MAX_LINE) in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"an interim response with more than {_MAX_HEADERS} headers")


class _Connection(HTTPConnection):
    response_class = _FinalResponse


class _TlsConnection(HTTPSConnection):
    response_class = _FinalResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def skip_interim_responses(manager: PoolManager) -> None:
    """Have a pool manager, or that of a proxy, create such connections; a SOCKS proxy has its own."""
    ours: dict[type[HTTPConnectionPool], type[HTTPConnectionPool]] = {
        HTTPConnectionPool: _Pool,
        HTTPSConnectionPool: _TlsPool,
    }
    manager.pool_classes_by_scheme = {
        scheme: ours.get(pool, pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }
