"""Limit stores for tests: a server in this process, and the real one where it is installed."""

from __future__ import annotations

import fakeredis
import pytest

from airflow_provider_amzbiz.client import limit_store
from airflow_provider_amzbiz.client.limit_store import LimitStore, Reply
from airflow_provider_amzbiz.client.store_address import StoreAddress
from dev.redis_server import redis_server

real_only = pytest.mark.skipif(redis_server() is None, reason="Debian's package redis-server is not installed")
real_server = pytest.param("real", marks=real_only)
KEY = "0123:createReport"
PLAN = (0.1, 15)


class TimedStore(LimitStore):
    """A store whose server has the clock of the test.

    :ivar client: a client of redis-py.
    """

    def __init__(self, client):
        super().__init__(StoreAddress("test", "127.0.0.1"), connect=lambda _: client)
        self.client = client
        client.flushall()
        self.now = 1_700_000_000.0

    def _run(self, keys, arguments):
        self.client.set("clock", f"{self.now:.6f}")
        timed = limit_store.script().replace("redis.call('TIME')", "{redis.call('GET', 'clock'), 0}")
        return self.client.eval(timed, len(keys), *keys, *arguments)

    def act(
        self, action, ticket="", *, place=0, count=1, value=None, plan=PLAN, own=(None, None), used=0, idle=None
    ):
        """Run one action and return the reply."""
        reply: Reply = self.call(KEY, [action, ticket, place, count, value, *plan, *own, used, idle])
        return reply


def timed_store():
    """Return a store with a clock of its own, on a server in this process."""
    return TimedStore(fakeredis.FakeRedis())
