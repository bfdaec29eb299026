"""The web server behind the sandbox, which stops at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn


class Server(uvicorn.Server):
    """Stops at once: nobody waits for an answer that a fault holds back, nor for the next tick."""

    _halted: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def main_loop(self) -> None:
        """Tick as uvicorn does, until it is told to halt."""
        halted = asyncio.Event()
        self._halted = asyncio.get_running_loop(), halted
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(halted.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Break what is still open, instead of waiting for it."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()

    def halt(self) -> None:
        """Make it stop, from another thread that knows it to be running."""
        self.should_exit = True
        if self._halted:
            loop, halted = self._halted
            loop.call_soon_threadsafe(halted.set)
