"""One limit for several processes: buckets that share a store, and what they do while it is gone."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fakeredis
import pytest

from airflow_provider_amzbiz.client import limit_store, shared_bucket
from airflow_provider_amzbiz.client.errors import ThrottledError
from airflow_provider_amzbiz.client.limit_store import LimitStore
from airflow_provider_amzbiz.client.reports import ReportsClient
from airflow_provider_amzbiz.client.shared_bucket import SharedBucket
from airflow_provider_amzbiz.client.store_address import StoreAddress
from airflow_provider_amzbiz.client.token_bucket import TokenBucket, token_buckets
from airflow_provider_amzbiz.client.usage_plan import USAGE_PLAN, Limit
from airflow_provider_amzbiz.sandbox import Fault, Sandbox
from dev.redis_server import RedisServer
from tests.client.clients import LINES, US, account_of
from tests.client.limit_stores import real_only, real_server

OPERATION = "createReport"


class Server:
    """A Redis server that can be taken away."""

    def __init__(self):
        self.redis = fakeredis.FakeServer()

    def connect(self, _address=None):
        return fakeredis.FakeRedis(server=self.redis)

    def kill(self):
        self.redis.connected = False

    def start(self):
        self.redis.connected = True


@pytest.fixture
def server():
    return Server()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr(limit_store, "RETRY_SECONDS", 0.0)


def process(server, limit=None):
    """Return the bucket of a process of its own."""
    store = LimitStore(StoreAddress("store", "127.0.0.1"), connect=server.connect)
    local = TokenBucket(USAGE_PLAN[OPERATION])
    if limit:
        local.fix(limit)
    return SharedBucket(local, store, f"0123:{OPERATION}")


def take(bucket, **arguments):
    """Return 0 where a permit is there at once, else the seconds until it is expected."""
    ticket = bucket.join(**arguments)
    left = bucket.claim(ticket)
    if left:
        bucket.leave(ticket)
    return left


def test_two_processes_share_the_burst(server):
    one, other = process(server), process(server)
    assert one.take_up_to(10) == 10
    assert other.take_up_to(10) == 4
    assert take(one) == pytest.approx(5.0, abs=0.5)


def test_they_are_served_in_the_order_of_asking(server):
    one, other = process(server), process(server)
    one.throttled()
    tickets = [(bucket, bucket.join()) for bucket in (one, other, one, other)]
    lefts = [bucket.claim(ticket) for bucket, ticket in tickets]
    assert lefts == pytest.approx([15.0, 25.0, 35.0, 45.0], abs=0.5)
    assert other.waiting == 4


def test_a_caller_learns_its_time_once_and_asks_again_only_then(server, monkeypatch):
    bucket = process(server)
    bucket.throttled()
    ticket = bucket.join()
    calls = []
    monkeypatch.setattr(bucket._store, "call", lambda *_: calls.append(1))
    assert bucket.claim(ticket) == pytest.approx(15.0, abs=0.5)
    assert bucket.pause(15.0) == pytest.approx(15.0, abs=0.01)
    assert calls == []


def test_a_call_that_was_throttled_goes_before_those_of_other_processes(server):
    one, other = process(server), process(server)
    one.throttled()
    waiting = other.join()
    assert one.claim(one.join(first=True)) == pytest.approx(15.0, abs=0.5)
    other._tickets[waiting].check_at = 0.0
    assert other.claim(waiting) == pytest.approx(25.0, abs=0.5)


def test_a_429_of_one_process_moves_the_others(server):
    one, other = process(server), process(server)
    one.take_up_to(14)
    waiting = other.join()
    other._tickets[waiting].check_at = 0.0
    one.throttled(retry_after=60)
    assert other.claim(waiting) > 60


def test_what_one_process_learns_holds_for_all(server):
    one, other = process(server), process(server)
    one.learn(2.0)
    assert take(other) == 0
    assert other.limit == Limit(2.0, 15)
    assert other.rate == 2.0


def test_the_slowest_limit_of_several_deployments_counts(server):
    one, other = process(server, Limit(0.05, 5)), process(server)
    assert take(one) == take(other) == 0
    assert other.limit == Limit(0.05, 5)


def test_what_only_the_server_can_refuse_is_an_error(server):
    bucket = process(server)
    with pytest.raises(ValueError, match="from 1 to the burst, 15"):
        bucket.join(16)


# The store is gone.


def test_the_process_s_own_limit_takes_over(server, caplog):
    bucket = process(server)
    failures = []
    bucket._store.on_failure = lambda: failures.append(1)
    server.kill()
    with caplog.at_level(logging.WARNING):
        assert take(bucket) == pytest.approx(15.0, abs=0.5), "others have used the burst"
        assert take(bucket) == pytest.approx(15.0, abs=0.5)
    assert len(failures) >= 2
    assert caplog.text.count("The rate limit store 'store' cannot be used (ConnectionError") == 1, "once a minute"


def test_a_store_that_fails_is_left_alone_for_some_seconds(server, monkeypatch):
    monkeypatch.setattr(limit_store, "RETRY_SECONDS", 60.0)
    bucket = process(server)
    server.kill()
    take(bucket)
    server.start()
    assert not bucket._store.is_due
    take(bucket)
    assert bucket._is_alone


def test_it_is_used_again_when_it_is_back(server, caplog):
    bucket = process(server)
    bucket.throttled()
    place = bucket.join()
    server.kill()
    with caplog.at_level(logging.INFO):
        during = bucket.join()
        assert bucket.claim(during) > 0
        server.start()
        newcomer = process(server).join()
        assert bucket.claim(during) == pytest.approx(35.0, abs=0.5), "behind who asked the store meanwhile"
    assert newcomer
    assert bucket.claim(place) == pytest.approx(15.0, abs=0.5), "its place has been kept"
    assert "The rate limit store 'store' is used again" in caplog.text


def test_what_was_used_without_the_store_is_told_once_though_many_ask_at_the_same_time(server, monkeypatch):
    bucket = process(server, Limit(50.0, 15))
    server.kill()
    bucket.take_up_to(15)
    time.sleep(0.2)
    used = bucket.take_up_to(4)
    assert used == 4
    server.start()
    call, told, all_there = LimitStore.call, [], threading.Barrier(4)

    def call_together(store, key, arguments):
        told.append(arguments[-2])
        all_there.wait(10)
        return call(store, key, arguments)

    monkeypatch.setattr(LimitStore, "call", call_together)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bucket.take_up_to, [1] * 4))

    assert sorted(told) == [0, 0, 0, 4]


def test_what_was_used_without_the_store_is_told_when_it_is_back_at_last(server, monkeypatch):
    bucket = process(server, Limit(50.0, 15))
    server.kill()
    bucket.take_up_to(15)
    time.sleep(0.2)
    assert bucket.take_up_to(4) == 4
    call, told = LimitStore.call, []
    monkeypatch.setattr(LimitStore, "call", lambda *given: told.append(given[2][-2]) or call(*given))
    bucket.take_up_to(1)
    server.start()
    bucket.take_up_to(1)
    bucket.take_up_to(1)

    assert [told[0], told[1] >= 4, told[2]] == [4, True, 0]


def test_all_keep_their_places_when_the_server_has_lost_everything(server):
    one, other = process(server), process(server)
    one.throttled()
    first, second = one.join(), other.join()
    server.connect().flushall()
    for bucket, ticket in ((other, second), (one, first)):
        bucket._tickets[ticket].check_at = 0.0
        bucket.claim(ticket)
    other._tickets[second].check_at = 0.0
    assert one.claim(first) < other.claim(second) - 5


def test_permits_that_were_reserved_come_when_the_store_has_said(server):
    bucket = process(server)
    bucket.throttled()
    ticket = bucket.join()
    due = bucket._tickets[ticket].due
    server.kill()
    bucket._tickets[ticket].check_at = 0.0
    assert bucket.claim(ticket) == pytest.approx(due - time.monotonic(), abs=0.5)
    bucket._tickets[ticket].due = bucket._tickets[ticket].check_at = 0.0
    bucket._local._tokens = 2.0
    assert bucket.claim(ticket) == 0


def test_a_server_that_has_lost_everything_does_not_give_the_burst_again(server):
    bucket = process(server)
    assert bucket.take_up_to(14) == 14
    server.connect().flushall()
    assert take(bucket) > 5


def test_an_error_of_ours_is_not_taken_for_one_of_the_server(server):
    bucket = process(server)
    with pytest.raises(TypeError):
        bucket._store.call("key", None)


def test_no_secret_is_in_keys_or_values(server, monkeypatch):
    monkeypatch.setattr(limit_store, "_connect", server.connect)
    with Sandbox(throttle=False) as sandbox:
        account = with_store(account_of(sandbox), "secrets")
        client = ReportsClient(account)
        client.create_report(LINES, [US])
        redis = server.connect()
        held = [*redis.keys("*")]
        for key in redis.keys("*"):
            kind = redis.type(key).decode()
            held.append(redis.hgetall(key) if kind == "hash" else redis.zrange(key, 0, -1, withscores=True))
        for secret in (*account._secrets, account.client_id, account.endpoint, "Atz"):
            assert secret not in str(held)
    assert held


def with_store(account, name):
    return replace(account, rate_limit_store=StoreAddress(name, "127.0.0.1"), source=name)


# A real server, and processes' own clients of the API.


@pytest.fixture(params=["in this process", real_server])
def address(request, monkeypatch):
    if request.param == "real":
        with RedisServer(("requirepass", "hunter2")) as running:
            yield StoreAddress(f"real-{running.port}", "127.0.0.1", running.port, password="hunter2")
    else:
        server = Server()
        monkeypatch.setattr(limit_store, "_connect", server.connect)
        yield StoreAddress(f"fake-{id(server)}", "127.0.0.1")


def clients(sandbox, address, count, **settings):
    """Return clients that know nothing of each other, as in several processes."""
    found = []
    for number in range(count):
        account = replace(account_of(sandbox), rate_limit_store=replace(address, name=f"{address.name}-{number}"))
        client = ReportsClient(account, **settings)
        local = {operation: TokenBucket(limit) for operation, limit in USAGE_PLAN.items()}
        store = LimitStore(account.rate_limit_store)
        shared = {
            name: SharedBucket(each, store, f"{account.account_hash}:{name}") for name, each in local.items()
        }
        client._transport._buckets = client._transport._permits.buckets = shared
        found.append(client)
    return found


@pytest.mark.slow
def test_many_clients_are_hardly_ever_throttled(address):
    with Sandbox(time_scale=40, queue_seconds=0, processing_seconds=0) as sandbox:
        several = clients(sandbox, address, 8)
        several[0].create_report(LINES, [US])
        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(several[n % 8].create_report, LINES, [US]) for n in range(39)]
            assert len({each.result() for each in done}) == 39

        assert sandbox.count(OPERATION, status=429) <= 1


def test_a_throttled_call_keeps_its_place_among_all_clients(address):
    limit = {OPERATION: Limit(4.0, 1)}
    with Sandbox(throttle=False) as sandbox:
        sandbox.inject(Fault(operation=OPERATION, kind="status", status=429, times=2))
        several = clients(sandbox, address, 4)
        for each in several:
            each._transport._buckets[OPERATION]._local.fix(limit[OPERATION])
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(several[0].create_report, LINES, [US], report_options={"rows": 1})
            while not sandbox.count(OPERATION):
                time.sleep(0.01)
            others = [
                pool.submit(each.create_report, LINES, [US], report_options={"rows": 2}) for each in several[1:]
            ]
            for each in (first, *others):
                each.result()

        rows = [each.report_options["rows"] for each in sandbox.reports.values()]
        assert rows == ["1", "2", "2", "2"]


def test_a_call_that_may_not_wait_names_the_time_and_leaves_the_queue(address):
    with Sandbox(throttle=False) as sandbox:
        (client,) = clients(sandbox, address, 1, max_throttle_wait=0)
        bucket = client._transport._buckets[OPERATION]
        bucket.throttled()
        with pytest.raises(ThrottledError, match="createReport may be called again in 15 s"):
            client.create_report(LINES, [US])
        bucket.take_up_to(1)
        assert bucket.waiting == 0


def test_all_connections_of_an_account_use_the_store_that_one_of_them_names(sandbox):
    plain = account_of(sandbox)
    local = token_buckets(plain)[OPERATION]
    assert not local.is_shared
    stored = with_store(account_of(sandbox), "named")
    shared = token_buckets(stored)[OPERATION]
    assert shared.is_shared
    assert token_buckets(plain)[OPERATION] is shared
    assert token_buckets(replace(stored, rate_limit_store=None))[OPERATION] is local


@real_only
def test_a_real_server_that_is_killed_and_started_again():
    with RedisServer() as running:
        store = LimitStore(StoreAddress("killed", "127.0.0.1", running.port))
        bucket = SharedBucket(TokenBucket(Limit(50.0, 5)), store, f"0123:{OPERATION}")
        bucket._local.fix(Limit(50.0, 5))
        stop, given, errors = threading.Event(), [], []

        def call():
            while not stop.is_set():
                ticket = bucket.join()
                try:
                    while left := bucket.claim(ticket):
                        time.sleep(bucket.pause(left))
                except Exception as error:
                    errors.append(error)
                    raise
                given.append(bucket._is_alone)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for each in threads:
            each.start()

        def wait_for(alone):
            known = len(given)
            while alone not in given[known:]:
                time.sleep(0.01)

        wait_for(False)
        running.kill()
        wait_for(True)
        running.start()
        wait_for(False)
        stop.set()
        for each in threads:
            each.join()
        assert errors == []


def test_the_constants_of_the_script_are_numbers():
    head = limit_store.script().split("-- Reserves")[0]
    for line in head.splitlines():
        float(line.rpartition("=")[2])
    assert shared_bucket._LATE < limit_store.GRACE


def test_while_the_store_is_gone_a_429_makes_a_call_wait_as_long_as_without_one(server):
    bucket = process(server)
    assert bucket.join()
    assert bucket.unshared is None
    server.kill()
    bucket.throttled()
    assert bucket.unshared is bucket._local
