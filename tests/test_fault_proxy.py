"""The fault proxy produces the faults that other tests rely on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from dev.fault_proxy import FaultProxy, Toxic

DATA = bytes(range(256)) * 1000


@pytest.fixture
def echo():
    """A server that echoes what it receives, until its client disconnects."""
    listener = socket.create_server(("127.0.0.1", 0))
    received = []

    def serve(connection):
        with connection:
            try:
                while piece := connection.recv(65536):
                    received.append(piece)
                    connection.sendall(piece)
            except OSError:
                pass

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], received
    listener.close()


@pytest.fixture
def proxy(echo):
    with FaultProxy("127.0.0.1", echo[0]) as running:
        yield running


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(proxy, data=DATA):
    """Send data and return the echo."""
    with connect(proxy) as client:
        threading.Thread(target=_send, args=(client, data), daemon=True).start()
        back = b""
        while piece := client.recv(65536):
            back += piece
        return back


def _send(client, data):
    try:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_it_forwards(proxy):
    assert exchange(proxy) == DATA
    assert exchange(proxy, b"") == b""
    assert proxy.accepted == 2


def test_hundreds_of_connections_at_once(proxy):
    clients = [connect(proxy) for _ in range(300)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    for number, client in enumerate(clients):
        assert client.recv(10) == b"%d" % number
        client.close()


@pytest.mark.parametrize("after", [0, 1, 1000, len(DATA) - 1])
def test_a_cut_response_ends_early(proxy, after):
    proxy.add(Toxic("down", "cut", after=after))
    assert exchange(proxy) == DATA[:after]


@pytest.mark.parametrize("after", [0, 1000])
def test_a_cut_request_arrives_in_part(proxy, echo, after):
    proxy.add(Toxic("up", "cut", after=after))
    with contextlib.suppress(ConnectionError):
        exchange(proxy)
    # The client may see the end before the server has read the rest.
    time.sleep(0.1)
    assert b"".join(echo[1]) == DATA[:after]


def test_a_reset(proxy):
    proxy.add(Toxic("down", "reset", after=1000))
    with pytest.raises(ConnectionResetError):
        exchange(proxy)


def test_a_stall_keeps_the_connection(proxy):
    proxy.add(Toxic("down", "stall", after=3))
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hel"
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)


@pytest.mark.parametrize(
    ("toxic", "minimum"),
    [
        (Toxic("down", "latency", seconds=0.2), 0.2),
        (Toxic("up", "bandwidth", bytes_per_second=len(DATA) * 5), 0.2),
        (Toxic("down", "slow_close", seconds=0.2), 0.2),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_delay_loses_nothing(proxy, toxic, minimum):
    proxy.add(toxic)
    start = time.monotonic()
    assert exchange(proxy) == DATA
    assert time.monotonic() - start >= minimum


def test_slices_lose_nothing(proxy):
    proxy.add(Toxic("up", "slices", size=7))
    assert exchange(proxy, DATA[:5000]) == DATA[:5000]


def test_a_toxic_affects_as_many_connections_as_it_says(proxy):
    proxy.add(Toxic("down", "cut", after=1, connections=2))
    assert [len(exchange(proxy, b"abc")) for _ in range(3)] == [1, 1, 3]


def test_a_cleared_toxic_has_no_effect(proxy):
    proxy.add(Toxic("down", "cut"))
    proxy.clear()
    assert exchange(proxy, b"abc") == b"abc"


def test_down_and_up(proxy):
    before = connect(proxy)
    before.sendall(b"a")
    assert before.recv(1) == b"a"

    proxy.down()
    with pytest.raises(ConnectionResetError):
        before.recv(1)
    with pytest.raises(ConnectionError):
        exchange(proxy, b"abc") or connect(proxy).recv(1)

    proxy.up()
    assert exchange(proxy, b"abc") == b"abc"
