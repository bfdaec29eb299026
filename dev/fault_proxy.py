"""A TCP proxy on this machine that does what networks do: slow down, break, stall, and recover."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

_PIECE = 65536
Direction = Literal["up", "down"]


@dataclass
class Toxic:
    """A fault for the bytes of a connection in one direction.

    :ivar direction: ``up`` is to the server, ``down`` to the client.
    :ivar kind: ``cut`` closes, ``reset`` resets, ``stall`` sends nothing more, each after ``after`` bytes;
        ``slow_close`` delays the end of the stream by ``seconds``; ``latency`` delays each piece by ``seconds``;
        ``bandwidth`` sends ``bytes_per_second``; ``slices`` sends pieces of ``size`` bytes.
    :ivar connections: how many new connections it affects; None for all.
    """

    direction: Direction
    kind: Literal["cut", "reset", "stall", "slow_close", "latency", "bandwidth", "slices"]
    after: int = 0
    seconds: float = 0.0
    bytes_per_second: int = 0
    size: int = _PIECE
    connections: int | None = None

    def take(self) -> bool:
        """Return whether it affects a new connection, and count that connection."""
        if self.connections is None:
            return True
        self.connections -= 1
        return self.connections >= 0


class _Broken(Exception):  # noqa: N818
    """A toxic has ended the connection."""


class FaultProxy:
    """Forwards to a server of this machine, as a context manager.

    :ivar port: where it listens, on 127.0.0.1.
    :ivar accepted: the number of connections so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._is_up = True
        self._toxics: list[Toxic] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self.accepted = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, toxic: Toxic) -> None:
        """Add a fault for new connections."""
        self._toxics.append(toxic)

    def clear(self) -> None:
        """Remove all faults."""
        self._toxics.clear()

    def down(self) -> None:
        """Break all connections and refuse new ones, like a server that is down."""
        self._is_up = False
        self._do(self._break_all())

    def up(self) -> None:
        """Forward again."""
        self._is_up = True

    def _do(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await self._break_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _break_all(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - asyncio runs this as one
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if not self._is_up:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        toxics = [toxic for toxic in self._toxics if toxic.take()]
        both = (writer, to_server)
        self._open |= set(both)
        try:
            await asyncio.gather(
                _pump(reader, to_server, [toxic for toxic in toxics if toxic.direction == "up"]),
                _pump(from_server, writer, [toxic for toxic in toxics if toxic.direction == "down"]),
            )
        except _Broken as broken:
            for each in both:
                _reset(each) if broken.args[0] == "reset" else each.close()
        except OSError:
            for each in both:
                _reset(each)
        finally:
            self._open -= set(both)
            for each in both:
                each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxics: list[Toxic]) -> None:
    size = min([_PIECE, *(toxic.size for toxic in toxics)])
    sent = 0
    while piece := await reader.read(size):
        ending = next((toxic for toxic in toxics if toxic.kind in ("cut", "reset", "stall")), None)
        if ending:
            piece = piece[: max(0, ending.after - sent)]
        for toxic in toxics:
            if toxic.kind == "latency":
                await asyncio.sleep(toxic.seconds)
            elif toxic.kind == "bandwidth":
                await asyncio.sleep(len(piece) / toxic.bytes_per_second)
        if piece:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
        if ending and sent >= ending.after:
            if ending.kind == "stall":
                await asyncio.Event().wait()
            raise _Broken(ending.kind)
    for toxic in toxics:
        if toxic.kind == "slow_close":
            await asyncio.sleep(toxic.seconds)
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection, which discards data in transit."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
