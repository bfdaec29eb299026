"""Where the server is that holds the limits of all processes: Redis or Valkey."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoreAddress:
    """A Redis or Valkey server, a cluster of them, or one that sentinels name.

    :param name: what the user calls it, such as the id of an Airflow connection; for messages.
    :param host: host name or address.
    :param port: port, by default 6379.
    :param username: user of the server's ACL; None for the default user.
    :param password: its password; None without one.
    :param db: number of the database, by default 0.
    :param tls: arguments of redis-py that begin with ``ssl``, such as ``("ssl", True)``; empty without TLS.
    :param nodes: further nodes of a cluster, or the sentinels, as host and port.
    :param cluster: whether this is a cluster.
    :param sentinel_master: the name under which sentinels know the server; None without sentinels.
    """

    name: str
    host: str
    port: int = 6379
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: tuple[tuple[str, str | bool], ...] = ()
    nodes: tuple[tuple[str, int], ...] = ()
    cluster: bool = False
    sentinel_master: str | None = None
