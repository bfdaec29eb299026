"""The connection's limit store: from the field to the server, and the test of it."""

from __future__ import annotations

import json
import os

import pytest

from airflow_provider_amzbiz.client.store_address import StoreAddress
from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.exceptions import ConnectionNotFoundError, InvalidInputError
from airflow_provider_amzbiz.hooks import rate_limit_store
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from dev.certificate import write_certificate
from dev.redis_server import RedisSentinel, RedisServer
from tests.client.limit_stores import real_only
from tests.conftest import connect


@pytest.fixture
def store(sandbox, monkeypatch):
    """Name the connection ``redis_default``, which the function that this returns defines."""
    connect(monkeypatch, sandbox, rate_limit_store=" redis_default\n")

    def define(extra=None, **fields):
        connection = {"conn_type": "redis", "host": "redis.example.com", **fields, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", json.dumps(connection))

    return define


def address():
    return AmazonBusinessHook().config.rate_limit_store


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"port": 6380, "login": "u", "password": "p"}, {"port": 6380, "username": "u", "password": "p"}),
        ({"password": "None"}, {}),
        ({"extra": {"db": 3}}, {"db": 3}),
        ({"extra": {"db": "3"}}, {"db": 3}),
        ({"schema": "2"}, {"db": 2}),
        (
            {"extra": {"ssl": True, "ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}},
            {"tls": (("ssl", True), ("ssl_cert_reqs", "required"), ("ssl_ca_certs", "/ca.pem"))},
        ),
        (
            {"extra": {"ssl": "true", "ssl_check_hostname": "false"}},
            {"tls": (("ssl", True), ("ssl_check_hostname", False))},
        ),
        ({"extra": {"ssl": False, "ssl_ca_certs": "/ca.pem"}}, {}),
        ({"conn_type": "rediss"}, {"tls": (("ssl", True),)}),
        (
            {"extra": {"cluster": True, "startup_nodes": "b:7000, c"}},
            {"cluster": True, "nodes": (("b", 7000), ("c", 6379))},
        ),
        (
            {"extra": {"sentinel_master": "mymaster", "sentinels": "b,c:26380"}},
            {"port": 26379, "sentinel_master": "mymaster", "nodes": (("b", 26379), ("c", 26380))},
        ),
    ],
)
def test_its_address_is_that_of_the_redis_connection(store, fields, expected):
    store(**fields)
    assert address() == StoreAddress(**{"name": "redis_default", "host": "redis.example.com", **expected})


def test_a_uri_is_a_connection_too(store, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", "rediss://u:p@redis.example.com:6380/4")
    assert address() == StoreAddress(
        "redis_default", "redis.example.com", 6380, username="u", password="p", db=4, tls=(("ssl", True),)
    )


def test_without_it_each_process_counts_for_itself(sandbox):
    assert address() is None
    assert not AmazonBusinessHook().token_bucket("createReport").is_shared


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("redis://:hunter2@host/0", "rate_limit_store is a URL, but must be the id .* a URL may hold a password"),
        ("hunter2 or so", "rate_limit_store is a string of 13 characters, but must be the id"),
        (["hunter2"], "rate_limit_store is a list, but must be the id"),
        ("amazon_business_default", "names a connection of another type, but must name one of type 'redis'"),
    ],
)
def test_a_wrong_value_is_named_but_not_shown(sandbox, monkeypatch, value, message):
    connect(monkeypatch, sandbox, rate_limit_store=value)
    with pytest.raises(InvalidInputError, match=message) as caught:
        address()
    assert "hunter2" not in str(caught.value)
    assert "'amazon_business_default'" in str(caught.value)


def test_a_missing_connection_is_named_but_not_shown(sandbox, monkeypatch):
    connect(monkeypatch, sandbox, rate_limit_store="hunter2")
    message = "The rate_limit_store of connection 'amazon_business_default' does not exist, or cannot be read"
    with pytest.raises(ConnectionNotFoundError, match=message) as caught:
        address()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": " "}, "host is missing"),
        ({"extra": {"db": -1}}, "db is a int, but must be an integer of at least 0"),
        ({"extra": {"db": "hunter2"}}, "db is a string of 7 characters"),
        ({"extra": {"ssl": "hunter2"}}, "ssl is a string of 7 characters, but must be true or false"),
        ({"extra": {"ssl": True, "ssl_cert_reqs": "hunter2"}}, "ssl_cert_reqs is a string of 7 characters"),
        ({"extra": {"cluster": True, "db": 1}}, "cluster is set together with db"),
        (
            {"extra": {"cluster": True, "startup_nodes": "b:hunter2"}},
            "startup_nodes has a node with a port that is not",
        ),
        ({"extra": {"cluster": 5}}, "cluster is a int, but must be true or false"),
    ],
)
def test_a_wrong_field_of_the_redis_connection_is_named_but_not_shown(store, fields, message):
    store(**fields)
    with pytest.raises(InvalidInputError, match=f"Connection 'redis_default': {message}") as caught:
        address()
    assert "hunter2" not in str(caught.value)


def test_without_the_package_the_error_says_what_to_install(store, monkeypatch):
    store()
    monkeypatch.setattr(rate_limit_store, "find_spec", lambda _: None)
    with pytest.raises(InvalidInputError, match=r"pip install 'airflow-provider-amzbiz\[redis\]'"):
        address()


@real_only
def test_the_connection_test_tells_that_the_store_works(store):
    with RedisServer(("requirepass", "hunter2")) as running:
        store(host="127.0.0.1", port=running.port, password="hunter2")
        works, message = AmazonBusinessHook().test_connection()
    assert works, message
    assert "The rate limit store 'redis_default' works. " in message


@real_only
def test_the_connection_test_tells_that_the_password_is_wrong(store):
    with RedisServer(("requirepass", "right")) as running:
        store(host="127.0.0.1", port=running.port, password="hunter2")
        works, message = AmazonBusinessHook().test_connection()
    assert not works
    assert "but the rate limit store 'redis_default' cannot be used (AuthenticationError" in message
    assert "hunter2" not in message


def test_the_connection_test_tells_that_there_is_no_server(store):
    store(host="127.0.0.1", port=free_port())
    works, message = AmazonBusinessHook().test_connection()
    assert not works
    assert (
        "has the role that getReport needs; but the rate limit store 'redis_default' cannot be used (Conn"
        in message
    )


def test_no_call_fails_because_there_is_no_server(store, sandbox):
    store(host="127.0.0.1", port=free_port())
    assert AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES") in sandbox.reports


@pytest.mark.main_path
@real_only
def test_the_keys_of_the_store_are_there_after_a_call(store):
    with RedisServer() as running:
        store(host="127.0.0.1", port=running.port)
        AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")
        (key,) = running.client(decode_responses=True).keys("*createReport*")
    assert key.startswith("amazon_business:limit:{")
    assert "AIRFLOW_CONN_REDIS_DEFAULT" in os.environ


@pytest.fixture
def cluster(store):
    """A Redis Cluster of one node, which the connection names."""
    # By default, the second port is 10,000 above the other one, which may be too high.
    with RedisServer(("cluster-enabled", "yes"), ("cluster-port", str(free_port()))) as running:
        with running.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                pass
        store({"cluster": True}, host="127.0.0.1", port=running.port)
        yield running


@real_only
def test_a_cluster_holds_all_keys_of_an_operation_together(cluster):
    works, message = AmazonBusinessHook().test_connection()
    assert works, message
    AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")
    assert AmazonBusinessHook().token_bucket("createReport")._last.burst


@real_only
def test_no_call_fails_because_a_cluster_has_died(cluster, sandbox, monkeypatch):
    monkeypatch.setattr("airflow_provider_amzbiz.client.limit_store.RETRY_SECONDS", 0)
    AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")
    cluster.kill()
    for _ in range(3):
        assert AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES") in sandbox.reports
    works, message = AmazonBusinessHook().test_connection()
    assert not works
    assert "but the rate limit store 'redis_default' cannot be used" in message


@pytest.mark.parametrize(
    ("extra", "host"),
    [({"cluster": True}, "127.0.0.1"), ({}, "redis..example"), ({"cluster": True}, "redis..example")],
)
def test_no_call_fails_because_there_is_no_such_server(store, sandbox, extra, host):
    store(extra, host=host, port=free_port())
    works, message = AmazonBusinessHook().test_connection()
    assert not works
    assert "but the rate limit store 'redis_default' cannot be used" in message
    assert AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES") in sandbox.reports


@pytest.fixture
def tls_server(tmp_path):
    """Start a server that speaks TLS; gives its port and the certificate to trust."""
    certificate, port = tmp_path / "certificate.pem", free_port()
    write_certificate(certificate)
    files = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    settings = [("tls-port", str(port)), ("tls-auth-clients", "no"), *((name, str(certificate)) for name in files)]
    with RedisServer(*settings):
        yield port, str(certificate)


@real_only
@pytest.mark.parametrize("conn_type", ["redis", "rediss"])
def test_a_server_with_tls_is_used(store, tls_server, conn_type):
    port, certificate = tls_server
    store({"ssl": True, "ssl_ca_certs": certificate}, conn_type=conn_type, host="127.0.0.1", port=port)
    works, message = AmazonBusinessHook().test_connection()
    assert works, message
    AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")
    assert AmazonBusinessHook().token_bucket("createReport")._last.burst


@real_only
@pytest.mark.parametrize("extra", [{"ssl": True}, {}], ids=["an unknown authority", "without TLS"])
def test_a_server_whose_certificate_is_not_trusted_is_not_used(store, tls_server, sandbox, extra):
    port, _ = tls_server
    store(extra, host="127.0.0.1", port=port)
    works, message = AmazonBusinessHook().test_connection()
    assert not works
    assert "but the rate limit store 'redis_default' cannot be used" in message
    assert AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES") in sandbox.reports


@real_only
def test_a_sentinel_tells_where_the_server_is(store):
    with RedisServer() as running, RedisSentinel("mymaster", running) as sentinel:
        store({"sentinel_master": "mymaster"}, host="127.0.0.1", port=sentinel.port)
        works, message = AmazonBusinessHook().test_connection()
        assert works, message
        AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")
        with running.client() as client:
            assert client.keys("*createReport*")
