"""The web server behind the sandbox, which stops at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


class ServerThread:
    """A server in a thread of its own; its port is open from the start.

    :ivar url: base URL.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        # A client cannot connect to "all addresses", so the machine's name stands for them.
        name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host  # noqa: S104
        name = f"[{name}]" if ":" in name else name
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_level="critical",
                lifespan="off",
                access_log=False,
                server_header=False,
                date_header=False,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="amazon-business-sandbox",
            daemon=True,
        )

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        if self._thread.is_alive():
            self._server.halt()
            self._thread.join()
        self._socket.close()


class _Protocol(H11Protocol):
    """Gives the application access to the connection, so that it can break it as a network does."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        inner = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["transport"] = self.transport
            # As sent, so that an encoded slash in an id stays inside the id.
            scope["path"] = scope["raw_path"].decode("ascii")
            await inner(scope, receive, send)

        self.app = with_transport


class _Server(uvicorn.Server):
    """Stops at once: without waiting for a response that a fault delays, or for the next tick."""

    _halted: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def main_loop(self) -> None:
        """Tick as uvicorn does, until it is halted."""
        halted = asyncio.Event()
        self._halted = asyncio.get_running_loop(), halted
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(halted.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Abort open connections instead of waiting for them."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()

    def halt(self) -> None:
        """Make it stop; called from another thread while it runs."""
        self.should_exit = True
        if self._halted:
            loop, halted = self._halted
            loop.call_soon_threadsafe(halted.set)
